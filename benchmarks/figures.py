"""The figures that the project promises, each beside the naive direct model in the same run.

`python benchmarks/figures.py [--smoke] [--only TEXT] [--naive-seconds S]` solves each case in a
process of its own (so that time and peak memory are its own), prints one table, and writes
benchmarks/results/figures.parquet. Every placement has passed the solver-free check.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import machine
from workloads import random_batch

import placer
from placer import Instance

HERE = Path(__file__).resolve().parent
SHARED = HERE.parents[1] / "shared" / "instances"
NAIVE = "cp-sat-direct"


@dataclass(frozen=True)
class Case:
    """One instance, the figure promised for it, and whether the naive model is tried on it."""

    name: str
    promise: str
    seconds: float
    build: dict[str, Any]
    naive: bool = True

    def instance(self) -> Instance:
        """Return the instance. Raises InputError where its file is absent."""
        if "file" in self.build:
            return placer.read_instance(SHARED / self.build["file"])
        return random_batch(**self.build)


def cases() -> list[Case]:
    """Return every case of the table, those whose files are absent left out."""
    found = [
        Case(f"{kinds} models, {label}", "proved, 2 s", 60, {"kinds": kinds, "combine": combine})
        for combine, label in (("sum", "pair costs"), ("product", "group costs, no sum of pairs"))
        for kinds in (20, 30, 40, 60)
    ]
    found += [
        Case(
            f"{replicas:,} replicas of {kinds} kinds, {'scarce' if scarce else 'unlimited'}",
            "proved, 5 s",
            60,
            {"kinds": kinds, "replicas": replicas, "scarce": scarce},
            naive=False,
        )
        for replicas in (1_000, 10_000)
        for kinds in (20, 50)
        for scarce in (False, True)
    ]
    shared = [
        ("qmc_vsbpp/qmc_01_n25_m10_d3.json", "proved 7746, 60 s"),
        ("qmc_vsbpp/qmc_07_n25_m10_d3.json", "proved 5666, 60 s"),
        ("bppc/BPPC_5_1_9.json", "proved, 60 s"),
        ("cloudbalancing/2computers-6processes.json", "gap 1 %, 60 s"),
        ("cloudbalancing/3computers-9processes.json", "gap 1 %, 60 s"),
        ("cloudbalancing/4computers-12processes.json", "gap 1 %, 60 s"),
        ("cloudbalancing/100computers-300processes.json", "gap 1 %, 60 s"),
        ("cloudbalancing/200computers-600processes.json", "gap 1 %, 60 s"),
    ]
    found += [
        Case(file.split("/")[1].removesuffix(".json"), promise, 60, {"file": file})
        for file, promise in shared
        if (SHARED / file).is_file()
    ]
    return found


def run_one(case: Case, solver: str, seconds: float, workers: int) -> dict[str, Any]:
    """Solve `case` in this process and return its row."""
    started = time.perf_counter()
    row: dict[str, Any] = {"case": case.name, "solver": solver, "promise": case.promise}
    try:
        result = placer.solve(
            case.instance(), solver=solver, time_limit=seconds, workers=workers, explain=False
        )
        row |= {
            "status": result.status.value,
            "objective": result.objective,
            "bound": result.bound,
            "gap": result.gap,
        }
    except placer.PlacerError as error:
        row |= {"status": f"refused: {error}", "objective": None, "bound": None, "gap": None}
    row["seconds"] = time.perf_counter() - started
    row["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return row


def run_apart(case: Case, solver: str, seconds: float, workers: int) -> dict[str, Any]:
    """Run one case in a process of its own."""
    command = [sys.executable, __file__, "--one", case.name, "--solver", solver]
    command += ["--seconds", str(seconds), "--workers", str(workers)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20 * seconds + 120)
    if done.returncode:
        return {"case": case.name, "solver": solver, "status": done.stderr.strip()[-200:]}
    row: dict[str, Any] = json.loads(done.stdout)
    return row


def show(row: dict[str, Any]) -> str:
    """Return `row` as one line of the table."""

    def number(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    gap = row.get("gap")
    return (
        f"{row['case']:52.52} {row['solver']:14} {row['status'][:22]:22} "
        f"{number(row.get('objective'), '.6g'):>12} {number(row.get('bound'), '.6g'):>12} "
        f"{'-' if gap is None else format(100 * gap, '.4f'):>9} "
        f"{number(row.get('seconds'), '.2f'):>8} {number(row.get('peak_mib'), '.0f'):>7}"
    )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="the smallest cases only")
    parser.add_argument("--only", default="", help="only cases whose name holds this text")
    parser.add_argument("--naive-seconds", type=float, default=60.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--solver", default="auto", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=60.0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    chosen = [case for case in cases() if options.only in case.name]
    if options.one:
        case = next(case for case in chosen if case.name == options.one)
        print(json.dumps(run_one(case, options.solver, options.seconds, options.workers)))
        return
    if options.smoke:
        chosen = [case for case in chosen if case.name.startswith(("20 models", "2computers"))]
        options.naive_seconds = 2.0
    print(machine.describe())
    print(
        f"{'case':52} {'solver':14} {'status':22} {'objective':>12} {'bound':>12} {'gap %':>9} "
        f"{'seconds':>8} {'MiB':>7}"
    )
    rows = []
    for case in chosen:
        runs = [("auto", case.seconds)] + ([(NAIVE, options.naive_seconds)] if case.naive else [])
        for solver, seconds in runs:
            rows.append(run_apart(case, solver, seconds, options.workers))
            print(show(rows[-1]), flush=True)
    save(rows, "figures_smoke" if options.smoke else "figures")


def save(rows: list[dict[str, Any]], name: str) -> None:
    """Write the rows with machine and versions to benchmarks/results/NAME.parquet."""
    import pandas as pd

    folder = HERE / "results"
    folder.mkdir(exist_ok=True)
    table = pd.DataFrame(rows).assign(machine=machine.describe())
    table.to_parquet(folder / f"{name}.parquet")


if __name__ == "__main__":
    main()
