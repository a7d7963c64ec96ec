"""Writes quickstart.json from the measured set: `python instances/make_quickstart.py [FOLDER]`.

Latencies alone and memory are the medians that instances/measured/broad holds; slowdowns come from
the built-in predictor, which was trained on the shipped sets. Prices, replicas, SLOs and weights
are chosen here.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from placer.interference.measurements import Measurements, read_measurements

HERE = Path(__file__).resolve().parent
PRICES = {"1-core": 0.034, "1.5-of-2-core": 0.049, "2-core": 0.068, "2-core-2-threads": 0.068}
COUNTS = {"1-core": 4, "1.5-of-2-core": 4, "2-core": 6, "2-core-2-threads": 6}
MEMORY_GIB = {"1-core": 2.0, "1.5-of-2-core": 3.0, "2-core": 4.0, "2-core-2-threads": 4.0}
DESCRIPTION = (
    "Nine inference models on four shapes of one two-core host; objective in USD per hour, where a "
    "replica running twice as slow as alone counts as 0.02. Latencies alone and memory were "
    "measured (instances/measured/broad); slowdowns are predictions of the built-in predictor, "
    "trained on measured groups; prices, replicas and SLOs are chosen."
)


@dataclass(frozen=True)
class Wish:
    """A model, its replicas, and its SLO as a multiple of the latency alone on 2-core, or None."""

    model: str
    replicas: int
    slo: float | None = None


BATCH = (
    Wish("resnet18", 3, 2.2),
    Wish("mobilenet_v2", 4, 2.5),
    Wish("efficientnet_b0", 3, 2.0),
    Wish("vit_small", 2, 1.6),
    Wish("minilm_l6", 4, 2.0),
    Wish("distilgpt2", 2),
    Wish("t5_small", 2, 2.5),
    Wish("whisper_tiny", 2, 1.5),
    Wish("magika", 2),
)


def solo(measured: Measurements, model: str, column: str) -> dict[str, float]:
    """Return a closed-loop solo figure of a model by VM type."""
    alone = measured.solo
    rows = alone[(alone["model"] == model) & alone["rate_rps"].isna()]
    return dict(zip(rows["vm_type"], rows[column], strict=True))


def quickstart(measured: Measurements) -> dict[str, Any]:
    """Return the instance as JSON data."""
    models = []
    for wish in BATCH:
        latency = {
            vm: round(v, 2) for vm, v in solo(measured, wish.model, "latency_ms_p50").items()
        }
        memory = max(solo(measured, wish.model, "memory_mib").values()) / 1024
        one: dict[str, Any] = {
            "name": wish.model,
            "replicas": wish.replicas,
            "demand": {"memory_gib": round(memory, 2)},
            "solo_latency_ms": {vm: latency[vm] for vm in PRICES},
        }
        if wish.slo is not None:
            one["slo_ms"] = round(wish.slo * latency["2-core"], 1)
        models.append(one)
    return {
        "format": "placer/instance",
        "version": 1,
        "name": "quickstart",
        "description": DESCRIPTION,
        "vm_types": [
            {"name": name, "capacity": {"memory_gib": MEMORY_GIB[name]}, "price": price,
             "count": COUNTS[name], "max_models": 6}
            for name, price in PRICES.items()
        ],
        "models": models,
        "interference": {"kind": "predictor", "predictor": "builtin"},
        "objective": {"price": 1.0, "degradation": 0.02, "slo": {"penalty": 0.2}},
    }  # fmt: skip


def main() -> None:
    """Write the file into a folder, beside this script where none is given."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    data = quickstart(read_measurements(HERE / "measured" / "broad"))
    (folder / "quickstart.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
