"""Synthetic batches for the benchmarks: deterministic by seed, labelled as synthetic."""

from __future__ import annotations

import random
from typing import Any

from placer import Instance

_TYPES = (
    # name, vcpu, memory in GiB, network in Gbit/s, price per hour, slowdown factor
    ("small", 4, 8, 5, 0.17, 1.25),
    ("medium", 8, 32, 10, 0.38, 1.0),
    ("large", 16, 64, 12.5, 0.77, 0.8),
    ("compute", 16, 32, 12.5, 0.68, 0.9),
)


def random_batch(
    kinds: int,
    *,
    replicas: int = 1,
    degree: int = 4,
    seed: int = 0,
    combine: str = "sum",
    scarce: bool = False,
) -> Instance:
    """Return a synthetic batch of `kinds` models over 4 VM types and 3 resources.

    `replicas` is the total, spread unevenly over the kinds. `combine` is "sum" (pair costs) or
    "product" (a group cost that is no sum of pairs). `scarce` limits the count of each VM type.
    """
    rng = random.Random(f"{kinds}/{replicas}/{degree}/{seed}")
    models = [_model(rng, k) for k in range(kinds)]
    pressure = [rng.uniform(0.05, 1.0) for _ in models]
    sensitivity = [rng.uniform(0.1, 1.0) for _ in models]
    for model, share in zip(models, _shares(rng, kinds, max(replicas, kinds)), strict=True):
        model["replicas"] = share
    slowdown = {}
    for name, *_, factor in _TYPES:
        slowdown[name] = {
            a["name"]: {
                b["name"]: round(
                    1 + factor * sensitivity[i] * pressure[j] * rng.uniform(0.6, 1.4), 4
                )
                for j, b in enumerate(models)
            }
            for i, a in enumerate(models)
        }
    return Instance.from_dict(
        {
            "name": f"synthetic-{kinds}-kinds-{max(replicas, kinds)}-{combine}",
            "description": "synthetic benchmark batch; nothing in it was measured",
            "vm_types": [
                {
                    "name": name,
                    "capacity": {"vcpu": vcpu, "memory_gib": memory, "network_gbps": network},
                    "price": price,
                    "max_models": degree,
                    "count": _count(max(replicas, kinds), position) if scarce else None,
                }
                for position, (name, vcpu, memory, network, price, _) in enumerate(_TYPES)
            ],
            "models": models,
            "interference": {"kind": "pairwise", "combine": combine, "slowdown": slowdown},
            "objective": {"price": 1.0, "degradation": 0.15},
        }
    )


def _model(rng: random.Random, k: int) -> dict[str, Any]:
    return {
        "name": f"m{k}",
        "demand": {
            "vcpu": round(rng.uniform(0.5, 6.0), 2),
            "memory_gib": round(rng.uniform(0.5, 14.0), 2),
            "network_gbps": round(rng.uniform(0.1, 4.0), 2),
        },
        "weight": round(rng.uniform(0.5, 2.0), 2),
    }


def _shares(rng: random.Random, kinds: int, total: int) -> list[int]:
    weights = [rng.uniform(0.2, 1.0) for _ in range(kinds)]
    rest = total - kinds
    shares = [1 + int(rest * w / sum(weights)) for w in weights]
    for k in range(total - sum(shares)):
        shares[k % kinds] += 1
    return shares


def _count(replicas: int, position: int) -> int:
    """Return a count under which the cheap types run out and the whole still fits."""
    return max(1, int(replicas * (0.06, 0.14, 0.12, 0.14)[position]))
