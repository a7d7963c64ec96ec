"""Error of the unified predictor on held-out groups, beside the mean and an additive model.

`python benchmarks/predictor.py [--data FOLDER] [--smoke]` prints one table. Figures are percent
of the measured slowdown; no run is on both sides of a split.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np

from placer.interference.evaluate import cross_validate
from placer.interference.measurements import Measurements, read_measurements
from placer.interference.predictor import Settings

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
# data set, what is held out, grouping
CASES = (
    ("parvagpu", "configurations, 5 folds", "configuration"),
    ("parvagpu", "models, 5 folds", "model"),
    ("parvagpu", "degree 4 and 5, trained on 2 and 3", "degree"),
    ("gavel_motivation", "pairs on every GPU, 5 folds", "mix"),
    ("gavel_motivation", "models, 5 folds", "model"),
)
SMOKE = Settings(trees=60, learning_rate=0.2, depth=4, encoding_folds=4, calibration_folds=2)


def write_synthetic(folder: Path, seed: int = 0, runs: int = 150) -> None:
    """Write a small made-up folder: groups of 2 to 4 of six models on three VM types."""
    random = np.random.default_rng(seed)
    demand = {f"model{place}": 0.1 + 0.25 * place for place in range(6)}
    cores = {"small": 2, "medium": 4, "large": 8}
    lines = ["run,vm_type,model,latency_ms_p50"]
    for vm, count in cores.items():
        lines += [f"solo {vm} {m},{vm},{m},{40 * d / count**0.5}" for m, d in demand.items()]
    for run in range(runs):
        vm = str(random.choice(list(cores)))
        group = [f"model{place}" for place in random.integers(0, 6, random.integers(2, 5))]
        filled = 2.2 * sum(demand[m] for m in group) / cores[vm]
        for m in group:
            slowdown = max(1 + 0.05 * (len(group) - 1), filled) * random.lognormal(0, 0.02)
            lines.append(f"{run},{vm},{m},{40 * demand[m] / cores[vm] ** 0.5 * slowdown}")
    tables = {
        "measurements": lines,
        "models": ["model,demand", *(f"{m},{d}" for m, d in demand.items())],
        "vm_types": ["vm_type,vcpu", *(f"{vm},{count}" for vm, count in cores.items())],
    }
    for name, text in tables.items():
        (folder / f"{name}.csv").write_text("\n".join(text) + "\n")


def show(
    label: str, measurements: Measurements, grouping: str, folds: int, settings: Settings | None
) -> None:
    """Print one row: the errors of the three predictors and the bound's coverage."""
    start = time.perf_counter()
    found = cross_validate(measurements, folds, grouping, settings=settings)
    score = {one["predictor"]: one for one in found}
    unified = score["unified"]
    print(
        f"{label:56} {unified['targets']:6d} {unified['mape']:8.2f} {unified['median_ape']:8.2f} "
        f"{score['additive']['mape']:9.2f} {score['mean']['mape']:7.2f} "
        f"{unified['coverage']:9.1f} {time.perf_counter() - start:7.1f}",
        flush=True,
    )


def main() -> None:
    """Run the benchmark."""
    import xgboost

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with the data sets")
    parser.add_argument("--smoke", action="store_true", help="a quick run, to see that it works")
    options = parser.parse_args()
    print(f"{platform.platform()}, {platform.machine()}, {os.cpu_count()} cores; "
          f"Python {platform.python_version()}, numpy {np.__version__}, "
          f"xgboost {xgboost.__version__}")  # fmt: skip
    if options.smoke:
        print("Smoke run: few trees and 2 folds; not the predictor's real figures.")
    settings, folds = (SMOKE, 2) if options.smoke else (None, 5)
    print(f"{'data: held out':56} {'rows':>6} {'MAPE %':>8} {'median %':>8} {'additive':>9} "
          f"{'mean':>7} {'coverage':>9} {'seconds':>7}")  # fmt: skip
    cases = [case for case in CASES if (options.data / case[0]).is_dir()]
    if options.smoke:
        cases = [case for case in cases if case[2] in ("configuration", "mix")]
    for name, held_out, grouping in cases:
        label = f"{name}: {held_out if not options.smoke else held_out.split(',')[0]}"
        show(label, read_measurements(options.data / name), grouping, folds, settings)
    if not cases:
        print(f"(no data sets in {options.data}: a synthetic set stands in)")
        with tempfile.TemporaryDirectory() as folder:
            write_synthetic(Path(folder))
            show("SYNTHETIC: groups", read_measurements(folder), "mix", folds, settings)


if __name__ == "__main__":
    main()
