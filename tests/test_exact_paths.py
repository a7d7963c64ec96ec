"""Every way through the exact method ends at the optimum, the ways of large batches included."""

from __future__ import annotations

from random import Random

import pytest
from brute_force import brute_force
from random_instances import TIMES, random_instance, random_instance_data

from placer.problem import Instance
from placer.solvers import closing, exact, improving
from placer.solvers.batch import compile_batch
from placer.solvers.group_costs import GroupCosts
from placer.solvers.run import Options, Run
from placer.status import Status


def seeds(first: int, number: int) -> range:
    """Return so many seeds, PLACER_TEST_SEEDS times."""
    return range(first, first + int(TIMES * number))


def rescued(seed: int) -> Instance:
    """Return a random instance some of whose replicas keep their SLO in helpful company alone."""
    rng = Random(seed)
    data = random_instance_data(seed, max_replicas=6, interference="pairwise")
    for model in data["models"]:
        solo = model.setdefault("solo_latency_ms", 10)
        if rng.random() < 0.6:
            base = rng.choice(list(solo.values())) if isinstance(solo, dict) else solo
            model["slo_ms"] = base * rng.choice((0.6, 0.7, 0.8, 0.9, 0.9, 1.0, 1.1, 1.3))
    return Instance.from_dict(data)


def solved(
    instance: Instance,
    monkeypatch: pytest.MonkeyPatch,
    *,
    listed: bool,
    time_limit: float | None = None,
) -> Run:
    """Return the run of the exact method's ways for large batches, begun from no placement."""
    monkeypatch.setattr(exact, "first_placement", lambda run: None)
    monkeypatch.setattr(closing, "NARROW_FROM", 0)
    batch = compile_batch(instance)
    run = Run(batch, GroupCosts(batch), Options(time_limit=time_limit))
    solver = exact.Groups()
    solver.small_pool = 0
    if not listed:
        solver.group_limit = 0
    solver.solve(run)
    return run


def assert_optimal(run: Run, best: float | None) -> None:
    if best is None:
        assert run.status() == Status.INFEASIBLE
    else:
        assert run.status() == Status.OPTIMAL
        assert run.objective == pytest.approx(best, rel=1e-6, abs=1e-6)


def least(instance: Instance) -> float | None:
    best = brute_force(instance)
    return None if best is None else best[0]


@pytest.mark.parametrize("listed", [True, False], ids=["listed", "grown"])
@pytest.mark.parametrize("seed", seeds(300, 40))
def test_columns_and_narrow_closing_end_at_the_optimum(
    seed: int, listed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = random_instance(seed)
    assert_optimal(solved(instance, monkeypatch, listed=listed), least(instance))


@pytest.mark.parametrize("listed", [True, False], ids=["listed", "grown"])
@pytest.mark.parametrize("seed", [*seeds(0, 40), 203, 213, 272, 382, 830])
def test_company_that_saves_an_slo_is_not_overlooked(
    seed: int, listed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = rescued(seed)
    assert_optimal(solved(instance, monkeypatch, listed=listed), least(instance))


def test_two_that_are_late_alone_are_on_time_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lone replica of `a` misses its SLO; beside another it runs at 0.8 of its solo latency."""
    data = {
        "vm_types": [{"name": "v", "capacity": {}, "price": 1, "max_models": 2}],
        "models": [{"name": "a", "replicas": 2, "solo_latency_ms": 10, "slo_ms": 9}],
        "interference": {"kind": "pairwise", "slowdown": {"v": {"a": {"a": 0.8}}}},
        "objective": {"unplaced": {"penalty": 5}},
    }
    run = solved(Instance.from_dict(data), monkeypatch, listed=False)
    assert_optimal(run, 1.0 - 2 * 0.2)


@pytest.mark.parametrize("listed", [True, False], ids=["listed", "grown"])
@pytest.mark.parametrize("seed", seeds(400, 20))
def test_a_clock_that_is_not_needed_changes_nothing(
    seed: int, listed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = random_instance(seed)
    run = solved(instance, monkeypatch, listed=listed, time_limit=60.0)
    assert_optimal(run, least(instance))


@pytest.mark.parametrize("seed", seeds(0, 12))
def test_ways_agree_beyond_brute_force(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups that are listed, and groups that are grown, end at the same optimum."""
    data = random_instance_data(seed, max_replicas=14, kinds=7, interference="pairwise")
    for vm_type in data["vm_types"]:
        vm_type["max_models"] = min(vm_type.get("max_models") or 4, 4)
        if vm_type.get("count"):
            vm_type["count"] *= 3
    instance = Instance.from_dict(data)
    listed, grown = (
        solved(instance, monkeypatch, listed=way, time_limit=30.0) for way in (True, False)
    )
    for one, other in ((listed, grown), (grown, listed)):
        if one.bound is not None and other.objective is not None:
            assert one.bound <= other.objective + 1e-6 * max(1.0, abs(other.objective))
    assert {listed.status(), grown.status()} != {Status.INFEASIBLE, Status.OPTIMAL}


@pytest.mark.parametrize("seed", seeds(0, 10))
def test_a_gap_too_wide_to_close_leaves_a_bound_and_a_search(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no gap counts as narrow, dives apart go on from the bound, which stays one."""
    monkeypatch.setattr(closing, "LEAST_REPLICAS", 0)
    monkeypatch.setattr(improving, "LEAST_REPLICAS", 0)
    monkeypatch.setattr(closing, "CLOSING_LIMIT", 0)
    monkeypatch.setattr(closing, "AROUND_SHARE", 0.0)
    data = random_instance_data(seed, max_replicas=6, interference="pairwise")
    instance = Instance.from_dict(data)
    best = least(instance)
    batch = compile_batch(instance)
    run = Run(batch, GroupCosts(batch), Options(time_limit=60.0, gap=0.0))
    phases: list[str] = []

    def enter(phase: str) -> None:
        phases.append(phase)
        rounds = phases.count("diving afresh") + phases.count("wider columns")
        run.interrupted = run.interrupted or rounds > 1

    run.enter = enter  # type: ignore[method-assign]
    solver = exact.Groups()
    solver.small_pool = solver.group_limit = 0
    solver.solve(run)
    if best is None:
        assert run.best is None
    else:
        assert run.objective is not None
        assert run.objective >= best - 1e-6 * max(1.0, abs(best))
        assert run.bound is None or run.bound <= best + 1e-6 * max(1.0, abs(best))
        assert run.objective_of(run.best or {}) == pytest.approx(run.objective)
