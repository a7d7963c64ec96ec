"""The learned two-dimensional encoding of the VM types, as a table and a figure.

`python benchmarks/encoding.py [--measurements FOLDER] [--smoke]` trains on a folder, prints one
row for each VM type and, except with --smoke, writes docs/images/encoding.svg (needs matplotlib:
the extra `plots`).
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import machine
import numpy as np
import pandas as pd
from predictor import OWN, SMOKE, write_synthetic

from placer.interference.measurements import read_measurements
from placer.interference.predictor import Predictor, Settings

IMAGE = Path(__file__).resolve().parent.parent / "docs" / "images" / "encoding.svg"


def draw(table: pd.DataFrame, path: Path) -> None:
    """Write the figure: one labelled point for each VM type."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "placer"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5.0, 3.6))
    axes.scatter(table["x"], table["y"])
    for name, x, y in zip(table["vm_type"], table["x"], table["y"], strict=True):
        axes.annotate(str(name), (x, y), xytext=(5, 5), textcoords="offset points")
    axes.margins(0.2)
    axes.set_xlabel("log share of the VM that one replica takes (mean of the models)")
    axes.set_ylabel("log reaction to company (mean)")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measurements", type=Path, default=OWN / "broad")
    parser.add_argument("--smoke", action="store_true", help="made-up data and no figure")
    options = parser.parse_args()
    print(machine.describe())
    settings = replace(SMOKE if options.smoke else Settings(), calibration_folds=0)
    folder = options.measurements
    there = any((folder / f"measurements.{form}").is_file() for form in ("csv", "parquet"))
    if options.smoke or not there:
        if not options.smoke:
            print(f"(no measurements in {folder}: made-up data stand in, and no figure is drawn)")
        with tempfile.TemporaryDirectory() as made:
            write_synthetic(Path(made))
            predictor = Predictor.train(read_measurements(made), settings=settings)
    else:
        predictor = Predictor.train(read_measurements(folder), settings=settings)
    table = predictor.encoding()
    solo = pd.Series(
        [sum(entry["vm_type"] == vm for one in predictor.known.solo.values() for entry in one)
         for vm in table["vm_type"]]
    )  # fmt: skip
    print(f"{'VM type':24} {'x':>8} {'y':>8} {'share':>7} {'reaction':>9} {'solo profiles':>14}")
    for row, count in zip(table.itertuples(), solo, strict=True):
        print(f"{row.vm_type:24} {row.x:8.3f} {row.y:8.3f} {np.exp(row.x):7.3f} "
              f"{np.exp(row.y):9.3f} {count:14d}")  # fmt: skip
    if there and not options.smoke:
        draw(table, IMAGE)
        print(f"wrote {IMAGE.relative_to(IMAGE.parents[2])}")


if __name__ == "__main__":
    main()
