"""The objective, the check and the group costs, held against brute force and each other."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import pytest
from brute_force import Vm, brute_force, placement_objective, vm_cost
from random_instances import random_instance

from placer.checker import check
from placer.placement import Placement
from placer.problem import Instance
from placer.scoring import score
from placer.solvers.batch import compile_batch
from placer.solvers.group_costs import GroupCosts
from placer.solvers.run import rows_of

SEEDS = range(150)


def placement_of(instance: Instance, vms: list[Vm], **figures: Any) -> Placement:
    """Return the placement file's content for these VMs, unplaced replicas listed."""
    left = {model.name: model.replicas for model in instance.models}
    for _, names in vms:
        for name in names:
            left[name] -= 1
    data = {
        "vms": [
            {"name": f"vm-{i}", "vm_type": vm_type, "models": [{"name": n} for n in names]}
            for i, (vm_type, names) in enumerate(vms)
        ],
        "unplaced": [name for name, count in left.items() for _ in range(count)],
    }
    return Placement.from_dict(data | figures)


def random_placement(rng: random.Random, instance: Instance) -> list[Vm]:
    """Return replicas dealt to random VMs, now and then one too few or too many."""
    replicas = [model.name for model in instance.models for _ in range(model.replicas)]
    if rng.random() < 0.2:
        replicas.append(rng.choice(instance.models).name)
    bins: list[list[str]] = [[] for _ in range(rng.randint(1, 4))]
    for name in replicas:
        if rng.random() < 0.9:
            rng.choice(bins).append(name)
    return [(rng.choice(instance.vm_types).name, tuple(sorted(names))) for names in bins if names]


@pytest.mark.parametrize("seed", SEEDS)
def test_best_placement_has_the_same_objective_and_passes_the_check(seed: int) -> None:
    instance = random_instance(seed)
    best = brute_force(instance)
    if best is None:
        return
    objective, vms = best
    scored = score(instance, vms)
    assert scored.objective == pytest.approx(objective, abs=1e-9, rel=1e-9)
    figures = {"objective": objective, "terms": scored.terms, "bound": objective, "gap": 0.0}
    report = check(instance, placement_of(instance, vms, **figures))
    assert report.violations == []


@pytest.mark.parametrize("seed", SEEDS)
def test_check_refuses_what_brute_force_refuses(seed: int) -> None:
    """Any placement, however wrong, gets the same verdict and objective from both."""
    instance = random_instance(seed, max_replicas=4)
    rng = random.Random(seed)
    for _ in range(20):
        vms = random_placement(rng, instance)
        objective = placement_objective(instance, vms)
        report = check(instance, placement_of(instance, vms))
        assert report.ok == (objective is not None), (vms, report.violations)
        if objective is not None:
            assert report.score is not None
            assert report.score.objective == pytest.approx(objective, abs=1e-9, rel=1e-9)


HANDMADE: dict[str, Any] = {
    "vm_types": [
        {"name": "c2", "capacity": {"vcpu": 2}, "price": 1, "count": 3, "max_models": 3},
        {"name": "c4", "capacity": {"vcpu": 4}, "price": 2},
    ],
    "models": [
        {"name": "a", "replicas": 2, "demand": {"vcpu": 0.5}},
        {"name": "b", "demand": {"vcpu": 1}, "solo_latency_ms": 10, "slo_ms": 12},
        {"name": "c", "demand": {"vcpu": 1}, "vm_types": ["c4"]},
        {"name": "d", "demand": {"vcpu": 1.8}},
    ],
    "interference": {
        "kind": "groups",
        "slowdown": {
            "*": [
                {"models": ["a", "a"], "slowdown": [1.1, 1.1]},
                {"models": ["b", "c"], "slowdown": [1.2, 1.0]},
                {"models": ["a", "b", "c"], "slowdown": [1.2, 1.3, 1.2]},
                {"models": ["a", "a", "b", "c"], "slowdown": [1.2, 1.2, 1.2, 1.2]},
                {"models": ["a", "d"], "slowdown": [1.1, 1.1]},
                {"models": ["c", "d"], "slowdown": [1.1, 1.1]},
            ]
        },
    },
    "rules": {"apart": [["a", "d"]], "together": [["b", "c"]], "max_vms": 4, "max_price": 5},
}
GOOD: list[list[Any]] = [["c4", "b", "c"], ["c2", "a", "a"], ["c2", "d"]]


