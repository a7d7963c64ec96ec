"""The figures promised for large batches, each beside simpler ways to solve it in the same run.

`python benchmarks/scale.py [--smoke] [--only TEXT] [--rivals-seconds S] [--again]` solves each case
in a process of its own, one after another, and prints one table. The cells are those of a sweep,
in benchmarks/results/scale.parquet with machine, versions, and how objective and bound went: what
is there is not run again but with `--again`. `--plot` draws docs/images/scale.svg from it (needs
matplotlib), `--markdown` prints it. Rivals: the direct assignment model by CP-SAT, by HiGHS and,
where PySCIPOpt is installed, by SCIP; greedy, and local search. Every placement has passed the
solver-free check. The batches are synthetic, but for the published sets beside this repository.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
from dataclasses import dataclass
from typing import Any

from cases import HERE, SHARED, Case, show, stored

import placer
from placer import Instance

RIVALS = ("cp-sat-direct", "milp-direct", "scip-direct", "greedy", "local")
PEERS = RIVALS[:3]  # that can prove something; they run on the smallest published instances too
WIDTHS = {
    "case": 38, "promise": 22, "solver": 14, "status": 12, "objective": 12, "gap %": 11, "s": 7,
    "MiB": 6,
}  # fmt: skip


@dataclass(frozen=True)
class ScaleCase(Case):
    """A batch of this benchmark."""

    rivals: tuple[str, ...] = RIVALS

    def made(self) -> Instance:
        """Return the instance that `build` describes."""
        if "measured" in self.build:
            return measured_batch(**self.build["measured"])
        return super().made()


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
        ScaleCase("100 distinct", "proved, 30 s", 30, {"kinds": 100}),
        ScaleCase("300 distinct", "0.01 %, 120 s", 120, {"kinds": 300}),
        ScaleCase("1,000 distinct", "0.2 %, 300 s", 300, {"kinds": 1000}),
        ScaleCase("10,000 of 200 kinds", "0.0001 %, 10 s", 10, {"kinds": 200, "replicas": 10_000}),
        ScaleCase("100,000 of 500 kinds, degree 6", "0.01 %, 120 s", 120,
             {"kinds": 500, "replicas": 100_000, "degree": 6}),
        ScaleCase("1,000,000 of 200 kinds", "0.0001 %, 20 s", 20,
             {"kinds": 200, "replicas": 1_000_000}),
        ScaleCase("10,000,000 of 200 kinds", "none", 30,
             {"kinds": 200, "replicas": 10_000_000}, rivals=()),
        ScaleCase("1,000,000,000 of 200 kinds", "none", 30,
             {"kinds": 200, "replicas": 1_000_000_000}, rivals=()),
        ScaleCase("100 distinct, scarce", "proved, 90 s", 90, {"kinds": 100, "scarce": True}),
        ScaleCase("300 distinct, scarce", "0.01 %, 360 s", 360, {"kinds": 300, "scarce": True}),
        ScaleCase("1,000 distinct, scarce", "0.2 %, 900 s", 900, {"kinds": 1000, "scarce": True}),
        ScaleCase("10,000 of 200 kinds, scarce", "0.0001 %, 30 s", 30,
             {"kinds": 200, "replicas": 10_000, "scarce": True}),
        ScaleCase("100,000 of 500 kinds, degree 6, scarce", "0.01 %, 360 s", 360,
             {"kinds": 500, "replicas": 100_000, "degree": 6, "scarce": True}),
        ScaleCase("1,000,000 of 200 kinds, scarce", "0.0001 %, 60 s", 60,
             {"kinds": 200, "replicas": 1_000_000, "scarce": True}),
    ]  # fmt: skip
    for slo in (False, True):
        for table in (True, False):
            name = f"10,000 of 9 measured{', SLOs' * slo}, {'table' if table else 'predictor'}"
            promise = "the table's time" if table else "3 x the table's time"
            build = {"kinds": 9, "replicas": 10_000, "degree": 5, "table": table, "slo": slo}
            found.append(ScaleCase(name, promise, 60, {"measured": build}, rivals=()))
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
                found.append(
                    ScaleCase(row["instance"], promise, 300, {"file": file}, rivals=rivals)
                )
    return found


def plot(names: tuple[str, ...] = ("100 distinct", "300 distinct", "1,000 distinct")) -> None:
    """Draw gap against time for synthetic cases from the results at hand."""
    import matplotlib.pyplot as plt
    import numpy as np

    rows = stored("scale")
    figure, axes = plt.subplots(figsize=(7, 4))
    for case in cases():
        for solver in ("auto", "cp-sat-direct") if case.name in names else ():
            row = rows.get((case.path().stem, solver))
            if row is None or row.get("trace") is None:
                continue
            seconds, objective, bound = np.array(row["trace"].tolist(), dtype=float).T
            gap = 100 * (objective - bound) / np.abs(objective)
            style = "-" if solver == "auto" else "--"
            axes.step(seconds, gap, style, where="post", label=f"{case.name}, {solver}")
    axes.set(xlabel="seconds", ylabel="proven gap, %", yscale="log", xscale="log")
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(HERE.parent / "docs" / "images" / "scale.svg", metadata={"Date": None})


def markdown() -> None:
    """Print the stored rows as a table: ours, and how far rivals are above our objective."""
    rows = stored("scale")
    print("| batch | asked | proved, or gap | s | MiB | " + " | ".join(RIVALS) + " |")
    print("| --- " * (5 + len(RIVALS)) + "|")
    for case in cases():
        row = rows.get((case.path().stem, "auto"))
        if row is None:
            continue
        gap = row.get("gap")
        found = "proved" if gap is not None and gap <= 1e-9 else (
            "no placement" if row.get("objective") is None else
            "no bound" if gap is None else f"{100 * gap:.2g} %"
        )  # fmt: skip
        if case.name.startswith("qmc"):
            found = f"{row['objective']:.0f}, {found}"
        above = [
            against(row, rows.get((case.path().stem, rival))) if rival in case.rivals else "-"
            for rival in RIVALS
        ]
        print(f"| {case.name} | {case.promise} | {found} | {row['seconds']:.1f} | "
              f"{row['peak_mib']:.0f} | {' | '.join(above)} |")  # fmt: skip


def against(ours: dict[str, Any], other: dict[str, Any] | None) -> str:
    """Return how far another solver's objective is above ours, in words."""
    if other is None or other["status"] == "error":
        return "-" if other is None else "refused" if refused(other) else "error"
    if other["objective"] is None:
        return str(other["status"])
    share = other["objective"] / ours["objective"] - 1.0
    proved = ", proved" if other["status"] == "optimal" else ""
    return f"{100 * share:+.1f} %{proved}"


