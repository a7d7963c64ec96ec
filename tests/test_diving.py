"""Dives keep every rule, and their end is placed anew at the least cost there is."""

from __future__ import annotations

import numpy as np
import pytest
from brute_force import brute_force
from random_instances import random_instance

from placer import Instance
from placer.solvers import diving
from placer.solvers.batch import compile_batch
from placer.solvers.column_generation import ColumnGeneration
from placer.solvers.diving import Dived, dive
from placer.solvers.group_costs import GroupCosts
from placer.solvers.growth import GrowthPricing
from placer.solvers.master import Rows
from placer.solvers.run import Options, Run


def dived(instance: Instance) -> tuple[Run, Dived] | None:
    """Return a run whose one placement is that of a dive, None where nothing is to be placed."""
    batch = compile_batch(instance)
    run = Run(batch, GroupCosts(batch), Options())
    rows = Rows(batch)
    linear = ColumnGeneration(run, rows, GrowthPricing(run)).solve()
    if linear is None or linear.infeasible or not len(rows.kinds):
        return None
    return run, dive(run, rows, linear.columns)


@pytest.mark.parametrize("ends", [(), (3,), (2, 4), (60, 100)])
@pytest.mark.parametrize("seed", range(30))
def test_a_dive_keeps_every_rule(
    seed: int, ends: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diving, "ENDS", ends)
    instance = random_instance(seed, max_replicas=6)
    found = dived(instance)
    if found is None:
        return
    run, ended = found
    objective = run.objective_of(ended.placement)
    optimum = brute_force(instance)
    assert objective == run.objective or objective is None
    assert run.objective is None or (optimum is not None and run.objective >= optimum[0] - 1e-6)


def test_where_the_whole_dive_is_its_end_the_optimum_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Groups may cost as much beyond their worth as the dive's whole placement: none is missed."""
    monkeypatch.setattr(diving, "END_SHARE", np.inf)
    better = compared = 0
    for seed in range(60):
        instance = random_instance(seed, max_replicas=7, interference="pairwise")
        found = dived(instance)
        if found is None or instance.rules.together or found[0].objective is None:
            continue
        optimum = brute_force(instance)
        assert optimum is not None
        assert found[0].objective == pytest.approx(optimum[0], abs=1e-6)
        compared += 1
        with monkeypatch.context() as without:
            without.setattr(diving, "ENDS", ())
            other = dived(instance)
        assert other is not None
        better += other[0].objective is None or other[0].objective > optimum[0] + 1e-6
    assert compared > 20
    assert better  # else the dives alone had found all of these


def test_what_a_dive_adds_can_be_used() -> None:
    found = dived(random_instance(3, max_replicas=7, kinds=4, interference="pairwise"))
    assert found is not None
    assert len(found[1].columns.groups) == len(found[1].columns.cost)
    assert np.isfinite(found[1].columns.cost).all()
