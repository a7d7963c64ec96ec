"""Greedy, local search and the blind baselines: honest, repeatable, and fast where it counts."""

from __future__ import annotations

import time
from collections import Counter
from functools import cache
from typing import Any

import numpy as np
import pytest
from brute_force import brute_force
from random_instances import random_instance

from placer.problem import Instance
from placer.solvers.baselines import POLICIES, blind_assignment
from placer.solvers.batch import compile_batch
from placer.solvers.fleet import CostMemo, Fleet
from placer.solvers.greedy import Plan, by_size, construct, together_units
from placer.solvers.group_costs import GroupCosts
from placer.solvers.local import Local
from placer.solvers.registry import get_solver
from placer.solvers.run import Options, Run
from placer.solving import solve

SEEDS = range(60)
SEARCHES = ["greedy", "local"]
HEURISTICS = [*SEARCHES, *POLICIES]


@cache
def small(seed: int) -> tuple[Instance, float | None]:
    """Return the tiny instance of `seed` and its least objective, None where infeasible."""
    instance = random_instance(seed)
    best = brute_force(instance)
    return instance, None if best is None else best[0]


def run_of(instance: Instance, **options: Any) -> Run:
    """Return a run on `instance` that nothing has been offered to."""
    batch = compile_batch(instance)
    return Run(batch, GroupCosts(batch), Options(**options))


def solved(instance: Instance, solver: str, **options: Any) -> Run:
    """Return the run after `solver` is through with it."""
    run = run_of(instance, **options)
    get_solver(solver).solve(run)
    return run


def build(**fields: Any) -> Instance:
    """Return an instance of these fields over one unlimited VM type of 2 vCPU at price 1."""
    data = {
        "format": "placer/instance",
        "version": 1,
        "vm_types": [{"name": "v", "capacity": {"vcpu": 2}, "price": 1.0}],
    }
    return Instance.from_dict(data | fields)


def generated(kinds: int, replicas: int, *, slots: int = 4, seed: int = 0) -> Instance:
    """Return an instance with pairwise interference and four VM types of growing size."""
    rng = np.random.default_rng(seed)
    shares = rng.multinomial(replicas - kinds, rng.dirichlet(np.full(kinds, 2.0))) + 1
    names = [f"m{k}" for k in range(kinds)]
    strain, harm = rng.uniform(0, 0.4, kinds), rng.uniform(0, 1, kinds)
    return Instance.from_dict(
        {
            "format": "placer/instance",
            "version": 1,
            "vm_types": [
                {
                    "name": f"t{t}",
                    "capacity": {"vcpu": 2.0 ** (t + 1), "memory_gib": 2.0 ** (t + 3)},
                    "price": 0.05 * 2.0 ** (t + 1) * float(rng.uniform(0.8, 1.2)),
                    "max_models": slots,
                }
                for t in range(4)
            ],
            "models": [
                {
                    "name": name,
                    "replicas": int(shares[k]),
                    "demand": {
                        "vcpu": float(rng.uniform(0.2, 1.8)),
                        "memory_gib": float(rng.uniform(0.3, 4)),
                    },
                    "weight": float(rng.uniform(0.5, 2)),
                }
                for k, name in enumerate(names)
            ],
            "interference": {
                "kind": "pairwise",
                "slowdown": {
                    "*": {
                        a: {b: float(1 + strain[i] * harm[j]) for j, b in enumerate(names)}
                        for i, a in enumerate(names)
                    }
                },
            },
            "objective": {"degradation": 0.2},
        }
    )


def one_by_one(run: Run, order: list[int]) -> float:
    """Return the objective of greedy without any bulk step, replica by replica."""
    fleet = Fleet(run.batch, CostMemo(run.costs))
    for kind in order:
        for _ in range(int(run.batch.replicas[kind])):
            rows = fleet.hosts()
            costs = fleet.cost_with(rows, (kind,))
            growth = np.round(costs - fleet.cost[rows], 10)
            best = int(np.lexsort((fleet.degree[rows] == 0, growth))[0])
            row = int(rows[best])
            fleet.shift(row, fleet.row(fleet.grown(row, [kind]), float(costs[best])), 1)
    return fleet.total()


