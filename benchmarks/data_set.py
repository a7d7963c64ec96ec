"""What a measured data set holds, what was thrown away, and how far repeated runs differ.

`python benchmarks/data_set.py [FOLDER ...] [--smoke]` prints the tables of
instances/measured/README.md. Without a folder it reads both shipped sets.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from pathlib import Path

import machine
import numpy as np

from placer.measure.dataset import DataSet
from placer.measure.noise import Spread, repeats, spread

SHIPPED = Path(__file__).resolve().parents[1] / "instances" / "measured"


def counts(data: DataSet) -> None:
    """Print the runs kept by VM type and degree, and those thrown away."""
    kept = Counter((r["vm_type"], int(r["degree"])) for r in data.runs if r["kept"] == "yes")
    degrees = sorted({degree for _, degree in kept})
    heads = ["solo" if d == 1 else f"degree {d}" for d in degrees]
    print(f"{'runs kept on':24}" + "".join(f"{head:>10}" for head in heads))
    for vm in sorted({vm for vm, _ in kept}):
        print(f"{vm:24}" + "".join(f"{kept[vm, d]:10d}" for d in degrees))
    open_loop = {row["run"] for row in data.rows if row["rate_rps"]}
    shared = {row["run"] for row in data.runs if row["kept"] == "yes" and row["degree"] != "1"}
    print(f"{sum(kept.values()):,} runs of {len({row['model'] for row in data.rows})} models")
    print(f"{len(shared):,} of them of two replicas or more, {len(open_loop & shared):,} of these")
    print("with open-loop replicas")
    thrown = data.thrown()
    reasons = ", ".join(f"{n} {reason}" for reason, n in thrown.most_common())
    print(f"{sum(thrown.values())} runs thrown away{': ' * bool(reasons)}{reasons}")


def noise(data: DataSet) -> None:
    """Print the spread of repeated runs by VM type and degree."""
    found = repeats(data)
    print(f"{'repeated on':24}{'degree':>8}{'groups':>8}{'runs':>8}{'difference %':>14}")
    for (vm, degree), groups in sorted(found.items()):
        show(vm, degree, spread(groups))
    for label, least, most in (("all, alone", 1, 1), ("all, shared", 2, 99)):
        chosen = [g for (_, d), groups in found.items() if least <= d <= most for g in groups]
        if chosen:
            show(label, "-", spread(chosen))


def show(label: str, degree: object, one: Spread) -> None:
    """Print one row of the spread of repeated runs."""
    print(f"{label:24}{degree!s:>8}{one.groups:8d}{one.runs:8d}{one.percent:14.1f}")


def made_up() -> DataSet:
    """Return a small made-up data set, for the quick run on a machine without the shipped ones."""
    random = np.random.default_rng(0)
    data = DataSet(tempfile.mkdtemp(prefix="placer-"))
    for number in range(30):
        models = [("a",), ("b",), ("a", "b")][number % 3]
        name = f"made-up-{number}"
        run = {"run": name, "vm_type": "c", "degree": len(models), "kept": "yes", "reason": ""}
        latency = 5.0 * len(models) * random.lognormal(0, 0.02)
        data.add(run, [{"run": name, "vm_type": "c", "model": model, "latency_ms_p50": latency}
                       for model in models])  # fmt: skip
    return data


def main() -> None:
    """Print the tables of each folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--smoke", action="store_true", help="a small made-up set")
    options = parser.parse_args()
    print(machine.describe())
    if options.smoke:
        print("\nMADE UP, to see that it works")
        data = made_up()
        counts(data)
        noise(data)
        return
    for folder in options.folders or sorted(p for p in SHIPPED.glob("*") if p.is_dir()):
        print(f"\n{folder.name}")
        if not (folder / "runs.csv").exists():
            print(f"skipped: {folder} has no runs.csv")
            continue
        data = DataSet(folder)
        for host in json.loads((folder / "hosts.json").read_text()).values():
            print(
                f"host {host['host']}: {host['cpu_model']}, {host['processors']} processors, "
                f"ONNX Runtime {host['onnxruntime']}, sentinel {host['sentinel_ms']} ms"
            )
        counts(data)
        noise(data)


if __name__ == "__main__":
    main()
