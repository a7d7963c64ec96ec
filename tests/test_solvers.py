"""One suite for every solver: exact ones agree with brute force, all of them are honest.

PLACER_TEST_SEEDS multiplies the number of random instances for each solver.
"""

from __future__ import annotations

import itertools
import time
from functools import cache
from typing import Any

import pytest
from brute_force import brute_force, feasible_placements
from conftest import ROOT
from random_instances import TIMES, random_instance

from placer.errors import UsageError
from placer.files import read_instance
from placer.placement import Placement
from placer.problem import Instance
from placer.result import Result
from placer.solvers.batch import compile_batch
from placer.solvers.enumeration import enumerate_groups
from placer.solvers.group_costs import GroupCosts
from placer.solvers.registry import SOLVERS
from placer.solvers.run import Progress, Run
from placer.solving import solve
from placer.status import Status, gap_between

FLEET = ROOT / "instances" / "fleet-300.json"
SEEDS = {"auto": 120, "groups": 200, "cp-sat": 40, "milp": 40}
DIRECT = {"cp-sat-direct": 40, "milp-direct": 30}
EXACT = [name for name, entry in SOLVERS.items() if entry.exact]
HEURISTIC = [name for name, entry in SOLVERS.items() if not entry.exact]
BY_GROUPS = [name for name in EXACT if name not in DIRECT]


def seeds_of(solver: str) -> range:
    """Return the seeds of the random instances that `solver` is tried on."""
    return range(int(TIMES * (SEEDS | DIRECT).get(solver, 60)))


def cases(solvers: list[str], seeds: range | None = None) -> list[tuple[str, int]]:
    """Return each solver with each of its seeds."""
    return [(solver, seed) for solver in solvers for seed in seeds or seeds_of(solver)]


@cache
def small(seed: int) -> tuple[Instance, float | None]:
    """Return the tiny instance of `seed` and its least objective, None where infeasible."""
    instance = random_instance(seed, max_replicas=6 if seed % 4 == 0 else 5)
    best = brute_force(instance)
    return instance, None if best is None else best[0]


def run(instance: Instance, solver: str, **options: Any) -> Result:
    """Solve with the settings that all tests share."""
    return solve(instance, **({"solver": solver, "workers": 1, "explain": False} | options))


def assert_honest(result: Result, best: float | None) -> None:
    """Nothing is claimed that brute force refutes; what the check refuses never gets here."""
    placement = result.placement
    assert placement.solver is not None
    if best is None:
        assert result.status in (Status.INFEASIBLE, Status.UNKNOWN)
        assert placement.vms == []
        return
    assert result.status != Status.INFEASIBLE
    if result.bound is not None:
        assert result.bound <= best + 1e-6 * max(1.0, abs(best))
    if result.objective is None:
        assert result.status == Status.UNKNOWN
        return
    assert result.objective >= best - 1e-6 * max(1.0, abs(best))
    assert result.gap == gap_between(result.objective, result.bound)
    if result.status == Status.OPTIMAL:
        assert result.objective == pytest.approx(best, abs=1e-6, rel=1e-6)
        assert placement.solver.stopped_by in ("proof", "gap")
    else:
        assert result.status == Status.FEASIBLE
        assert placement.solver.stopped_by in ("time", "interrupt", "complete")


def assert_solved(result: Result, best: float | None) -> None:
    """The exact answer, and its proof."""
    assert_honest(result, best)
    assert result.placement.solver is not None
    assert result.placement.solver.stopped_by == "proof"
    assert result.status == (Status.INFEASIBLE if best is None else Status.OPTIMAL)
    if best is not None:
        assert result.objective == pytest.approx(best, abs=1e-6, rel=1e-6)
        assert result.bound is not None
        assert result.gap is not None
        assert result.gap <= 1e-6


@pytest.mark.parametrize(("solver", "seed"), cases(EXACT))
def test_exact_solvers_agree_with_brute_force(solver: str, seed: int) -> None:
    instance, best = small(seed)
    assert_solved(run(instance, solver), best)


@pytest.mark.parametrize(("solver", "seed"), cases(HEURISTIC))
def test_heuristics_are_honest(solver: str, seed: int) -> None:
    instance, best = small(seed)
    assert_honest(run(instance, solver), best)


@pytest.mark.parametrize(("solver", "least"), [("greedy", 0.7), ("local", 0.85)])
def test_heuristics_find_what_there_is(solver: str, least: float) -> None:
    """At least this share of the feasible instances gets a placement."""
    feasible = [small(seed)[0] for seed in range(80) if small(seed)[1] is not None]
    found = sum(run(instance, solver).objective is not None for instance in feasible)
    assert found >= least * len(feasible)


