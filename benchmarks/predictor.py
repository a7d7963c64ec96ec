"""Error of the unified predictor on held-out groups, beside the mean and an additive model.

`python benchmarks/predictor.py [--data FOLDER] [--only TEXT] [--smoke]` prints one table and
writes benchmarks/results/predictor.parquet. Figures are percent of the measured slowdown; no run
is on both sides of a split, and replicas that share one published reading count once. "by mean" are
the closed-loop runs of our own sets, their slowdowns of the mean time of a request: 1 / throughput.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import machine
import numpy as np
from slowdowns import closed_loop, read_by_mean

from placer.interference.evaluate import cross_validate
from placer.interference.measurements import Measurements, read_measurements
from placer.interference.predictor import Settings

HERE = Path(__file__).resolve().parent
PUBLISHED = HERE.parents[1] / "shared" / "data"
OWN = HERE.parent / "instances" / "measured"
SMOKE = Settings(trees=60, learning_rate=0.1, encoding_folds=4, calibration_folds=2)


@dataclass(frozen=True)
class Case:
    """What is held out of a data set, how it is asked for, and the error that is aimed at."""

    held_out: str
    split: dict[str, Any]
    target: float | None = None
    names: tuple[str, ...] = ()  # of held-out VM types to show apart


INNER = ("A100-MIG-2g", "A100-MIG-3g", "A100-MIG-4g")
ONE_MODEL = {"grouping": "model", "folds": None, "calibrate": False}
CASES = {
    "parvagpu": (
        Case("configurations, 5 folds", {"grouping": "configuration"}, 5.0),
        Case("one model (architecture and batch)", ONE_MODEL, 8.5),
        Case("models, 5 folds", {"grouping": "model"}),
        Case("one architecture", {"grouping": "family"}, 8.5),
        Case("degree 4-5, trained on 2-3", {"grouping": "degree"}, 5.5),
        Case("one VM type", {"grouping": "vm_type"}, 8.0, names=INNER),
        Case("one VM type but 10 runs", {"grouping": "vm_type", "calibration_runs": 10}, 8.0),
    ),
    "gavel_motivation": (
        Case("pairs on every GPU, 5 folds", {"grouping": "mix"}, 3.7),
        Case("one model (architecture and batch)", ONE_MODEL),
        Case("models, 5 folds", {"grouping": "model"}),
        Case("one architecture", {"grouping": "family"}, 15.0),
        Case("one VM type but 10 runs", {"grouping": "vm_type", "calibration_runs": 10}),
    ),
    "own": (
        Case("groups, 5 folds", {"grouping": "mix"}, 5.0),
        Case("one model", ONE_MODEL, 10.0),
        Case("models, 5 folds", {"grouping": "model"}),
        Case("degree 4-6, trained on 2-3", {"grouping": "degree"}, 8.0),
        Case("one VM type but 10 runs", {"grouping": "vm_type", "calibration_runs": 10}, 8.0),
        Case("one VM type", {"grouping": "vm_type"}),
    ),
}


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


def noise_floor(measurements: Measurements) -> float | None:
    """Return the error in percent of predicting a run by the median of its repeats; None if none.

    Repeats are runs of one configuration.
    """
    found = []
    targets = measurements.targets()
    key = ["configuration", "model", targets["rate_rps"].fillna(-1.0)]
    for values in targets.groupby(key)["slowdown"].apply(np.array):
        if len(values) > 1:
            for place, value in enumerate(values):
                found.append(abs(np.median(np.delete(values, place)) / value - 1.0))
    return 100.0 * float(np.mean(found)) if found else None


def measure(
    name: str, data: Measurements, case: Case, settings: Settings | None, folds: int
) -> Iterator[dict[str, Any]]:
    """Yield the rows of one case: all that was held out and, if asked for, some VM types apart."""
    start = time.perf_counter()
    found = cross_validate(data, **{"folds": folds, "settings": settings, **case.split})
    score = {one["predictor"]: one for one in found}
    unified = score["unified"]
    row = {
        "data": name,
        "held_out": case.held_out,
        "targets": unified["targets"],
        "mape": unified["mape"],
        "median_ape": unified["median_ape"],
        "aimed_at": None if case.names else case.target,
        "additive": score["additive"]["mape"],
        "mean": score["mean"]["mape"],
        "coverage": unified.get("coverage"),
        "noise_floor": noise_floor(data),
        "seconds": time.perf_counter() - start,
    }
    yield row
    if case.split["grouping"] == "vm_type":
        empty = dict.fromkeys(("median_ape", "additive", "mean", "coverage", "seconds"))
        for vm, error, count in unified["folds"]:
            aim = case.target if not case.names or vm in case.names else None
            yield row | empty | {"held_out": f"  {vm}", "mape": error, "targets": count,
                                 "aimed_at": aim}  # fmt: skip


def show(row: dict[str, Any]) -> str:
    """Return `row` as one line of the table."""

    def number(name: str, width: int, digits: int = 2) -> str:
        value = row[name]
        return f"{'-' if value is None else format(value, f'.{digits}f'):>{width}}"

    return (
        f"{row['data'] + ': ' + row['held_out']:56} {row['targets']:6d} {number('mape', 7)} "
        f"{number('aimed_at', 9, 1)} {number('median_ape', 8)} {number('additive', 9)} "
        f"{number('mean', 7)} {number('coverage', 9, 1)} {number('noise_floor', 6)} "
        f"{number('seconds', 8, 1)}"
    )


def closed_loop_by_mean(folder: Path) -> Measurements:
    """Return the runs of any degree whose replicas all ran back to back, by their mean times."""
    return closed_loop(read_by_mean(folder), most=np.inf)


Reader = Callable[[Path], Measurements]


def data_sets(published: Path) -> Iterator[tuple[str, Path, Reader, tuple[Case, ...]]]:
    """Yield name, folder, reader and cases of each data set that is there; say which are not."""
    folders: dict[str, tuple[Path, Reader]] = {
        name: (published / name, read_measurements) for name in ("parvagpu", "gavel_motivation")
    }
    for name in ("broad", "complete"):
        folders[f"own {name}"] = OWN / name, read_measurements
        folders[f"own {name} by mean"] = OWN / name, closed_loop_by_mean
    for name, (folder, reader) in folders.items():
        cases = CASES["own" if name.startswith("own") else name]
        if any((folder / f"measurements.{form}").is_file() for form in ("csv", "parquet")):
            yield name, folder, reader, cases
        else:
            print(f"(skipped {name}: no measurements in {folder.parent.name}/{folder.name})")


def save(rows: list[dict[str, Any]], name: str) -> None:
    """Write the rows with machine and versions to benchmarks/results/NAME.parquet."""
    import pandas as pd

    folder = HERE / "results"
    folder.mkdir(exist_ok=True)
    pd.DataFrame(rows).assign(machine=machine.describe()).to_parquet(folder / f"{name}.parquet")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=PUBLISHED, help="folder of published data")
    parser.add_argument("--only", default="", help="only rows whose label holds this text")
    parser.add_argument("--smoke", action="store_true", help="a quick run, to see that it works")
    options = parser.parse_args()
    print(machine.describe())
    if options.smoke:
        print("Smoke run: few trees and 2 folds; not the predictor's real figures.")
    settings, folds = (SMOKE, 2) if options.smoke else (None, 5)
    chosen = list(data_sets(options.data))
    print(f"{'data: held out':56} {'rows':>6} {'MAPE %':>7} {'aimed at':>9} {'median %':>8} "
          f"{'additive':>9} {'mean':>7} {'coverage':>9} {'noise':>6} {'seconds':>8}")  # fmt: skip
    rows = []
    for name, folder, read, cases in chosen:
        asked = [case for case in cases if options.only in f"{name}: {case.held_out}"]
        for case in asked[:1] if options.smoke else asked:
            for row in measure(name, read(folder), case, settings, folds):
                rows.append(row)
                print(show(row), flush=True)
    if not chosen:
        print("(a synthetic set stands in)")
        with tempfile.TemporaryDirectory() as made_up:
            write_synthetic(Path(made_up))
            case = Case("groups", {"grouping": "mix"})
            rows = list(measure("SYNTHETIC", read_measurements(made_up), case, settings, folds))
        print(show(rows[0]))
    if not options.only:
        save(rows, "predictor_smoke" if options.smoke else "predictor")


if __name__ == "__main__":
    main()
