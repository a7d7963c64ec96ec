"""Large neighbourhood search is feasible and never worse; a predictor is asked once."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from brute_force import brute_force
from random_instances import random_instance

from placer.interference.asked_once import AskedOnce
from placer.interference.tables import Groups
from placer.solvers.batch import compile_batch
from placer.solvers.budget import Budget
from placer.solvers.column_generation import ColumnGeneration
from placer.solvers.enumeration import enumerate_groups
from placer.solvers.greedy import Greedy
from placer.solvers.group_costs import GroupCosts
from placer.solvers.growth import GrowthPricing
from placer.solvers.master import Rows
from placer.solvers.neighbourhood import Neighbourhoods
from placer.solvers.run import Options, Run


def run_of(seed: int) -> Run:
    batch = compile_batch(random_instance(seed, max_replicas=6))
    return Run(batch, GroupCosts(batch), Options(seed=seed))


@pytest.mark.parametrize("seed", range(40))
def test_neighbourhoods_keep_every_rule_and_end_no_worse(seed: int) -> None:
    run = run_of(seed)
    Greedy().solve(run)
    if run.best is None:
        return
    before = run.objective
    assert before is not None
    linear = ColumnGeneration(run, Rows(run.batch), GrowthPricing(run)).solve()
    for known in (None, linear):
        Neighbourhoods(run, known).improve(10.0)
    found = brute_force(run.batch.instance)
    assert found is not None
    assert run.best is not None
    assert run.objective_of(run.best) == pytest.approx(run.objective, abs=1e-9)
    assert found[0] - 1e-6 <= run.objective <= before
    assert run.bound is None or run.bound <= found[0] + 1e-6


@pytest.mark.parametrize("seed", range(40))
def test_a_budget_bounds_what_any_better_placement_takes_off(seed: int) -> None:
    """At any prices: the constant less the budget's slack is no more than the optimum."""
    run = run_of(seed)
    found = brute_force(run.batch.instance)
    pool = enumerate_groups(run)
    assert pool is not None
    if found is None or not len(pool):
        return
    rows, rng = Rows(run.batch), np.random.default_rng(seed)
    budget = Budget.of(run)
    for _ in range(10):
        prices = rows.prices(rng.normal(0.3, 1.0, rows.count))
        worth = np.append(prices.kind, 0.0)[pool.groups].sum(axis=1)
        reduced = pool.cost - worth - prices.vm_type[pool.vm_type]
        reduced -= rows._index.held(pool.groups) @ prices.together
        least = np.array(
            [reduced[pool.vm_type == t].min(initial=np.inf) for t in range(run.batch.types)]
        )
        for ceiling in (found[0], found[0] + 1.0):
            assert prices.constant - budget.slack(least, ceiling) <= found[0] + 1e-6


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("kinds", [3, 40, 3_000_000])
def test_a_group_is_asked_for_once(kinds: int, threads: int) -> None:
    asked: Counter[tuple[int, tuple[int, ...]]] = Counter()

    def source(t: int, groups: Groups) -> np.ndarray:
        asked.update((t, tuple(row)) for row in groups.tolist())
        return t + groups.cumsum(axis=1) * 0.5

    memory = AskedOnce(kinds, source)

    def ask(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(60):
            t = int(rng.integers(2))
            groups = np.sort(rng.integers(0, min(kinds, 40), (30, 4)), axis=1).astype(np.int32)
            groups[rng.random(30) < 0.4, 2:] = -1
            values = memory.values(t, groups)
            expected = np.where(groups >= 0, t + np.maximum(groups, 0).cumsum(axis=1) * 0.5, np.nan)
            np.testing.assert_array_equal(values, expected)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(ask, range(threads)))
    if kinds**4 < 2**63:
        assert max(asked.values()) == 1
