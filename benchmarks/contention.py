"""A made-up data set of every group up to a degree: cores as the bottleneck, then bandwidth."""

from __future__ import annotations

from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np

NOISE = 0.02
REPEATED_SHARE, REPEATS = 0.03, 3
# name: cores, threads of a replica
SHAPES = {"1-core": (1, 1), "2-core": (2, 1), "2-core-2-threads": (2, 2)}


class Contention:
    """Slowdowns with thresholds: nothing until the cores, then the bandwidth, are all in use."""

    def __init__(self, kinds: int, random: np.random.Generator) -> None:
        self.names = [f"model{place}" for place in range(kinds)]
        self.solo_ms = dict(zip(self.names, np.geomspace(8.0, 90.0, kinds), strict=True))
        self.bandwidth = dict(zip(self.names, random.uniform(0.05, 0.5, kinds), strict=True))
        self.sensitivity = dict(zip(self.names, random.uniform(0.1, 1.2, kinds), strict=True))

    def solo(self, shape: str, model: str) -> float:
        """Return the latency in ms of a model alone."""
        return float(self.solo_ms[model] / SHAPES[shape][1] ** 0.8)

    def slowdown(self, shape: str, group: tuple[str, ...], model: str) -> float:
        """Return the slowdown of a member of a group."""
        cores, threads = SHAPES[shape]
        crowd = max(1.0, len(group) * threads / cores)
        pressure = threads * sum(self.bandwidth[one] for one in group) / crowd
        bus = 1.0 + self.sensitivity[model] * max(0.0, pressure - 0.4)
        switching = 1.0 + 0.05 * self.sensitivity[model] * max(0.0, crowd - 1.0)
        return float((1.0 + 0.02 * (len(group) - 1)) * crowd * bus * switching)


def write_complete(folder: Path, kinds: int = 8, degree: int = 4, seed: int = 0) -> None:
    """Write the folder: three solo runs each, every group once, some of them three times."""
    random = np.random.default_rng(seed)
    made = Contention(kinds, random)
    lines = ["run,vm_type,model,latency_ms_p50,cpu_util,source"]
    for shape, (_, threads) in SHAPES.items():
        groups = [(name,) for name in made.names for _ in range(3)]
        for size in range(2, degree + 1):
            groups += combinations_with_replacement(made.names, size)
        again = [g for g in groups if len(g) > 1 and random.random() < REPEATED_SHARE]
        for number, group in enumerate([*groups, *again * (REPEATS - 1)]):
            shift = random.normal(0.0, NOISE)  # what all replicas of a run have in common
            for model in group:
                slowdown = made.slowdown(shape, group, model) if len(group) > 1 else 1.0
                noise = np.exp(shift + random.normal(0.0, NOISE))
                latency = made.solo(shape, model) * slowdown * noise
                lines.append(f"{shape}-{number},{shape},{model},{latency:.6g},{threads},made-up")
    tables = {
        "measurements": lines,
        "models": ["model,gflops,weights_mib"]
        + [f"{m},{made.solo_ms[m] / 20:.4g},{100 * made.bandwidth[m]:.4g}" for m in made.names],
        "vm_types": ["vm_type,vcpu,threads_per_replica"]
        + [f"{shape},{cores},{threads}" for shape, (cores, threads) in SHAPES.items()],
    }
    for name, text in tables.items():
        (folder / f"{name}.csv").write_text("\n".join(text) + "\n", encoding="utf-8")
