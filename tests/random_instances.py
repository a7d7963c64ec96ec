"""Tiny random instances that mix every field of the format, for comparison with brute force."""

from __future__ import annotations

import json
import os
from itertools import combinations_with_replacement
from random import Random
from typing import Any

from placer.problem import Instance

TIMES = float(os.environ.get("PLACER_TEST_SEEDS", "1"))
"""How many times as many random instances are tried as usual."""

NAMES = "abcdefgh"
TYPE_NAMES = ("s", "m", "l", "xl")
RESOURCES = ("vcpu", "memory_gib", "gpu")
CAPACITIES = (0.6, 1, 1, 1.5, 2, 2, 3)
AMOUNTS = (0, 0.1, 0.2, 0.25, 0.3, 1 / 3, 0.4, 0.5, 0.6, 0.7, 1)
"""Fractions whose floating sums miss the capacities by rounding alone: 0.1 + 0.2 + 0.3 > 0.6."""
PRICES = (0, 0.1, 0.25, 0.5, 1, 1.3, 2)
SLOWDOWNS = (0.6, 0.9, 1.0, 1.05, 1.1, 1.2, 1.4, 1.4, 1.9, 2.7)
INTERFERENCE = ("none", "pairwise", "pairwise", "pairwise", "groups", "groups")


def random_instance(
    seed: int,
    *,
    max_replicas: int = 5,
    kinds: int | None = None,
    vm_types: int | None = None,
    interference: str | None = None,
) -> Instance:
    """Return the instance of `seed`, of at most `max_replicas` replicas in all.

    kinds, vm_types: how many models and VM types (None: 1-4 and 1-3). interference: `none`,
    `pairwise` or `groups` (None: any of them). Roughly a third of the instances is infeasible.
    """
    data = random_instance_data(
        seed, max_replicas=max_replicas, kinds=kinds, vm_types=vm_types, interference=interference
    )
    return Instance.from_dict(json.loads(json.dumps(data)))


def random_instance_data(
    seed: int,
    *,
    max_replicas: int = 5,
    kinds: int | None = None,
    vm_types: int | None = None,
    interference: str | None = None,
) -> dict[str, Any]:
    """Return the JSON object that `random_instance` reads; see there."""
    rng = Random(seed)
    resources = RESOURCES[: rng.choice((0, 1, 1, 2, 2, 3))]
    types = [_vm_type(rng, TYPE_NAMES[i], resources) for i in range(vm_types or rng.randint(1, 3))]
    replicas = _replicas(rng, kinds or rng.randint(1, 4), max_replicas)
    models = [_model(rng, NAMES[k], n, types, resources) for k, n in enumerate(replicas)]
    latency = rng.choice((0, 0, 0, 0.5, 1.0))
    if latency:
        for model in models:
            model.setdefault("solo_latency_ms", _solo_latency(rng, types))
    data: dict[str, Any] = {
        "format": "placer/instance",
        "version": 1,
        "name": f"random-{seed}",
        "vm_types": types,
        "models": models,
        "objective": _objective(rng, latency),
        "rules": _rules(rng, models, types),
    }
    chosen = interference or rng.choice(INTERFERENCE)
    if chosen != "none" or rng.random() < 0.5:
        data["interference"] = _interference(rng, chosen, models, types)
    return data


def _replicas(rng: Random, kinds: int, most: int) -> list[int]:
    replicas = [0] * kinds
    for _ in range(rng.randint(max(1, most - 3), most)):
        replicas[rng.randrange(kinds)] += 1
    return replicas


def _vm_type(rng: Random, name: str, resources: tuple[str, ...]) -> dict[str, Any]:
    vm_type: dict[str, Any] = {
        "name": name,
        "capacity": {resource: rng.choice(CAPACITIES) for resource in resources},
        "price": rng.choice(PRICES),
    }
    if rng.random() < 0.5:
        vm_type["count"] = rng.choice((None, 0, 1, 1, 2, 2, 3))
    if rng.random() < 0.5:
        vm_type["max_models"] = rng.choice((None, 0, 1, 2, 2, 3, 3))
    return vm_type


def _model(
    rng: Random,
    name: str,
    replicas: int,
    types: list[dict[str, Any]],
    resources: tuple[str, ...],
) -> dict[str, Any]:
    model: dict[str, Any] = {"name": name}
    if replicas != 1 or rng.random() < 0.5:
        model["replicas"] = replicas
    if resources and rng.random() < 0.9:
        model["demand"] = _demand(rng, resources)
    names = [vm_type["name"] for vm_type in types]
    if resources and rng.random() < 0.2:
        model["demand_on"] = {rng.choice(names): _demand(rng, resources)}
    if rng.random() < 0.2:
        model["cost_on"] = {rng.choice(names): rng.choice(PRICES)}
    if rng.random() < 0.4:
        model["weight"] = rng.choice((0, 0.5, 1, 2, 3.7))
    if rng.random() < 0.3:
        model["rate_rps"] = rng.choice((None, 0, 5.0))
    if rng.random() < 0.4:
        model["solo_latency_ms"] = _solo_latency(rng, types)
        if rng.random() < 0.7:
            model["slo_ms"] = _slo(rng, model["solo_latency_ms"])
    if rng.random() < 0.15:
        model["vm_types"] = rng.sample(
            names, rng.randint(0 if rng.random() < 0.1 else 1, len(names))
        )
    return model


def _demand(rng: Random, resources: tuple[str, ...]) -> dict[str, float]:
    named = [resource for resource in resources if rng.random() < 0.85]
    return {resource: rng.choice(AMOUNTS) for resource in named}