@pytest.mark.parametrize(("solver", "seed"), cases(list(SOLVERS), range(1000, 1006)))
def test_same_seed_same_placement(solver: str, seed: int) -> None:
    instance = random_instance(seed, max_replicas=8, kinds=4)
    first, second = (run(instance, solver, seed=seed) for _ in range(2))
    assert first.placement.vms == second.placement.vms
    assert (first.status, first.objective, first.bound) == (
        second.status,
        second.objective,
        second.bound,
    )


@pytest.mark.parametrize(("solver", "seed"), cases(list(SOLVERS), range(8)))
def test_never_worse_than_a_feasible_start(solver: str, seed: int) -> None:
    instance = random_instance(seed + 2000)
    placements = sorted(feasible_placements(instance), key=lambda found: found[0])
    if not placements:
        return
    for objective, vms in (placements[0], placements[-1]):
        listed = [
            {"name": f"v{i}", "vm_type": vm_type, "models": [{"name": n} for n in names]}
            for i, (vm_type, names) in enumerate(vms)
        ]
        result = run(instance, solver, start=Placement.from_dict({"vms": listed}))
        assert_honest(result, placements[0][0])
        assert result.objective is not None
        assert result.objective <= objective + 1e-9 * max(1.0, abs(objective))


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_start_that_breaks_a_rule_is_noted_and_not_used(solver: str) -> None:
    vm = {"name": "v", "vm_type": "v", "models": [{"name": "a"}] * 5}
    result = run(packing(), solver, start=Placement.from_dict({"vms": [vm]}))
    assert any("start placement breaks a rule" in note for note in result.notes)
    assert_honest(result, 4.0)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("seconds", [1e-6, 0.01])
def test_tiny_time_limit_gives_an_honest_answer(solver: str, seconds: float) -> None:
    for seed in range(3000, 3006):
        instance, best = small(seed)
        assert_honest(run(instance, solver, time_limit=seconds), best)


@pytest.mark.parametrize("solver", SOLVERS)
def test_time_limit_is_kept_by_a_fleet(solver: str) -> None:
    """Within a few seconds, for a library's own presolve may take its time to notice."""
    instance = read_instance(FLEET)
    began = time.monotonic()
    try:
        result = run(instance, solver, time_limit=1.0, workers=2)
    except UsageError:
        assert solver in DIRECT  # too large for it, as it says
        return
    assert time.monotonic() - began < 1 + 5
    assert result.status in (Status.FEASIBLE, Status.UNKNOWN)
    if result.bound is not None and result.objective is not None:
        assert result.bound <= result.objective


@pytest.mark.parametrize(("solver", "seed"), cases(list(SOLVERS), range(4000, 4006)))
def test_incumbents_only_get_better(solver: str, seed: int) -> None:
    seen: list[Progress] = []
    result = run(random_instance(seed, max_replicas=6), solver, on_incumbent=seen.append)
    objectives = [progress.objective for progress in seen]
    assert all(b < a for a, b in itertools.pairwise(objectives))
    assert bool(objectives) == (result.objective is not None)
    if objectives:
        assert result.objective == pytest.approx(objectives[-1], abs=1e-9, rel=1e-9)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(
    "rules", [{}, {"together": [["a", "b"]]}, {"max_vms": 0, "max_price": 0, "apart": [["a"]]}]
)
def test_nothing_to_place_costs_nothing(solver: str, rules: dict[str, Any]) -> None:
    models = [{"name": "a", "replicas": 0}, {"name": "b", "replicas": 0}]
    vm_types = [{"name": "v", "capacity": {}, "price": 1}]
    instance = Instance.from_dict({"vm_types": vm_types, "models": models, "rules": rules})
    result = run(instance, solver)
    assert (result.objective, result.placement.vms) == (0.0, [])
    if SOLVERS[solver].exact:
        assert_solved(result, 0.0)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(
    "change",
    [
        {"vm_types": [{"name": "v", "capacity": {"vcpu": 1}, "count": 3}]},
        {"vm_types": [{"name": "v", "capacity": {"vcpu": 1}, "max_models": 0}]},
        {"vm_types": [{"name": "v", "capacity": {"vcpu": 0.45}}]},
        {"rules": {"max_vms": 3}},
        {"rules": {"together": [["a", "a", "a"]]}},
        {"rules": {"together": [["a", "b"]], "apart": [["b", "a"]]}},
    ],
)
def test_what_cannot_be_placed_is_not_placed(solver: str, change: dict[str, Any]) -> None:
    instance = Instance.from_dict(packing().to_dict() | change)
    result = run(instance, solver)
    assert_honest(result, None)
    if SOLVERS[solver].exact:
        assert_solved(result, None)


def packing() -> Instance:
    """Return twelve replicas that fill four VMs to the brim: objective 4."""
    sizes = {"a": 0.5, "b": 0.3, "c": 0.2}
    models = [{"name": n, "replicas": 4, "demand": {"vcpu": s}} for n, s in sizes.items()]
    vm_types = [{"name": "v", "capacity": {"vcpu": 1}, "price": 1}]
    return Instance.from_dict({"vm_types": vm_types, "models": models})


