"""Reasons: true, small, in the field's words, and within their time."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from brute_force import brute_force
from random_instances import random_instance

from placer.explain.relax import Cause, causes_of, smallest_set, without
from placer.files import read_instance
from placer.problem import Instance
from placer.solving import solve
from placer.status import Status


def instance(models: list[dict[str, Any]], **fields: Any) -> Instance:
    vm_types = fields.pop("vm_types", [{"name": "small", "capacity": {"vcpu": 2}, "price": 1}])
    return Instance.from_dict({"vm_types": vm_types, "models": models, **fields})


def reasons(batch: Instance, **options: Any) -> str:
    result = solve(batch, solver="groups", **options)
    assert result.status == Status.INFEASIBLE
    return "\n".join(result.explanation)


TYPES = [
    {"name": "small", "capacity": {"vcpu": 2, "memory_gib": 8}, "price": 1},
    {"name": "large", "capacity": {"vcpu": 8, "memory_gib": 16}, "price": 3},
]


@pytest.mark.parametrize(
    ("model", "types", "said"),
    [
        (
            {"demand": {"memory_gib": 24}},
            TYPES,
            "even on the largest, 'large', needs 24 memory_gib",
        ),
        ({"demand": {"memory_gib": 12}, "vm_types": ["small"]}, TYPES, "'small', needs 12 memory"),
        ({"vm_types": []}, TYPES, "models[1].vm_types is an empty list"),
        (
            {"slo_ms": 120, "solo_latency_ms": {"small": 300, "large": 130}},
            TYPES,
            "even on the fastest, 'large', takes 130 ms even alone, models[1].slo_ms is 120",
        ),
        ({}, [{**TYPES[0], "count": 0}], "vm_types[0].count is 0"),
        ({}, [{**TYPES[0], "max_models": 0}], "vm_types[0].max_models is 0"),
    ],
)
def test_a_model_that_fits_nowhere(
    model: dict[str, Any], types: list[dict[str, Any]], said: str
) -> None:
    fine = {"name": "fine", "demand": {"vcpu": 1}}
    text = reasons(instance([fine, {"name": "bad", **model}], vm_types=types))
    assert "model 'bad' (models[1]) fits on no VM type" in text
    assert said in text


def test_more_models_than_can_be_named() -> None:
    models = [{"name": f"m{i}", "demand": {"vcpu": 3}} for i in range(20)]
    lines = reasons(instance(models)).splitlines()
    assert len(lines) == 9
    assert lines[-1] == "and so for 12 more models"


def test_a_count_that_is_too_small_and_what_helps() -> None:
    types = [TYPES[0], {**TYPES[1], "count": 1}]
    big = [{"name": n, "demand": {"memory_gib": 12}} for n in "abc"]
    text = reasons(instance([*big, {"name": "fine"}], vm_types=types))
    assert "2 models cannot all be placed" in text
    assert "vm_types[1].count = 1 ('large')" in text
    assert "only 'large' can hold them (on 'small', needs 12 memory_gib" in text
    assert "they need 24 memory_gib in all; there is at most 16 (1 x 'large')" in text
    assert "'fine'" not in text
    assert "there is a placement with vm_types[1].count raised to 3" in text


def test_rules_that_clash() -> None:
    models = [{"name": "a"}, {"name": "b"}, {"name": "other"}]
    text = reasons(instance(models, rules={"apart": [["a", "b"]], "together": [["a", "b"]]}))
    assert "rules.together[0] (a, b), rules.apart[0] (a, b)" in text
    assert "'other'" not in text
    assert "there is a placement without rules.apart[0]" in text


def test_together_asks_for_more_than_there_is() -> None:
    text = reasons(instance([{"name": "a"}], rules={"together": [["a", "a"]]}))
    assert "asks for 2 replicas of 'a' on one VM, there is 1" in text


def test_limits_on_vms_and_price() -> None:
    models = [{"name": "a", "replicas": 5, "demand": {"vcpu": 1}}]
    text = reasons(instance(models, rules={"max_vms": 2}))
    assert "rules.max_vms = 2" in text
    assert "they need 5 vcpu in all; there is at most 4 (2 VMs of the largest type)" in text
    assert "rules.max_vms raised to 3" in text
    text = reasons(instance(models, rules={"max_price": 2.5}))
    assert "rules.max_price = 2.5" in text
    assert "rules.max_price raised to" in text


def test_groups_that_are_not_listed(root: Path) -> None:
    table = {"kind": "groups", "slowdown": {}}
    types = [{"name": "small", "capacity": {"vcpu": 2}, "count": 1}]
    text = reasons(instance([{"name": "a", "replicas": 2}], vm_types=types, interference=table))
    assert "interference.missing = 'forbid'" in text
    assert "if groups that are not listed may be formed" in text


def test_an_slo_under_company() -> None:
    model = {"name": "a", "replicas": 2, "solo_latency_ms": 10, "slo_ms": 12}
    types = [{"name": "small", "capacity": {"vcpu": 2}, "count": 1}]
    table = {"kind": "pairwise", "default": 1.5}
    text = reasons(instance([model], vm_types=types, interference=table))
    assert "models[0].slo_ms = 12 ('a')" in text
    assert "models[0].slo_ms raised to 15" in text
    assert "vm_types[0].count raised to 2" in text


def test_the_shipped_example(root: Path) -> None:
    text = reasons(read_instance(root / "instances" / "features" / "infeasible.json"))
    assert "model 'a' (3 replicas) cannot be placed, within vm_types[0].count = 2" in text
    assert "there is a placement with vm_types[0].count raised to 3" in text


def test_large_batches_stay_within_the_time(root: Path) -> None:
    fleet = read_instance(root / "instances" / "fleet-300.json")
    none = [v.model_copy(update={"count": 1}) for v in fleet.vm_types]
    begin = time.monotonic()
    result = solve(fleet.model_copy(update={"vm_types": none}), solver="groups", time_limit=5)
    assert time.monotonic() - begin < 20
    if result.status == Status.INFEASIBLE:
        assert "vm_types[0].count = 1" in "\n".join(result.explanation)


RAISED = re.compile(r"there is a placement with vm_types\[(\d+)\]\.count raised to (\d+)")


@pytest.mark.parametrize("seed", range(60))
def test_what_is_said_of_random_instances_is_true(seed: int) -> None:
    batch = random_instance(seed, max_replicas=4)
    result = solve(batch, solver="groups", time_limit=20)
    if result.status != Status.INFEASIBLE:
        assert result.explanation == []
        listed = [u for u in result.placement.unplaced if not isinstance(u, str)]
        assert all(u.reason for u in listed)
        return
    assert result.explanation
    for t, count in RAISED.findall("\n".join(result.explanation)):
        types = list(batch.vm_types)
        types[int(t)] = types[int(t)].model_copy(update={"count": int(count)})
        assert solvable(batch.model_copy(update={"vm_types": types}))


def solvable(batch: Instance) -> bool:
    return brute_force(batch) is not None


def test_nothing_in_the_set_can_be_spared() -> None:
    needed = {Cause("model", 2), Cause("model", 5), Cause("count", 0)}
    phases = [[Cause("model", k) for k in range(9)], [Cause("count", t) for t in range(3)]]
    found, complete = smallest_set(phases, lambda gone: not needed & set(gone), lambda: False)
    assert complete
    assert set(found) == needed


def test_a_relaxation_takes_away_what_it_names() -> None:
    batch = instance(
        [
            {"name": "a", "slo_ms": 9, "solo_latency_ms": 3},
            {"name": "b", "slo_ms": 9, "solo_latency_ms": 3},
        ],
        vm_types=[{"name": "s", "capacity": {}, "count": 1, "max_models": 2}],
        rules={"apart": [["a", "a"]], "together": [["a", "b"]], "max_vms": 3, "max_price": 4},
        interference={"kind": "groups"},
    )
    every = [cause for phase in causes_of(batch) for cause in phase]
    assert len(every) == 11
    gone = without(batch, [c for c in every if c != Cause("model", 0)])
    assert [m.replicas for m in gone.models] == [1, 0]
    assert [m.slo_ms for m in gone.models] == [None, None]
    assert (gone.vm_types[0].count, gone.vm_types[0].max_models) == (None, None)
    assert (gone.rules.max_vms, gone.rules.max_price, gone.rules.apart) == (None, None, [])
    assert gone.rules.together == []
    assert without(batch, [Cause("model", 0)]).rules.together == [["b"]]


def left_out(batch: Instance) -> str:
    result = solve(batch, solver="groups")
    assert result.status == Status.OPTIMAL
    (left,) = {u if isinstance(u, str) else str(u.reason) for u in result.placement.unplaced}
    return left


PENALTY = {"unplaced": {"penalty": 2}}
ONE = [{"name": "small", "capacity": {"vcpu": 2}, "price": 0.5, "count": 1}]


@pytest.mark.parametrize(
    ("models", "fields", "said"),
    [
        (
            [{"name": "a", "replicas": 3, "demand": {"vcpu": 1}}],
            {"vm_types": ONE},
            "the one 'small' that vm_types[0].count allows is in use, and at most 0 vcpu is left",
        ),
        ([{"name": "a", "demand": {"vcpu": 3}}], {}, "on 'small': needs 3 vcpu, it has 2"),
        (
            [{"name": "a", "slo_ms": 9, "solo_latency_ms": 10}],
            {},
            "on 'small': takes 10 ms even alone, models[0].slo_ms is 9",
        ),
        (
            [{"name": "a", "cost_on": {"small": 5}}],
            {},
            "on a new VM of type 'small' would add 6, its penalty is 2",
        ),
        (
            [{"name": "a", "weight": 3}, {"name": "b"}],
            {"vm_types": ONE, "rules": {"apart": [["a", "b"]]}},
            "a rules.apart list keeps it from sharing with 'a'",
        ),
        (
            [{"name": "a", "replicas": 2}],
            {"vm_types": ONE, "interference": {"kind": "groups"}},
            "the group a, a is not listed",
        ),
        (
            [{"name": "a", "replicas": 2, "slo_ms": 12, "solo_latency_ms": 10}],
            {"vm_types": ONE, "interference": {"kind": "pairwise", "default": 1.5}},
            "'a' would take 15 ms, models[0].slo_ms is 12",
        ),
        (
            [{"name": "a", "replicas": 3, "demand": {"vcpu": 1}}],
            {"rules": {"max_vms": 1}},
            "all 1 VMs that rules.max_vms allows are in use",
        ),
        (
            [{"name": "a", "replicas": 3, "demand": {"vcpu": 1}}],
            {"rules": {"max_price": 1.5}},
            "would break rules.max_price 1.5, of which 1 is spent",
        ),
        ([{"name": "a", "vm_types": []}], {}, "models[0].vm_types does not list it"),
        (
            [{"name": "a"}],
            {"rules": {"together": [["a", "a"]]}},
            "rules.together[0] (a, a) would not be kept",
        ),
    ],
)
def test_why_a_replica_is_left_out(
    models: list[dict[str, Any]], fields: dict[str, Any], said: str
) -> None:
    assert said in left_out(instance(models, objective=PENALTY, **fields))