def refused(row: dict[str, Any]) -> bool:
    """Return whether the direct model did not take the batch: it would be too large."""
    return "the direct model" in row["error"]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="one small case, briefly")
    parser.add_argument(
        "--only", default="", help="only the case of this name, or those whose names hold it"
    )
    parser.add_argument("--rivals-seconds", type=float, default=30.0)
    parser.add_argument("--seconds", type=float, help="in place of each case's own limit")
    parser.add_argument("--again", action="store_true", help="run what is stored once more")
    parser.add_argument("--plot", action="store_true")
    parser.add_argument("--markdown", action="store_true", help="print what is stored as a table")
    options = parser.parse_args()
    if options.plot or options.markdown:
        plot() if options.plot else markdown()
        return
    every = cases()
    chosen = [case for case in every if case.name == options.only] or [
        case for case in every if options.only in case.name
    ]
    if options.smoke:
        chosen = [ScaleCase("30 distinct", "a quick look", 5, {"kinds": 30})]
        options.rivals_seconds = 2.0
    has_scip = importlib.util.find_spec("pyscipopt") is not None
    if not has_scip:
        print("(without PySCIPOpt: scip-direct is left out)")

    def limits(case: Case) -> dict[str, float]:
        seconds = options.seconds or case.seconds
        rivals = [one for one in case.rivals if one != "scip-direct" or has_scip]
        return {"auto": seconds, **dict.fromkeys(rivals, min(options.rivals_seconds, seconds))}

    show(chosen, limits, "scale_smoke" if options.smoke else "scale", WIDTHS, again=options.again)


if __name__ == "__main__":
    main()