def one_kind(replicas: int) -> Instance:
    """Return replicas of one model; three on each VM are best, at 1 + 3 * 2 * 0.1 a VM."""
    return Instance.from_dict(
        {
            "vm_types": [{"name": "v", "capacity": {}, "price": 1, "max_models": 8}],
            "models": [{"name": "a", "replicas": replicas}],
            "interference": {"kind": "pairwise", "slowdown": {"*": {"a": {"a": 1.1}}}},
        }
    )


def couples(kinds: int, replicas: int) -> Instance:
    """Return models that suffer only from their own kind, two on each VM at price 1."""
    names = [f"m{k}" for k in range(kinds)]
    return Instance.from_dict(
        {
            "vm_types": [{"name": "v", "capacity": {}, "price": 1, "max_models": 2}],
            "models": [{"name": name, "replicas": replicas} for name in names],
            "interference": {
                "kind": "pairwise",
                "default": 1.0,
                "slowdown": {"*": {name: {name: 1.5} for name in names}},
            },
        }
    )


def scarce(pairs: int) -> Instance:
    """Return pairs of a small and a large model; the cheap type holds half of them.

    Each cheap VM takes one large and one small replica; what is left over needs the dear type.
    """
    return Instance.from_dict(
        {
            "vm_types": [
                {"name": "cheap", "capacity": {"gpu": 1}, "price": 1, "count": pairs // 2},
                {"name": "dear", "capacity": {"gpu": 1}, "price": 3},
            ],
            "models": [
                {"name": "large", "replicas": pairs, "demand": {"gpu": 0.7}},
                {"name": "small", "replicas": pairs, "demand": {"gpu": 0.3}},
            ],
        }
    )


KNOWN = {
    "packing": (packing, 4.0),
    "one kind": (lambda: one_kind(12), 6.4),
    "couples": (lambda: couples(6, 2), 6.0),
    "scarce": (lambda: scarce(6), 3 * 1.0 + 3 * 3.0),
}
LARGE = {
    "one kind": (lambda: one_kind(3000), 1600.0),
    "couples": (lambda: couples(20, 500), 5000.0),
    "scarce": (lambda: scarce(2000), 1000 * 1.0 + 1000 * 3.0),
}


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("case", KNOWN)
def test_known_optimum(solver: str, case: str) -> None:
    make, optimum = KNOWN[case]
    result = run(make(), solver)
    (assert_solved if SOLVERS[solver].exact else assert_honest)(result, optimum)


@pytest.mark.parametrize("solver", BY_GROUPS)
@pytest.mark.parametrize("case", LARGE)
def test_known_optimum_of_thousands_of_replicas(solver: str, case: str) -> None:
    make, optimum = LARGE[case]
    assert_solved(run(make(), solver), optimum)


@pytest.mark.parametrize("seed", range(5000, 5000 + int(20 * TIMES)))
def test_two_formulations_agree_beyond_brute_force(seed: int) -> None:
    """The group formulation and the assignment model never contradict each other."""
    instance = random_instance(seed, max_replicas=12, kinds=5)
    results = [run(instance, s, time_limit=10) for s in ("groups", "cp-sat-direct")]
    by_groups, direct = results
    if Status.UNKNOWN not in (by_groups.status, direct.status):
        infeasible = [result.status == Status.INFEASIBLE for result in results]
        assert infeasible[0] == infeasible[1]
    for a, b in ((by_groups, direct), (direct, by_groups)):
        if a.bound is not None and b.objective is not None:
            assert a.bound <= b.objective + 1e-6 * max(1.0, abs(b.objective))


@pytest.mark.parametrize(("solver", "seed"), cases(["auto", "groups", "cp-sat"], range(6000, 6005)))
def test_two_workers_prove_the_same(solver: str, seed: int) -> None:
    instance, best = small(seed)
    assert_solved(run(instance, solver, workers=2), best)


@pytest.mark.parametrize(("solver", "seed"), cases(EXACT, range(7000, 7004)))
def test_wide_gap_stops_early_and_says_so(solver: str, seed: int) -> None:
    instance, best = small(seed)
    result = run(instance, solver, gap=0.5)
    if best is None:
        assert result.status == Status.INFEASIBLE
        return
    assert result.status == Status.OPTIMAL
    assert result.gap is not None
    assert result.gap <= 0.5
    assert result.bound is not None
    assert result.bound <= best + 1e-6


@pytest.mark.parametrize("seed", range(30))
def test_groups_are_listed_up_to_the_limit_and_given_up_beyond(seed: int) -> None:
    batch = compile_batch(random_instance(seed, max_replicas=10, kinds=6))
    run = Run(batch, GroupCosts(batch))
    every = enumerate_groups(run)
    assert every is not None
    if batch.interference.only_listed() or len(every) < 40:
        return
    assert enumerate_groups(run, len(every) // 10) is None