@pytest.mark.parametrize("solver", HEURISTICS)
@pytest.mark.parametrize("seed", SEEDS)
def test_offers_only_checked_placements_no_better_than_brute_force(solver: str, seed: int) -> None:
    instance, best = small(seed)
    result = solve(instance, solver=solver, workers=1, explain=False)
    if best is None:
        assert result.placement.vms == []
        assert result.objective is None
    elif result.objective is not None:
        assert result.objective >= best - 1e-6
        assert result.bound is None


@pytest.mark.parametrize("solver", HEURISTICS)
@pytest.mark.parametrize("seed", range(10))
def test_same_seed_gives_same_placement(solver: str, seed: int) -> None:
    instance = generated(6, 40, seed=seed)
    assert solved(instance, solver, seed=seed).best == solved(instance, solver, seed=seed).best


@pytest.mark.parametrize("seed", SEEDS)
def test_local_is_no_worse_than_greedy(seed: int) -> None:
    instance, _ = small(seed)
    greedy, local = solved(instance, "greedy"), solved(instance, "local")
    if greedy.objective is not None:
        assert local.objective is not None
        assert local.objective <= greedy.objective + 1e-9


def test_searches_find_nearly_every_small_optimum() -> None:
    feasible = [(i, best) for i, best in map(small, SEEDS) if best is not None]
    for solver, share in (("greedy", 0.75), ("local", 0.9)):
        objectives = [solved(i, solver).objective for i, _ in feasible]
        found = [o for o, (_, b) in zip(objectives, feasible, strict=True) if o is not None]
        exact = [
            o is not None and o <= b + 1e-6 for o, (_, b) in zip(objectives, feasible, strict=True)
        ]
        assert len(found) >= 0.9 * len(feasible)
        assert sum(exact) >= share * len(feasible)


