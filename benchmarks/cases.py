"""Batches with what is promised of them; each solver on each is a cell of a sweep."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import machine

from placer import Instance, write_instance
from placer.parallel import Workers
from placer.sweep import SweepPlan, sweep

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
SHARED = HERE.parents[1] / "shared" / "instances"
THREADS = 2


@dataclass(frozen=True)
class Case:
    """One batch, what is promised for it, in how many seconds, and what else is tried on it.

    build: `{"file": PATH}` below SHARED, or what the instance is made of.
    """

    name: str
    promise: str
    seconds: float
    build: dict[str, Any] = field(default_factory=dict)
    rivals: tuple[str, ...] = ()

    def made(self) -> Instance:
        """Return the instance that `build` describes."""
        from workloads import random_batch

        return random_batch(**self.build)

    def path(self) -> Path:
        """Return where the instance's file is."""
        if "file" in self.build:
            return SHARED / self.build["file"]
        words = "".join(c if c.isalnum() else " " for c in self.name.replace(",", "")).split()
        return RESULTS / "instances" / f"{'-'.join(words)}.json"

    def file(self) -> Path:
        """Return the instance's file, which is written where it is not a published one."""
        path = self.path()
        if "file" not in self.build:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_instance(path, self.made())
        return path


def show(
    cases: Iterable[Case],
    limits: Callable[[Case], dict[str, float]],
    results: str,
    widths: dict[str, int],
    *,
    again: bool,
) -> None:
    """Print one table: each case, and below it each of its solvers with these limits in seconds."""
    print(machine.describe())
    print("  ".join(f"{name:{width}}" for name, width in widths.items()))
    for case in cases:
        for solver, seconds in limits(case).items():
            print(cells(run(case, solver, seconds, results, again=again), widths), flush=True)


def run(case: Case, solver: str, seconds: float, results: str, *, again: bool) -> dict[str, Any]:
    """Return the row of one solver on one case, which is run where `results` does not hold it.

    Rows of a sweep, with the case's name and promise, and None for what is not known. "scip-direct"
    is the direct model by SCIP.
    """
    RESULTS.mkdir(exist_ok=True)
    options: dict[str, Any] = {"time_limit": seconds, "workers": THREADS}
    if solver.startswith("scip"):
        options["milp_solver"] = "scip"
    plan = SweepPlan(
        (str(case.file()),), (solver.replace("scip", "milp"),), {solver: options}, trace=True
    )
    frame = sweep(plan, RESULTS / f"{results}.parquet", Workers("threading", 1), again=again)
    return {"case": case.name, "promise": case.promise, "shown": solver} | known(frame)[0]


def known(frame: Any) -> list[dict[str, Any]]:
    """Return a sweep's rows with None for what is not known."""
    rows = frame.to_dict("records")
    return [
        {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}
        for row in rows
    ]


def stored(results: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the newest row of each instance file's name and solver that `results` holds."""
    import pandas as pd

    file = RESULTS / f"{results}.parquet"
    rows = known(pd.read_parquet(file).sort_values("started")) if file.is_file() else []
    return {(Path(row["file"]).stem, row["options"]): row for row in rows}


def cells(row: dict[str, Any], widths: dict[str, int]) -> str:
    """Return a row as one line of a table with these columns."""

    def number(value: Any, form: str) -> str:
        return "-" if value is None else format(value, form)

    gap = row.get("gap")
    shown = {
        "case": row["case"],
        "promise": row["promise"],
        "solver": row["shown"],
        "status": f"error: {row['error']}" if row["status"] == "error" else row["status"],
        "objective": number(row.get("objective"), ".8g"),
        "bound": number(row.get("bound"), ".8g"),
        "gap %": "-" if gap is None else f"{100 * gap:.6f}",
        "s": number(row.get("seconds"), ".2f"),
        "MiB": number(row.get("peak_mib"), ".0f"),
    }
    return "  ".join(f"{shown[name]:{width}.{width}}" for name, width in widths.items())
