"""Every way through the exact method ends at the optimum, the ways of large batches included."""

from __future__ import annotations

import pytest
from brute_force import brute_force
from random_instances import random_instance

from placer.solvers import closing, exact
from placer.solvers.batch import compile_batch
from placer.solvers.group_costs import GroupCosts
from placer.solvers.run import Run
from placer.status import Status


@pytest.mark.parametrize("listed", [True, False], ids=["listed", "grown"])
@pytest.mark.parametrize("seed", range(300, 340))
def test_columns_and_narrow_closing_end_at_the_optimum(
    seed: int, listed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exact, "first_placement", lambda run: None)
    monkeypatch.setattr(closing, "NARROW_FROM", 0)
    instance = random_instance(seed)
    best = brute_force(instance)
    batch = compile_batch(instance)
    run = Run(batch, GroupCosts(batch))
    solver = exact.Groups()
    solver.small_pool = 0
    if not listed:
        solver.group_limit = 0
    solver.solve(run)
    if best is None:
        assert run.status() == Status.INFEASIBLE
    else:
        assert run.status() == Status.OPTIMAL
        assert run.objective == pytest.approx(best[0], rel=1e-6, abs=1e-6)
