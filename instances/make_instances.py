"""Writes synthetic-23.json and fleet-300.json: `python instances/make_instances.py [FOLDER]`.

Nothing in them is measured. Slowdowns come from a contention model that is as simple as it gets:
a replica waits for cores for the part of its time that it computes, and for memory traffic for
the rest. A co-runner takes `vcpu` of the VM's cores and `gbps` of its memory bandwidth, so

    slowdown(target beside other) = 1 + (1 - memory_share) * other.vcpu / vm.vcpu
                                      + memory_share * other.gbps / vm.gbps

and several co-runners add up. Solo latency falls with a VM's cores as Amdahl's law says, with
PARALLEL of the work in parallel.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

PARALLEL = 0.6
"""Share of one request's work that more than two cores speed up."""

LABEL = (
    "Slowdowns are synthetic (made by instances/make_instances.py from a contention model), "
    "demands and latencies are typical figures, prices are typical on-demand prices; nothing here "
    "was measured."
)


@dataclass(frozen=True)
class Shape:
    """A VM type: cores, memory in GiB, memory bandwidth in GB/s, price in USD per hour."""

    name: str
    vcpu: float
    memory_gib: float
    gbps: float
    price: float


@dataclass(frozen=True)
class Profile:
    """One replica of a model: cores and GiB it takes, latency in ms alone on 2 vCPU, memory
    traffic in GB/s, and the share of its time that it spends on memory rather than cores."""

    name: str
    vcpu: float
    memory_gib: float
    latency_ms: float
    gbps: float
    memory_share: float


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("c2", 2, 4, 12, 0.085),
        Shape("c4", 4, 8, 24, 0.170),
        Shape("c8", 8, 16, 48, 0.340),
        Shape("m8", 8, 32, 48, 0.384),
        Shape("r4", 4, 32, 30, 0.252),
    )
}

PROFILES = {
    profile.name: profile
    for profile in (
        Profile("resnet18", 0.40, 0.30, 24, 1.5, 0.25),
        Profile("resnet50", 0.60, 0.45, 47, 2.0, 0.20),
        Profile("resnet101", 0.90, 0.65, 88, 2.5, 0.20),
        Profile("mobilenet_v2", 0.20, 0.15, 9, 3.5, 0.75),
        Profile("mobilenet_v3_small", 0.15, 0.12, 4, 2.5, 0.70),
        Profile("efficientnet_b0", 0.30, 0.20, 16, 4.5, 0.75),
        Profile("efficientnet_b2", 0.45, 0.30, 29, 5.5, 0.75),
        Profile("efficientnet_b4", 0.75, 0.50, 75, 7.0, 0.70),
        Profile("densenet121", 0.55, 0.35, 42, 7.5, 0.85),
        Profile("squeezenet", 0.20, 0.10, 7, 2.0, 0.50),
        Profile("shufflenet_v2", 0.15, 0.10, 5, 2.5, 0.70),
        Profile("inception_v3", 0.65, 0.45, 55, 2.0, 0.20),
        Profile("vit_small", 0.60, 0.40, 60, 1.0, 0.05),
        Profile("vit_base", 1.10, 0.80, 165, 1.5, 0.05),
        Profile("yolov5n", 0.35, 0.25, 28, 2.5, 0.45),
        Profile("yolov5s", 0.75, 0.45, 72, 3.5, 0.40),
        Profile("yolov5m", 1.25, 0.75, 165, 4.5, 0.40),
        Profile("ssd_mobilenet", 0.35, 0.25, 25, 4.0, 0.70),
        Profile("bert_tiny", 0.10, 0.15, 2, 0.3, 0.10),
        Profile("bert_mini", 0.20, 0.25, 6, 0.5, 0.10),
        Profile("bert_base", 1.00, 1.10, 96, 1.5, 0.05),
        Profile("bert_large", 1.80, 2.90, 320, 3.0, 0.15),
        Profile("distilbert", 0.55, 0.70, 49, 1.0, 0.05),
        Profile("roberta_base", 1.00, 1.20, 98, 1.5, 0.05),
        Profile("minilm_l6", 0.25, 0.30, 13, 0.5, 0.10),
        Profile("gpt2", 0.80, 1.40, 210, 9.0, 0.95),
        Profile("t5_small", 0.60, 0.80, 120, 6.5, 0.85),
        Profile("whisper_tiny", 0.70, 0.70, 380, 7.0, 0.85),
        Profile("whisper_base", 1.10, 1.10, 720, 8.0, 0.85),
        Profile("wav2vec2_base", 0.95, 1.30, 260, 3.0, 0.30),
    )
}


@dataclass(frozen=True)
class Service:
    """What is asked of one model: replicas, requests per second each, SLO as a multiple of the
    latency alone on c2 (None: no SLO), weight."""

    replicas: int
    rate_rps: float
    slo_factor: float | None
    weight: float


SMALL = {
    "resnet50": Service(4, 5.0, 1.8, 1.0),
    "mobilenet_v2": Service(3, 20.0, None, 1.0),
    "efficientnet_b0": Service(3, 12.0, 2.0, 1.0),
    "yolov5s": Service(3, 4.0, 0.9, 2.0),
    "bert_base": Service(3, 3.0, 0.9, 2.0),
    "distilbert": Service(3, 6.0, 1.6, 1.0),
    "gpt2": Service(2, 1.0, 1.4, 1.0),
    "whisper_tiny": Service(2, 0.5, None, 0.5),
}


