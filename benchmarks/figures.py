"""The figures that the project promises, each beside the naive direct model in the same run.

`python benchmarks/figures.py [--smoke] [--only TEXT] [--naive-seconds S] [--again]` solves each
case in a process of its own (so that time and peak memory are its own) and prints one table. The
cells are those of a sweep, in benchmarks/results/figures.parquet: what is there is not run again
but with `--again`. Every placement has passed the solver-free check.
"""

from __future__ import annotations

import argparse

from cases import SHARED, Case, show

NAIVE = "cp-sat-direct"
WIDTHS = {
    "case": 52, "solver": 14, "status": 22, "objective": 12, "bound": 12, "gap %": 11, "s": 8,
    "MiB": 6,
}  # fmt: skip


def cases() -> list[Case]:
    """Return every case of the table, those whose files are absent left out."""
    found = [
        Case(f"{kinds} models, {label}", "proved, 2 s", 60, {"kinds": kinds, "combine": combine},
             (NAIVE,))
        for combine, label in (("sum", "pair costs"), ("product", "group costs, no sum of pairs"))
        for kinds in (20, 30, 40, 60)
    ]  # fmt: skip
    found += [
        Case(
            f"{replicas:,} replicas of {kinds} kinds, {'scarce' if scarce else 'unlimited'}",
            "proved, 5 s",
            60,
            {"kinds": kinds, "replicas": replicas, "scarce": scarce},
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
        Case(file.split("/")[1].removesuffix(".json"), promise, 60, {"file": file}, (NAIVE,))
        for file, promise in shared
        if (SHARED / file).is_file()
    ]
    return found


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="the smallest cases only")
    parser.add_argument("--only", default="", help="only cases whose name holds this text")
    parser.add_argument("--naive-seconds", type=float, default=60.0)
    parser.add_argument("--again", action="store_true", help="run what is stored once more")
    options = parser.parse_args()
    chosen = [case for case in cases() if options.only in case.name]
    if options.smoke:
        chosen = [case for case in chosen if case.name.startswith(("20 models", "2computers"))]
        options.naive_seconds = 2.0

    def limits(case: Case) -> dict[str, float]:
        return {"auto": case.seconds, **dict.fromkeys(case.rivals, options.naive_seconds)}

    show(
        chosen, limits, "figures_smoke" if options.smoke else "figures", WIDTHS, again=options.again
    )


if __name__ == "__main__":
    main()
