"""The direct assignment model against brute force on tiny instances that mix every field."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from brute_force import brute_force
from random_instances import random_instance

from placer.errors import UsageError
from placer.problem import Instance
from placer.solvers.batch import compile_batch
from placer.solvers.direct import DirectCpSat, DirectMilp, sums_over_pairs
from placer.solvers.group_costs import GroupCosts
from placer.solvers.run import Options, Run
from placer.status import Status

SOLVERS: dict[str, tuple[type[DirectCpSat] | type[DirectMilp], str]] = {
    "cp-sat": (DirectCpSat, "highs"),
    "highs": (DirectMilp, "highs"),
    "cbc": (DirectMilp, "cbc"),
}


def solved(instance: Instance, solver: str, **options: Any) -> Run:
    """Return the run of `instance` by the direct model with `solver`."""
    kind, milp_solver = SOLVERS[solver]
    run = new_run(instance, milp_solver=milp_solver, **options)
    kind().solve(run)
    return run


def new_run(instance: Instance, **options: Any) -> Run:
    batch = compile_batch(instance)
    return Run(batch, GroupCosts(batch), Options(**options))


def compare(instance: Instance, solver: str) -> None:
    """Hold the direct model against brute force."""
    best = brute_force(instance)
    run = solved(instance, solver)
    if best is None:
        assert run.best is None, instance.name
        if not run.notes:  # CBC falls over on some programs without a solution, and says so
            assert run.status() == Status.INFEASIBLE, instance.name
        return
    assert run.status() == Status.OPTIMAL, instance.name
    assert run.objective == pytest.approx(best[0], rel=1e-6, abs=1e-9), instance.name
    assert run.bound is not None
    assert run.bound <= best[0] + 1e-9 * max(1.0, abs(best[0])), instance.name


@pytest.mark.parametrize("solver", ["cp-sat", "highs"])
@pytest.mark.parametrize("seed", range(60))
def test_agrees_with_brute_force(solver: str, seed: int) -> None:
    compare(random_instance(seed), solver)


@pytest.mark.parametrize("seed", range(60, 80))
def test_agrees_with_brute_force_by_cbc(seed: int) -> None:
    compare(random_instance(seed), "cbc")


def test_both_models_are_met() -> None:
    batches = [compile_batch(random_instance(seed)) for seed in range(60)]
    sums = sum(sums_over_pairs(batch) for batch in batches)
    assert 10 < sums < 50


def small(**fields: Any) -> Instance:
    """Return an instance of two kinds that slow each other down."""
    data: dict[str, Any] = {
        "format": "placer/instance",
        "version": 1,
        "vm_types": [{"name": "s", "capacity": {"vcpu": 2}, "price": 1.0}],
        "models": [
            {"name": "a", "replicas": 3, "demand": {"vcpu": 0.5}},
            {"name": "b", "replicas": 2, "demand": {"vcpu": 0.7}},
        ],
        "interference": {
            "kind": "pairwise",
            "slowdown": {"*": {"a": {"a": 1.1, "b": 1.4}, "b": {"a": 0.9, "b": 1.6}}},
        },
    }
    return Instance.from_dict(data | fields)


@pytest.mark.parametrize("solver", SOLVERS)
def test_small_batch(solver: str) -> None:
    compare(small(), solver)


@pytest.mark.parametrize("solver", SOLVERS)
def test_begins_from_what_is_known(solver: str) -> None:
    instance = small(objective={"slo": {"penalty": 0.3}, "unplaced": {"penalty": 0.9}})
    best = brute_force(instance)
    assert best is not None
    kind, milp_solver = SOLVERS[solver]
    run = new_run(instance, milp_solver=milp_solver)
    names = [model.name for model in instance.models]
    states = [(0, tuple(sorted(names.index(n) for n in group))) for _, group in best[1]]
    assert run.offer({state: states.count(state) for state in states})
    kind().solve(run)
    assert run.status() == Status.OPTIMAL
    assert run.objective == pytest.approx(best[0])


@pytest.mark.parametrize("seed", range(40))
def test_a_known_placement_is_a_point_of_the_model(seed: int) -> None:
    from placer.solvers.integer_values import keeps_rows
    from placer.solvers.slot_groups import SlotGroups
    from placer.solvers.slot_pairs import SlotPairs

    instance = random_instance(seed)
    best = brute_force(instance)
    if best is None:
        return
    run = new_run(instance)
    types = [vm_type.name for vm_type in instance.vm_types]
    names = [model.name for model in instance.models]
    for vm_type, group in best[1]:
        state = (types.index(vm_type), tuple(sorted(names.index(n) for n in group)))
        run.best = {**(run.best or {}), state: (run.best or {}).get(state, 0) + 1}
    model = SlotPairs(run) if sums_over_pairs(run.batch) else SlotGroups(run)
    program = model.program(run.best or {})
    assert program.start is not None
    assert keeps_rows(program, program.start.round().astype(int))
    assert float(program.cost @ program.start) == pytest.approx(best[0], abs=1e-9)
    assert model.assignment(program.start.astype(int)) == (run.best or {})


def test_nothing_to_place() -> None:
    instance = small(models=[{"name": "a", "replicas": 0}, {"name": "b", "replicas": 0}])
    for solver in SOLVERS:
        run = solved(instance, solver)
        assert run.objective == 0.0
        assert run.status() == Status.OPTIMAL


def test_solutions_are_told_on_the_way() -> None:
    seen: list[float | None] = []
    run = new_run(random_instance(3, max_replicas=6, interference="pairwise"))
    run.on_incumbent = lambda progress: seen.append(progress.objective)
    DirectCpSat().solve(run)
    assert run.objective is None or seen[-1] == run.objective


def test_time_limit_is_named() -> None:
    table = {
        a: {b: 1.0 + (i * j + i) % 7 / 9 for j, b in enumerate(NAMES)} for i, a in enumerate(NAMES)
    }
    instance = Instance.from_dict(
        {
            "format": "placer/instance",
            "version": 1,
            "vm_types": [{"name": "s", "capacity": {"vcpu": 3.1}, "price": 1.0}],
            "models": [
                {"name": name, "replicas": 3, "demand": {"vcpu": 0.5 + i / 17}}
                for i, name in enumerate(NAMES)
            ],
            "interference": {"kind": "pairwise", "slowdown": {"*": table}},
        }
    )
    for solver in ("cp-sat", "highs"):
        run = solved(instance, solver, time_limit=2.0)
        assert run.seconds() < 10
        assert run.stopped_by().value == "time"
        assert run.status() in (Status.FEASIBLE, Status.UNKNOWN)


NAMES = "abcdefghij"


@pytest.mark.parametrize("combine", ["sum", "product"])
def test_large_batches_are_refused(combine: str) -> None:
    instance = small(
        models=[{"name": "a", "replicas": 3000}, {"name": "b", "replicas": 3000}],
        interference={"kind": "pairwise", "combine": combine, "slowdown": {}, "default": 1.1},
    )
    for solver in ("cp-sat", "highs"):
        with pytest.raises(UsageError, match="small batches"):
            solved(instance, solver)


def six_of_a_kind() -> dict[str, Any]:
    """Return six replicas that are best each on a VM of its own, which costs nothing."""
    return {
        "vm_types": [
            {"name": "s", "capacity": {"cpu": 2, "gib": 2}, "price": 1, "count": 3},
            {"name": "m", "capacity": {"cpu": 1.5, "gib": 1}, "max_models": 3},
        ],
        "models": [{"name": "a", "replicas": 6, "demand": {"cpu": 1}}],
        "interference": {"kind": "pairwise",
                         "slowdown": {"s": {"a": {"a": 0.6}}, "m": {"a": {"a": 1.4}}}},
    }  # fmt: skip


def late_or_apart() -> dict[str, Any]:
    """Return five replicas of which some are late or on dear VMs."""
    return {
        "vm_types": [
            {"name": "s", "capacity": {}, "price": 0.1, "count": 1, "max_models": 2},
            {"name": "m", "capacity": {}, "price": 0.25, "count": 2, "max_models": 2},
        ],
        "models": [
            {"name": "a", "replicas": 2, "solo_latency_ms": 10, "slo_ms": 14},
            {"name": "c", "weight": 0},
            {"name": "d", "replicas": 2, "cost_on": {"m": 1}, "solo_latency_ms": 7.5,
             "slo_ms": 7.5, "vm_types": ["m"]},
        ],
        "interference": {
            "kind": "pairwise", "default": 1,
            "slowdown": {
                "s": {"a": {"a": 1.05, "d": 1.4}, "c": {"a": 1.9}, "d": {"c": 1.4, "d": 1.1}},
                "m": {"a": {"a": 1.9}, "c": {"c": 1.2, "d": 1.4},
                      "d": {"a": 1.4, "c": 2.7, "d": 2.7}},
            },
        },
        "objective": {"price": 2, "slo": {"penalty": 10}},
        "rules": {"apart": [["a", "c"]], "max_vms": 3},
    }  # fmt: skip


@pytest.mark.parametrize("make", [six_of_a_kind, late_or_apart])
def test_presolve_loses_no_optimum(make: Callable[[], dict[str, Any]]) -> None:
    """HiGHS called the one infeasible, and ended above the optimum of the other."""
    compare(Instance.from_dict(make()), "highs")