def handmade_placement(vms: list[list[Any]]) -> dict[str, Any]:
    return {
        "vms": [
            {"name": f"vm-{i}", "vm_type": vm[0], "models": [{"name": n} for n in vm[1:]]}
            for i, vm in enumerate(vms)
        ],
        "objective": 4.0 + 0.2 + 0.2,
    }


def codes(data: dict[str, Any], changes: dict[str, Any] | None = None) -> set[str]:
    instance = Instance.from_dict(HANDMADE | (changes or {}))
    return {v.code for v in check(instance, Placement.from_dict(data)).violations}


def test_handmade_placement_is_good() -> None:
    assert codes(handmade_placement(GOOD)) == set()


@pytest.mark.parametrize(
    ("vms", "expected"),
    [
        ([["c4", "b", "c"], ["c2", "a", "d"], ["c2", "a"]], {"capacity", "apart"}),
        ([["c4", "b", "c"], ["c4", "a", "d"], ["c2", "a"]], {"apart"}),
        ([["c4", "c", "d"], ["c2", "a", "a"], ["c2", "b"]], {"together"}),
        ([["c2", "b", "c"], ["c2", "a", "a"], ["c2", "d"]], {"vm-type-not-allowed"}),
        ([["c4", "b", "c"], ["c2", "a", "a"]], {"not-placed", "unplaced-differs"}),
        ([*GOOD, ["c2", "d"]], {"too-many-replicas"}),
        ([["c4", "a", "b", "c"], ["c2", "a"], ["c2", "d"]], {"slo"}),
        ([["c4", "b", "c"], ["c2", "a"], ["c2", "a"], ["c4", "d"]], {"max-price"}),
        ([["c4", "b", "c"], ["c2", "a"], ["c2", "a"], ["c2", "d"]], set()),
        ([["c2", "b"], ["c4", "c"], ["c2", "a", "a"], ["c2", "d"]], {"together"}),
        ([["c4", "b", "c", "d"], ["c2", "a", "a"]], {"group-not-listed"}),
        ([["c9", "b", "c"], ["c2", "a", "a"], ["c2", "d"]], {"unknown-vm-type"}),
        ([["c4", "b", "c", "zz"], ["c2", "a", "a"], ["c2", "d"]], {"unknown-model"}),
    ],
)
def test_broken_rules_are_named(vms: list[list[Any]], expected: set[str]) -> None:
    data = handmade_placement(vms)
    del data["objective"]
    assert codes(data) == expected


@pytest.mark.parametrize(
    ("vm_types", "rules", "expected"),
    [
        ({"count": 1}, {}, {"count"}),
        ({"max_models": 1}, {}, {"max-models"}),
        ({}, {"max_vms": 2}, {"max-vms"}),
        ({}, {"max_price": 3.9}, {"max-price"}),
        ({}, {"max_price": 4 - 1e-7}, set()),
        ({}, {"apart": [["a", "a"]]}, {"apart"}),
        ({}, {"apart": [["a"]]}, set()),
        ({}, {"together": [["a", "a"], ["b", "c"]]}, set()),
        ({}, {"together": [["a", "a", "a"]]}, {"together"}),
        ({}, {"together": [[]]}, set()),
    ],
)
def test_tighter_limits_are_named(
    vm_types: dict[str, Any], rules: dict[str, Any], expected: set[str]
) -> None:
    c2, c4 = copy.deepcopy(HANDMADE["vm_types"])
    changes = {"vm_types": [c2 | vm_types, c4], "rules": rules}
    assert codes(handmade_placement(GOOD), changes) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda p: p.update(objective=4.5), {"figure-differs"}),
        (lambda p: p.update(terms={"price": 4.0, "degradation": 0.5}), {"figure-differs"}),
        (lambda p: p.update(terms={"price": 4.0, "degradation": 0.4}), set()),
        (lambda p: p.update(bound=4.5), {"bound-above-objective"}),
        (lambda p: p.update(bound=4.0, gap=0.3), {"figure-differs"}),
        (lambda p: p.update(bound=4.0, gap=0.4 / 4.4), set()),
        (lambda p: p.update(status="infeasible"), {"status"}),
        (lambda p: p.update(unplaced=["a"]), {"unplaced-differs"}),
        (lambda p: p["vms"][0]["models"][0].update(slowdown=1.5), {"figure-differs"}),
        (lambda p: p["vms"][0]["models"][0].update(slowdown=1.2, latency_ms=12.0), set()),
        (lambda p: p["vms"][0]["models"][0].update(latency_ms=13.0), {"figure-differs"}),
        (lambda p: p["vms"][1].update(name="vm-0"), {"repeated-vm"}),
    ],
)
def test_wrong_figures_are_named(
    change: Callable[[dict[str, Any]], None], expected: set[str]
) -> None:
    data = handmade_placement(GOOD)
    change(data)
    assert codes(data) == expected


