"""What descents from groups in use come by, held against the list of all groups."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from placer import Instance
from placer.solvers.columns import Prices, no_columns
from placer.solvers.enumeration import enumerate_groups
from placer.solvers.pair_descent import descend
from placer.solvers.pair_search import classes_of, searchable
from placer.solvers.run import State
from tests.test_group_search import ROUNDING, larger_batch, random_prices, reduced, run_of


def exchanged(a: State, b: State) -> int:
    """Return how many members of `a` leave, or join, on the way to `b`, whichever are more."""
    left, joined = Counter(a[1]), Counter(b[1])
    return max((left - joined).total(), (joined - left).total())


@pytest.mark.parametrize("slo", [False, True])
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_descents_end_where_no_exchange_gains(seed: int, slo: bool, apart: bool) -> None:
    limits = {name for name, limited in (("slo", slo), ("apart", apart)) if limited}
    run = run_of(larger_batch(seed, "sum", limits))
    assert searchable(run)
    pool = enumerate_groups(run)
    assert pool is not None
    rng = np.random.default_rng(seed)
    for _ in range(3):
        prices = random_prices(run, pool, rng)
        values = dict(zip(pool.states(), reduced(run, pool, prices).tolist(), strict=True))
        starts = pool.take(rng.choice(len(pool), 5, replace=False))
        for near, wide in ((no_columns(), False), (starts, False), (starts, True)):
            found = descend(run, classes_of(run), prices, near, wide=wide)
            states = found.states()
            assert all(values[state] < ROUNDING for state in states)
            if not states:
                assert wide or min(values[s] for s in values if len(s[1]) == 1) > -ROUNDING
                continue
            best = min(states, key=values.__getitem__)
            reach = 2 if wide else 1
            nearby = [s for s in values if exchanged(best, s) <= reach]
            assert values[best] <= min(values[s] for s in nearby) + ROUNDING


def test_a_wide_descent_exchanges_two_at_once() -> None:
    """Two pairs that get on well, with whom one else does: no single exchange leads over."""
    names = "abcde"
    fond = {frozenset("ab"), frozenset("cd"), *(frozenset("e" + x) for x in "abcd")}
    pairs = {x: {y: 1.0 if frozenset(x + y) in fond else 9.0 for y in names} for x in names}
    run = run_of(
        Instance.from_dict(
            {
                "vm_types": [{"name": "v", "capacity": {}, "price": 1.0, "max_models": 3}],
                "models": [{"name": name} for name in names],
                "interference": {"kind": "pairwise", "combine": "sum", "slowdown": {"*": pairs}},
                "objective": {"degradation": 1.0},
            }
        )
    )
    pool = enumerate_groups(run)
    assert pool is not None
    prices = Prices(np.array([0.7, 0.7, 0.8, 0.8, 0.2]), np.zeros(1), np.zeros(0), 0.0)
    start = pool.take(np.array([s == (0, (0, 1, 4)) for s in pool.states()]))
    found = descend(run, classes_of(run), prices, start, wide=True)
    assert (0, (2, 3, 4)) in found.states()
