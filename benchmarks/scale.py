"""The figures promised for large batches, each beside simpler ways to solve it in the same run.

`python benchmarks/scale.py [--smoke] [--only TEXT] [--rivals-seconds S]` solves each case
in a process of its own, one after another, prints one table, and writes every row, with machine and
versions, to benchmarks/results/scale.parquet and how the gap fell to scale_progress.parquet.
`--plot` draws docs/images/scale.svg from what is there (needs matplotlib), `--markdown` prints it.
Rivals: the direct
assignment model by CP-SAT, by HiGHS and, where PySCIPOpt is installed, by SCIP; greedy, and local
search. Every placement has passed the
solver-free check. The batches are synthetic, but for the published sets beside this repository.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import resource
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import machine
from figures import SHARED, save
from workloads import random_batch

import placer
from placer import Instance

HERE = Path(__file__).resolve().parent
RIVALS = ("cp-sat-direct", "milp-direct", "scip-direct", "greedy", "local")
PEERS = RIVALS[:3]  # that can prove something; they run on the smallest published instances too
COLUMNS = (
    ("case", 38), ("promise", 22), ("solver", 14), ("status", 10), ("objective", 12), ("gap %", 11),
    ("s", 7), ("MiB", 6),
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One batch, what is promised for it, and in how many seconds."""

    name: str
    promise: str
    seconds: float
    build: dict[str, Any] = field(default_factory=dict)
    rivals: tuple[str, ...] = RIVALS

    def instance(self) -> Instance:
        """Return the instance."""
        if "file" in self.build:
            return placer.read_instance(SHARED / self.build["file"])
        if "measured" in self.build:
            return measured_batch(**self.build["measured"])
        return random_batch(**self.build)


def measured_batch(kinds: int, replicas: int, degree: int, table: bool, slo: bool) -> Instance:
    """Return a batch of measured models on measured VM types, by predictor or by its table."""
    data = placer.read_instance(HERE.parent / "instances" / "quickstart.json").to_dict()
    data["models"] = data["models"][:kinds]
    for number, model in enumerate(data["models"]):
        model["replicas"] = replicas // kinds + (number < replicas % kinds)
        if not slo:
            model.pop("slo_ms", None)
    for vm_type in data["vm_types"]:
        vm_type["max_models"] = degree
        vm_type["count"] = None
    data["name"] = f"measured-{kinds}-{replicas}" + ("-table" if table else "")
    instance = Instance.from_dict(data)
    return tabulated(instance, degree) if table else instance


def tabulated(instance: Instance, degree: int) -> Instance:
    """Return the instance with the predictor's slowdowns of every group in a table."""
    from itertools import combinations_with_replacement

    import numpy as np

    from placer.interference.binding import bound_predictor

    bound, names = bound_predictor(instance), [m.name for m in instance.models]
    table: dict[str, list[dict[str, Any]]] = {}
    for t, vm_type in enumerate(instance.vm_types):
        table[vm_type.name] = []
        for size in range(2, degree + 1):
            groups = np.array(list(combinations_with_replacement(range(len(names)), size)))
            for group, values in zip(groups, bound.slowdown(t, groups), strict=True):
                table[vm_type.name].append(
                    {"models": [names[k] for k in group], "slowdown": values.tolist()}
                )
    data = instance.to_dict() | {"interference": {"kind": "groups", "slowdown": table}}
    return Instance.from_dict(data)


def cases() -> list[Case]:
    """Return every case, those whose files are absent left out."""
    found = [
        Case("100 distinct", "proved, 30 s", 30, {"kinds": 100}),
        Case("300 distinct", "0.01 %, 120 s", 120, {"kinds": 300}),
        Case("1,000 distinct", "0.2 %, 300 s", 300, {"kinds": 1000}),
        Case("10,000 of 200 kinds", "0.0001 %, 10 s", 10, {"kinds": 200, "replicas": 10_000}),
        Case("100,000 of 500 kinds, degree 6", "0.01 %, 120 s", 120,
             {"kinds": 500, "replicas": 100_000, "degree": 6}),
        Case("1,000,000 of 200 kinds", "0.0001 %, 20 s", 20,
             {"kinds": 200, "replicas": 1_000_000}),
        Case("10,000,000 of 200 kinds", "none", 30,
             {"kinds": 200, "replicas": 10_000_000}, rivals=()),
        Case("1,000,000,000 of 200 kinds", "none", 30,
             {"kinds": 200, "replicas": 1_000_000_000}, rivals=()),
        Case("100 distinct, scarce", "proved, 90 s", 90, {"kinds": 100, "scarce": True}),
        Case("300 distinct, scarce", "0.01 %, 360 s", 360, {"kinds": 300, "scarce": True}),
        Case("1,000 distinct, scarce", "0.2 %, 900 s", 900, {"kinds": 1000, "scarce": True}),
        Case("10,000 of 200 kinds, scarce", "0.0001 %, 30 s", 30,
             {"kinds": 200, "replicas": 10_000, "scarce": True}),
        Case("100,000 of 500 kinds, degree 6, scarce", "0.01 %, 360 s", 360,
             {"kinds": 500, "replicas": 100_000, "degree": 6, "scarce": True}),
        Case("1,000,000 of 200 kinds, scarce", "0.0001 %, 60 s", 60,
             {"kinds": 200, "replicas": 1_000_000, "scarce": True}),
    ]  # fmt: skip
    for slo in (False, True):
        for table in (True, False):
            name = f"10,000 of 9 measured{', SLOs' * slo}, {'table' if table else 'predictor'}"
            promise = "the table's time" if table else "3 x the table's time"
            build = {"kinds": 9, "replicas": 10_000, "degree": 5, "table": table, "slo": slo}
            found.append(Case(name, promise, 60, {"measured": build}, rivals=()))
    return found + published()


