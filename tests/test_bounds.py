"""A bound is a promise: none may exceed the optimum, whenever a solve is stopped."""

from __future__ import annotations

import numpy as np
import pytest

from placer import Instance
from placer.solvers import closing, exact
from placer.solvers.batch import Batch, compile_batch
from placer.solvers.columns import Prices
from placer.solvers.group_costs import GroupCosts
from placer.solvers.run import Options, Run


class Impatient(Run):
    """A run that is interrupted the n-th time that its solver asks whether to stop."""

    patience = 0

    def should_stop(self) -> bool:
        self.patience -= 1
        self.interrupted = self.interrupted or self.patience < 0
        return super().should_stop()


def batch(combine: str) -> Batch:
    """Return a batch of 10 kinds whose counts bind, some of whose pairs help each other."""
    random = np.random.default_rng(5)
    names = [f"m{k}" for k in range(10)]
    pairs = {a: {b: round(float(random.uniform(0.9, 1.8)), 3) for b in names} for a in names}
    data = {
        "vm_types": [
            {"name": "s", "capacity": {"cpu": 4}, "price": 1.0, "count": 4, "max_models": 4},
            {"name": "l", "capacity": {"cpu": 8}, "price": 1.7, "max_models": 5},
        ],
        "models": [
            {"name": name, "replicas": 2, "demand": {"cpu": round(float(d), 2)}}
            for name, d in zip(names, random.uniform(0.5, 3.0, len(names)), strict=True)
        ],
        "interference": {"kind": "pairwise", "combine": combine, "slowdown": {"*": pairs}},
        "objective": {"degradation": 0.4},
    }
    return compile_batch(Instance.from_dict(data))


@pytest.mark.parametrize("combine", ["sum", "product"])
@pytest.mark.parametrize("listed", [True, False], ids=["listed", "grown"])
def test_no_bound_exceeds_the_optimum_whenever_it_stops(
    combine: str, listed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = batch(combine)
    whole = Run(numbers, GroupCosts(numbers))
    exact.Groups().solve(whole)
    assert whole.objective is not None
    assert whole.closed()
    monkeypatch.setattr(exact, "first_placement", lambda run: None)
    monkeypatch.setattr(closing, "NARROW_FROM", 0)
    solver = exact.Groups()
    solver.small_pool = 0
    if not listed:
        solver.group_limit = 0
    seen = set()
    for patience in (*range(1, 60, 2), *range(61, 1500, 60)):
        run = Impatient(numbers, GroupCosts(numbers), Options())
        run.patience = patience
        solver.solve(run)
        assert run.bound is None or run.bound <= whole.objective * (1 + 1e-9)
        seen.add(run.bound)
    assert len(seen) > 1


def test_a_vm_type_that_was_not_priced_leaves_no_bound() -> None:
    numbers = batch("sum")
    prices = Prices(np.ones(10), np.zeros(2), np.zeros(0), 20.0)
    assert prices.bound(numbers, np.array([0.0, -np.inf])) == -np.inf
    assert prices.bound(numbers, np.array([np.inf, 0.0])) == 20.0