def test_one_replica_too_many_is_a_violation_even_where_no_slowdown_is_given_for_it() -> None:
    instance = Instance.from_dict(
        {
            "vm_types": [{"name": "v", "capacity": {}}],
            "models": [{"name": "a"}],
            "interference": {"kind": "pairwise", "slowdown": {}},
        }
    )
    data = {"vms": [{"name": "v-0", "vm_type": "v", "models": [{"name": "a"}, {"name": "a"}]}]}
    report = check(instance, Placement.from_dict(data))
    assert "too-many-replicas" in {v.code for v in report.violations}


def test_a_model_that_may_run_nowhere_is_refused_where_latency_counts() -> None:
    instance = Instance.from_dict(
        {
            "vm_types": [{"name": "v", "capacity": {}}],
            "models": [{"name": "a", "vm_types": [], "solo_latency_ms": 5}],
            "objective": {"latency": 1},
        }
    )
    data = {"vms": [{"name": "v-0", "vm_type": "v", "models": [{"name": "a"}]}]}
    report = check(instance, Placement.from_dict(data))
    assert {v.code for v in report.violations} == {"vm-type-not-allowed"}


def all_groups(instance: Instance, largest: int) -> list[tuple[int, ...]]:
    """Return every group of up to `largest` replicas that there are."""
    kinds = [k for k, model in enumerate(instance.models) if model.replicas]
    return [
        group
        for size in range(1, largest + 1)
        for group in combinations_with_replacement(kinds, size)
        if all(group.count(k) <= instance.models[k].replicas for k in group)
    ]


@pytest.mark.parametrize("seed", SEEDS)
def test_group_costs_equal_the_score_of_one_vm(seed: int) -> None:
    instance = random_instance(seed)
    costs = GroupCosts(compile_batch(instance))
    groups = all_groups(instance, 5)
    for t, vm_type in enumerate(instance.vm_types):
        computed = costs.cost(t, rows_of(groups))
        for group, cost in zip(groups, computed, strict=True):
            names = tuple(instance.models[k].name for k in group)
            expected = vm_cost(instance, vm_type.name, names)
            assert math.isfinite(cost) == (expected is not None), (vm_type.name, names)
            if expected is None:
                continue
            assert cost == pytest.approx(expected, abs=1e-9, rel=1e-9)
            (scored,) = score(instance, [(vm_type.name, names)]).vms
            assert scored is not None
            assert scored.cost == pytest.approx(expected, abs=1e-9, rel=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_floors_bound_the_slowdown_of_every_larger_group(seed: int) -> None:
    """Of every member and every supergroup but those that `listed` gives one by one."""
    instance = random_instance(seed, interference="groups" if seed % 3 == 0 else "pairwise")
    interference = compile_batch(instance).interference
    groups = all_groups(instance, 4)
    for t in range(len(instance.vm_types)):
        listed = interference.listed(t)
        exempt = set() if listed is None else {tuple(row[row >= 0]) for row in listed}
        for more in range(4):
            left = np.full(len(groups), more)
            floors = interference.floor(t, rows_of(groups), left)
            uppers = interference.upper_floor(t, rows_of(groups), left)
            larger = [g for g in all_groups(instance, 5) if g not in exempt]
            slowdown = interference.slowdown(t, rows_of(larger))
            for group, floor, upper in zip(groups, floors, uppers, strict=True):
                for big, values in zip(larger, slowdown, strict=True):
                    if len(big) - len(group) > more or not contains(big, group):
                        continue
                    for kind, low, high in zip(group, floor, upper, strict=False):
                        value = values[big.index(kind)]
                        assert not value < max(low, high) - 1e-12, (group, big, kind)


def contains(big: tuple[int, ...], group: tuple[int, ...]) -> bool:
    return all(big.count(k) >= group.count(k) for k in group)