def published() -> list[Case]:
    """Return the published sets' cases with the best objective known to their sources."""
    best = SHARED / "qmc_vsbpp" / "BEST.csv"
    if not best.is_file():
        print(f"without {best.parent}: its cases are left out")
        return []
    found = []
    with best.open(newline="") as stream:
        for row in sorted(csv.DictReader(stream), key=lambda row: row["instance"]):
            known = float(row["best_known"]) - float(row["add_to_objective"])
            promise = f"best known {known:.0f}"
            promise += ", proved" if "_n25_" in row["instance"] else ""
            file = f"qmc_vsbpp/{row['instance']}.json"
            if (SHARED / file).is_file():
                rivals = PEERS if "_n25_" in row["instance"] else ()
                found.append(Case(row["instance"], promise, 300, {"file": file}, rivals=rivals))
    return found


def run_one(case: Case, solver: str, seconds: float) -> dict[str, Any]:
    """Solve a case in this process and return its row, how the gap fell with it."""
    instance = case.instance()
    trace: list[tuple[float, float | None, float | None]] = []

    def watch(progress: placer.Progress) -> None:
        trace.append((progress.seconds, progress.objective, progress.bound))

    row: dict[str, Any] = {"case": case.name, "solver": solver, "promise": case.promise}
    started = time.perf_counter()
    try:
        result = placer.solve(
            instance, solver=solver.replace("scip", "milp"), time_limit=seconds, workers=2,
            milp_solver="scip" if solver.startswith("scip") else "highs",
            on_progress=watch, explain=False,
        )  # fmt: skip
        row |= {"status": result.status.value, "objective": result.objective,
                "bound": result.bound, "gap": result.gap}  # fmt: skip
    except placer.PlacerError as error:
        row |= {"status": "refused", "error": str(error)}
    row["seconds"] = time.perf_counter() - started
    row["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    row["trace"] = trace
    return row


def run_apart(case: Case, solver: str, seconds: float) -> dict[str, Any]:
    """Run one case in a process of its own."""
    command = [sys.executable, __file__, "--one", case.name, "--solver", solver]
    done = subprocess.run(
        [*command, "--seconds", str(seconds)], capture_output=True, text=True,
        timeout=3 * seconds + 600,
    )  # fmt: skip
    if done.returncode:
        return {"case": case.name, "solver": solver, "promise": case.promise,
                "status": "failed", "error": done.stderr.strip()[-300:], "trace": []}  # fmt: skip
    row: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return row


def show(row: dict[str, Any]) -> str:
    """Return a row as one line of the table."""

    def number(value: Any, form: str) -> str:
        return "-" if value is None else format(value, form)

    gap = row.get("gap")
    cells = [
        row["case"], row["promise"], row["solver"], row["status"],
        number(row.get("objective"), ".8g"), "-" if gap is None else f"{100 * gap:.6f}",
        number(row.get("seconds"), ".1f"), number(row.get("peak_mib"), ".0f"),
    ]  # fmt: skip
    return "  ".join(
        f"{cell:{width}.{width}}" for cell, (_, width) in zip(cells, COLUMNS, strict=True)
    )


def plot(names: tuple[str, ...] = ("100 distinct", "300 distinct", "1,000 distinct")) -> None:
    """Draw gap against time for synthetic cases from the results at hand."""
    import matplotlib.pyplot as plt
    import pandas as pd

    rows = pd.read_parquet(HERE / "results" / "scale_progress.parquet")
    figure, axes = plt.subplots(figsize=(7, 4))
    for (case, solver), part in rows.groupby(["case", "solver"]):
        if case in names and solver in ("auto", "cp-sat-direct"):
            gap = 100 * (part["objective"] - part["bound"]) / part["objective"].abs()
            style = "-" if solver == "auto" else "--"
            axes.step(part["seconds"], gap, style, where="post", label=f"{case}, {solver}")
    axes.set(xlabel="seconds", ylabel="proven gap, %", yscale="log", xscale="log")
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(HERE.parent / "docs" / "images" / "scale.svg", metadata={"Date": None})


def markdown() -> None:
    """Print the stored rows as a table: ours, and how far rivals are above our objective."""
    rows = known("scale")
    by_case = {(row["case"], row["solver"]): row for row in rows}
    print("| batch | asked | proved, or gap | s | MiB | " + " | ".join(RIVALS) + " |")
    print("| --- " * (5 + len(RIVALS)) + "|")
    for (case, solver), row in by_case.items():
        if solver != "auto":
            continue
        gap = row.get("gap")
        found = "proved" if gap is not None and gap <= 1e-9 else (
            "no placement" if row.get("objective") is None else
            "no bound" if gap is None else f"{100 * gap:.2g} %"
        )  # fmt: skip
        if case.startswith("qmc"):
            found = f"{row['objective']:.0f}, {found}"
        above = []
        for rival in RIVALS:
            other = by_case.get((case, rival))
            if other is None or other.get("objective") is None:
                above.append("-" if other is None else other["status"])
            else:
                share = other["objective"] / row["objective"] - 1.0
                proved = ", proved" if other["status"] == "optimal" else ""
                above.append(f"{100 * share:+.1f} %{proved}")
        print(f"| {case} | {row['promise']} | {found} | {row['seconds']:.1f} | "
              f"{row['peak_mib']:.0f} | {' | '.join(above)} |")  # fmt: skip


def known(name: str) -> list[dict[str, Any]]:
    """Return the rows of earlier runs that are stored by this name, without their progress."""
    import pandas as pd

    file = HERE / "results" / f"{name}.parquet"
    if not file.is_file():
        return []
    frame = pd.read_parquet(file).drop(columns="machine")
    return [
        {str(k): v for k, v in row.items()}
        for row in frame.astype(object).where(frame.notna(), None).to_dict("records")
    ]


def merged(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the old rows of what was not run anew, and the new ones."""
    anew = {(row["case"], row["solver"]) for row in new}
    return [row for row in old if (row["case"], row["solver"]) not in anew] + new


def store(rows: list[dict[str, Any]], name: str) -> None:
    """Write the rows, and how each gap fell, as Parquet, beside those of other cases."""
    progress = [
        {"case": row["case"], "solver": row["solver"], "seconds": s, "objective": o, "bound": b}
        for row in rows
        for s, o, b in row.get("trace", [])
    ]
    plain = [{k: v for k, v in row.items() if k != "trace"} for row in rows]
    save(merged(known(name), plain), name)
    if progress:
        save(merged(known(f"{name}_progress"), progress), f"{name}_progress")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="one small case, briefly")
    parser.add_argument("--only", default="", help="only cases whose name holds this text")
    parser.add_argument("--rivals-seconds", type=float, default=30.0)
    parser.add_argument("--seconds", type=float, help="in place of each case's own limit")
    parser.add_argument("--plot", action="store_true")
    parser.add_argument("--markdown", action="store_true", help="print what is stored as a table")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--solver", default="auto", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.plot or options.markdown:
        plot() if options.plot else markdown()
        return
    chosen = [case for case in cases() if options.only in case.name]
    if options.one:
        case = next(case for case in chosen if case.name == options.one)
        print(json.dumps(run_one(case, options.solver, options.seconds)))
        return
    if options.smoke:
        chosen = [Case("30 distinct", "a quick look", 5, {"kinds": 30})]
        options.rivals_seconds = 2.0
    print(machine.describe())
    has_scip = importlib.util.find_spec("pyscipopt") is not None
    if not has_scip:
        print("(without PySCIPOpt: scip-direct is left out)")
    print("  ".join(f"{name:{width}}" for name, width in COLUMNS))
    rows: list[dict[str, Any]] = []
    for case in chosen:
        seconds = options.seconds or case.seconds
        runs = [("auto", seconds)]
        rivals = [one for one in case.rivals if one != "scip-direct" or has_scip]
        runs += [(rival, min(options.rivals_seconds, seconds)) for rival in rivals]
        for solver, limit in runs:
            rows.append(
                run_apart(case, solver, limit)
                if not options.smoke
                else run_one(case, solver, limit)
            )
            print(show(rows[-1]), flush=True)
            store(rows, "scale_smoke" if options.smoke else "scale")


if __name__ == "__main__":
    main()