@pytest.mark.parametrize("seed", range(8))
def test_bulk_steps_of_greedy_are_those_of_one_replica_at_a_time(seed: int) -> None:
    run = run_of(generated(5, 60, seed=seed))
    order = by_size(run.batch)
    fleet = construct(run, Plan(order), CostMemo(run.costs))
    assert fleet.total() == pytest.approx(one_by_one(run, order.tolist()), rel=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_local_improves_a_placement_it_is_given(seed: int) -> None:
    instance = generated(6, 40, seed=seed)
    run = run_of(instance)
    get_solver("least-loaded").solve(run)
    before = run.objective
    Local(rounds=0).solve(run)
    assert before is not None
    assert run.objective is not None
    assert run.objective < before


def test_a_replica_is_left_out_only_where_that_is_cheaper() -> None:
    models = [{"name": "a", "replicas": 4, "demand": {"vcpu": 1}}]
    for penalty, placed in ((0.4, 0), (0.6, 4)):
        run = solved(build(models=models, objective={"unplaced": {"penalty": penalty}}), "local")
        assert sum(len(g) * n for (_, g), n in (run.best or {}).items()) == placed


def test_greedy_moves_a_replica_out_of_the_way_of_one_without_host() -> None:
    instance = build(
        vm_types=[
            {"name": "big", "capacity": {"vcpu": 2}, "price": 0.1, "count": 1},
            {"name": "small", "capacity": {"vcpu": 2}, "price": 1.0, "count": 1},
        ],
        models=[
            {"name": "a", "demand": {"vcpu": 2}, "weight": 5},
            {"name": "b", "demand": {"vcpu": 2}, "vm_types": ["big"]},
        ],
    )
    run = solved(instance, "greedy")
    assert run.best == {(0, (1,)): 1, (1, (0,)): 1}


def test_scarce_vms_are_filled() -> None:
    instance = build(
        vm_types=[
            {"name": "small", "capacity": {"vcpu": 2}, "price": 0.1},
            {"name": "large", "capacity": {"vcpu": 8}, "price": 5.0},
        ],
        models=[{"name": "a", "replicas": 10, "demand": {"vcpu": 1}}],
        rules={"max_vms": 2},
    )
    assert solved(instance, "greedy").best is not None
    assert solved(instance, "local").objective == pytest.approx(5.1)


def test_together_rules_that_share_a_single_replica_become_one_unit() -> None:
    models = [{"name": n, "demand": {"vcpu": 0.5}} for n in "abc"]
    instance = build(models=models, rules={"together": [["a", "b"], ["b", "c"]]})
    (unit,) = together_units(compile_batch(instance))
    assert unit.tolist() == [1, 1, 1]
    assert solved(instance, "greedy").best == {(0, (0, 1, 2)): 1}


@pytest.mark.parametrize("policy", POLICIES)
def test_baselines_do_not_see_interference(policy: str) -> None:
    models = [
        {"name": "a", "replicas": 3, "demand": {"vcpu": 0.5}},
        {"name": "b", "replicas": 4, "demand": {"vcpu": 0.3}},
    ]
    table = {"kind": "pairwise", "default": 9.0}
    plain, slowed = build(models=models), build(models=models, interference=table)
    expected = blind_assignment(compile_batch(plain), policy, 3)
    assert blind_assignment(compile_batch(slowed), policy, 3) == expected
    placed = Counter(k for (_, group), n in expected.items() for k in group * n)
    assert placed == {0: 3, 1: 4}


def test_a_baseline_that_breaks_an_slo_says_so() -> None:
    models = [
        {"name": "a", "replicas": 2, "demand": {"vcpu": 1}, "solo_latency_ms": 10, "slo_ms": 12}
    ]
    instance = build(models=models, interference={"kind": "pairwise", "default": 2.0})
    run = solved(instance, "least-loaded")
    assert run.best is None
    assert run.notes == [
        "least-loaded sees no interference, and its placement breaks the SLO of 2 replicas, so it "
        "is not a placement of this instance"
    ]


def test_spreading_baselines_use_the_whole_of_a_given_fleet() -> None:
    models = [{"name": "a", "replicas": 4, "demand": {"vcpu": 0.5}}]
    vm_types = [{"name": "v", "capacity": {"vcpu": 2}, "count": 2}]
    spread = {(0, (0, 0)): 2}
    for policy in ("least-loaded", "round-robin"):
        batch = compile_batch(build(models=models, vm_types=vm_types))
        assert blind_assignment(batch, policy) == spread
        assert blind_assignment(compile_batch(build(models=models)), policy) == {
            (0, (0, 0, 0, 0)): 1
        }


def test_best_fit_opens_the_cheapest_type_for_what_is_left() -> None:
    instance = build(
        vm_types=[
            {"name": "small", "capacity": {"vcpu": 1}, "price": 1.0},
            {"name": "large", "capacity": {"vcpu": 8}, "price": 4.0},
        ],
        models=[{"name": "a", "replicas": 9, "demand": {"vcpu": 1}}],
    )
    batch = compile_batch(instance)
    assert blind_assignment(batch, "best-fit-decreasing") == {(1, (0,) * 8): 1, (0, (0,)): 1}


@pytest.mark.parametrize("solver", ["greedy", *POLICIES])
def test_ten_thousand_replicas_take_seconds(solver: str) -> None:
    run = run_of(generated(50, 10_000))
    started = time.process_time()
    get_solver(solver).solve(run)
    assert run.best is not None
    assert time.process_time() - started < 10.0


def test_a_million_replicas_cost_greedy_what_their_kinds_cost() -> None:
    run = run_of(generated(50, 1_000_000, slots=8))
    started = time.process_time()
    get_solver("greedy").solve(run)
    assert run.best is not None
    assert time.process_time() - started < 20.0