def slowdown(shape: Shape, target: Profile, other: Profile) -> float:
    """Return how much slower `target` runs beside one `other`, by the model above."""
    cores = (1 - target.memory_share) * other.vcpu / shape.vcpu
    traffic = target.memory_share * other.gbps / shape.gbps
    return round(1 + cores + traffic, 3)


def solo_latency_ms(shape: Shape, profile: Profile) -> float:
    """Return the latency of a lone replica, by Amdahl's law from its latency on 2 vCPU."""
    return round(profile.latency_ms * (1 - PARALLEL + PARALLEL * 2 / shape.vcpu), 1)


def instance(
    name: str,
    description: str,
    counts: dict[str, int | None],
    services: dict[str, Service],
    degradation: float,
    slo_penalty: float,
    max_models: dict[str, int],
) -> dict[str, Any]:
    """Return an instance's JSON object. `degradation` is the USD per hour that one replica's
    running twice as slow as alone is worth, `slo_penalty` that of one that misses its SLO;
    `counts` names the VM types and how many there are."""
    shapes = [SHAPES[vm_type] for vm_type in counts]
    profiles = [PROFILES[model] for model in services]
    return {
        "format": "placer/instance",
        "version": 1,
        "name": name,
        "description": f"{description} {LABEL}",
        "vm_types": [
            {
                "name": shape.name,
                "capacity": {"vcpu": shape.vcpu, "memory_gib": shape.memory_gib},
                "price": shape.price,
                "count": counts[shape.name],
                "max_models": max_models[shape.name],
            }
            for shape in shapes
        ],
        "models": [model(services[p.name], p, shapes) for p in profiles],
        "interference": {
            "kind": "pairwise",
            "combine": "sum",
            "slowdown": {
                shape.name: {
                    target.name: {other.name: slowdown(shape, target, other) for other in profiles}
                    for target in profiles
                }
                for shape in shapes
            },
        },
        "objective": {
            "price": 1.0,
            "degradation": degradation,
            "slo": {"penalty": slo_penalty},
        },
        "rules": {},
    }


def model(service: Service, profile: Profile, shapes: list[Shape]) -> dict[str, Any]:
    """Return one entry of an instance's models."""
    entry: dict[str, Any] = {
        "name": profile.name,
        "replicas": service.replicas,
        "demand": {"vcpu": profile.vcpu, "memory_gib": profile.memory_gib},
        "weight": service.weight,
        "rate_rps": service.rate_rps,
        "solo_latency_ms": {shape.name: solo_latency_ms(shape, profile) for shape in shapes},
    }
    if service.slo_factor is not None:
        entry["slo_ms"] = round(service.slo_factor * profile.latency_ms)
    return entry


def synthetic() -> dict[str, Any]:
    """Return eight well-known models, 23 replicas, on three VM types without limit."""
    return instance(
        "synthetic-23",
        "Eight inference models on three VM types; objective in USD per hour, where a replica "
        "running twice as slow as alone counts as 0.03 and one that misses its SLO as 0.20, "
        "both times its weight.",
        {"c2": None, "c4": None, "c8": None},
        SMALL,
        degradation=0.03,
        slo_penalty=0.2,
        max_models={"c2": 4, "c4": 6, "c8": 10},
    )


def fleet() -> dict[str, Any]:
    """Return thirty models, 300 replicas, on four VM types of which too few are cheap."""
    rng = Random(300)
    replicas = dict.fromkeys(PROFILES, 3)
    for name in rng.choices(list(PROFILES), k=300 - 3 * len(PROFILES)):
        replicas[name] += 1
    services = {
        name: Service(
            replicas=count,
            rate_rps=round(300 / PROFILES[name].latency_ms, 1),
            slo_factor=rng.choice((None, None, 1.6, 1.8, 2.0, 2.5)),
            weight=rng.choice((0.5, 1.0, 1.0, 2.0)),
        )
        for name, count in replicas.items()
    }
    return instance(
        "fleet-300",
        "Three hundred replicas of thirty inference models on four VM types, of each of which "
        "there are too few for the whole fleet; objective in USD per hour, where a replica running "
        "twice as slow as alone counts as 0.02 and one that misses its SLO as 0.10, both times "
        "its weight.",
        {"c2": 40, "c4": 20, "m8": 6, "r4": 10},
        services,
        degradation=0.02,
        slo_penalty=0.1,
        max_models={"c2": 4, "c4": 5, "m8": 5, "r4": 5},
    )


def text_of(data: Any, depth: int = 0, lines: int = 4) -> str:
    """Return JSON with one line for each row of a table: objects of plain values stay whole."""
    nested = isinstance(data, dict | list) and depth < lines
    values = list(data.values() if isinstance(data, dict) else data) if nested else []
    if not any(isinstance(value, dict | list) for value in values) or is_row(data):
        return json.dumps(data)
    pad, end = "  " * (depth + 1), "  " * depth
    if isinstance(data, dict):
        inner = [f"{json.dumps(k)}: {text_of(v, depth + 1, lines)}" for k, v in data.items()]
        return "{\n" + ",\n".join(pad + line for line in inner) + f"\n{end}}}"
    return "[\n" + ",\n".join(pad + text_of(v, depth + 1, lines) for v in data) + f"\n{end}]"


def is_row(data: Any) -> bool:
    """Return whether `data` is an entry of vm_types or models, which has its own line."""
    return isinstance(data, dict) and ("demand" in data or "capacity" in data)


def texts() -> dict[str, str]:
    """Return the content of each file by its name."""
    return {f"{data['name']}.json": text_of(data) + "\n" for data in (synthetic(), fleet())}


def main(folder: Path) -> None:
    """Write the files into `folder`."""
    for name, text in texts().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
