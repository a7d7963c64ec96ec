"""Parts of a placement dived for anew: better or left alone, and ended with the whole."""

from __future__ import annotations

import pytest

from placer.solvers import improving
from placer.solvers.annealing import Annealing
from placer.solvers.annealing_layout import annealable
from placer.solvers.improving import Improving
from placer.solvers.master import Rows
from placer.solvers.neighbourhood import Neighbourhoods
from placer.solvers.rediving import redive
from placer.solvers.run import Options, PartRun, Run
from tests.test_rounding import bound_of, many_replicas


def begun(seed: int) -> Run:
    return many_replicas(seed, times=3)


def assert_gained(run: Run, gained: bool, before: float, bound: float) -> None:
    """Assert that the best placement is checked, above the bound, and better only if it gained."""
    assert run.best is not None
    assert run.objective is not None
    assert gained == (run.objective < before)
    assert run.objective_of(run.best) == pytest.approx(run.objective)
    assert run.objective >= bound - 1e-6 * abs(bound)


def test_parts_are_filled_at_less_cost_or_left_alone() -> None:
    tried = better = 0
    for seed in range(16):
        run = begun(seed)
        linear = bound_of(run)
        if linear is None:
            continue
        near = Neighbourhoods(run, linear)
        for share in (0.4, 1.0):
            before = run.objective
            assert before is not None
            hole = near.open("prices", share * run.batch.total_replicas)
            gained = redive(run, hole, linear.columns)
            assert_gained(run, gained, before, linear.bound)
            tried += 1
            better += gained
    assert tried >= 16
    assert better >= 4


def test_a_part_ends_with_the_whole() -> None:
    run = begun(1)
    part = PartRun(run.batch, run.costs, Options(), whole=run)
    assert 0.0 < part.time_left() <= 60.0
    assert not part.should_stop()
    with run.at_most(0.0):
        assert part.should_stop()
    assert not part.should_stop()
    run.interrupted = True
    assert part.should_stop()


def test_a_dive_apart_replaces_the_best_placement_only_where_it_is_better(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(improving, "LEAST_REPLICAS", 0)
    tried = better = 0
    for seed in range(12):
        run = begun(seed)
        linear = bound_of(run)
        if linear is None or not linear.converged or run.closed() or not annealable(run):
            continue
        search = Improving(run, Rows(run.batch), linear, Annealing(run), lambda *_: None)
        before = run.objective
        assert before is not None
        gained = search.step(1.0)
        assert run.phase == "diving afresh"
        assert_gained(run, gained, before, linear.bound)
        tried += 1
        better += gained
    assert tried >= 6
    assert better >= 2