def _solo_latency(rng: Random, types: list[dict[str, Any]]) -> float | dict[str, float]:
    if rng.random() < 0.3:
        return rng.choice((7.5, 10, 12))
    return {vm_type["name"]: rng.choice((7.5, 10, 12, 20)) for vm_type in types}


def _slo(rng: Random, solo: float | dict[str, float]) -> float:
    """Return a limit that binds: some slowdown of some solo latency, seldom below 1."""
    base = rng.choice(sorted(solo.values())) if isinstance(solo, dict) else solo
    return base * rng.choice((0.9, 1.0, 1.0, 1.1, 1.2, 1.4, 1.4, 1.9, 3.0))


def _objective(rng: Random, latency: float) -> dict[str, Any]:
    objective: dict[str, Any] = {}
    if rng.random() < 0.5:
        objective["price"] = rng.choice((0, 0.5, 1, 2))
    if rng.random() < 0.5:
        objective["degradation"] = rng.choice((0, 0.3, 1, 4))
    if latency or rng.random() < 0.2:
        objective["latency"] = latency
    for field, share in (("slo", 0.3), ("unplaced", 0.2)):
        draw = rng.random()
        if draw < share:
            objective[field] = {"penalty": rng.choice((0, 0.05, 0.3, 1, 1, 3, 10, 1000))}
        elif draw < 0.5:
            objective[field] = "forbid"
    return objective


def _rules(
    rng: Random, models: list[dict[str, Any]], types: list[dict[str, Any]]
) -> dict[str, Any]:
    names = [model["name"] for model in models]
    rules: dict[str, Any] = {}
    if rng.random() < 0.3:
        rules["apart"] = [
            rng.choices(names, k=rng.choice((1, 2, 2, 3))) for _ in range(rng.randint(1, 2))
        ]
    if rng.random() < 0.35:
        rules["together"] = [
            _company(rng, models, rng.choice((1, 2, 2, 2, 3))) for _ in range(rng.randint(1, 2))
        ]
    if rng.random() < 0.25:
        rules["max_vms"] = rng.choice((None, 1, 2, 2, 3, 4))
    if rng.random() < 0.25:
        price = sum(rng.choice(types)["price"] for _ in range(rng.randint(1, 4)))
        rules["max_price"] = rng.choice((None, price, price, price))
    return rules


def _company(rng: Random, models: list[dict[str, Any]], size: int) -> list[str]:
    """Return a together list, mostly of replicas that there are."""
    replicas = [model["name"] for model in models for _ in range(model.get("replicas", 1))]
    if rng.random() < 0.85:
        return rng.sample(replicas, min(size, len(replicas)))
    return rng.choices([model["name"] for model in models], k=size)


def _interference(
    rng: Random, kind: str, models: list[dict[str, Any]], types: list[dict[str, Any]]
) -> dict[str, Any]:
    if kind == "none":
        return {"kind": "none"}
    names = [model["name"] for model in models]
    if kind == "pairwise":
        return _pair_table(rng, names, types)
    table: dict[str, Any] = {"kind": "groups", "slowdown": _listed_groups(rng, models, types)}
    if rng.random() < 0.5:
        table["missing"] = "pairwise"
        table["pairwise"] = _pair_table(rng, names, types)
    elif rng.random() < 0.5:
        table["missing"] = "forbid"
    return table


def _pair_table(rng: Random, names: list[str], types: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a pair table, either complete or with a default for the pairs it lacks."""
    density = rng.choice((1.0, 1.0, 0.6, 0.0))
    table: dict[str, Any] = {"kind": "pairwise"}
    if rng.random() < 0.7:
        table["combine"] = rng.choice(("sum", "product"))
    if density < 1.0 or rng.random() < 0.2:
        table["default"] = rng.choice((0.8, 1.0, 1.0, 1.3))
    table["slowdown"] = {
        vm_type: {
            target: {other: rng.choice(SLOWDOWNS) for other in names if rng.random() < density}
            for target in names
        }
        for vm_type in _speaking_types(rng, types)
    }
    return table


def _speaking_types(rng: Random, types: list[dict[str, Any]]) -> list[str]:
    """Return the VM types that a table names: all, or some and "*" for the others."""
    names = [vm_type["name"] for vm_type in types]
    if rng.random() < 0.5:
        return names
    return [*rng.sample(names, rng.randint(0, len(names))), "*"]


def _listed_groups(
    rng: Random, models: list[dict[str, Any]], types: list[dict[str, Any]]
) -> dict[str, list[dict[str, Any]]]:
    replicas = [model["name"] for model in models for _ in range(model.get("replicas", 1))]
    density = rng.choice((0.3, 0.6, 0.9))
    listed: dict[str, list[dict[str, Any]]] = {}
    for vm_type in _speaking_types(rng, types):
        groups = {
            group
            for size in range(1, min(4, len(replicas)) + 1)
            for group in combinations_with_replacement(sorted(set(replicas)), size)
            if rng.random() < (0.15 if size == 1 else density)
        }
        listed[vm_type] = [_entry(rng, group) for group in sorted(groups)]
    return listed


def _entry(rng: Random, group: tuple[str, ...]) -> dict[str, Any]:
    members = list(group)
    rng.shuffle(members)
    slowdown = {name: rng.choice(SLOWDOWNS) for name in sorted(set(members))}
    return {"models": members, "slowdown": [slowdown[name] for name in members]}
