"""One predictor for all against one for each VM type, each degree, or both, on the same groups.

`python benchmarks/unified.py [--data FOLDER] [--smoke]` trains each on 10, 25, 50 and 100 % of the
training groups, prints the error on held-out groups and what training cost, and writes
benchmarks/results/unified.parquet.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import machine
import numpy as np
from predictor import PUBLISHED, SMOKE, data_sets, save, write_synthetic

from placer.interference.evaluate import predict_examples, scores, splits
from placer.interference.measurements import Measurements, read_measurements
from placer.interference.predictor import Predictor, Settings

SHARES, SMOKE_SHARES = (0.1, 0.25, 0.5, 1.0), (0.25, 0.5)
KEYS: dict[str, tuple[str, ...]] = {
    "one for all": (),
    "one for each VM type": ("vm_type",),
    "one for each degree": ("degree",),
    "one for each VM type and degree": ("vm_type", "degree"),
}


def shares(
    data: Measurements, train: set[str], wanted: tuple[float, ...], seed: int
) -> Iterator[tuple[float, set[str]]]:
    """Yield nested parts of the training runs, whole configurations each."""
    rows = data.rows[data.rows["run"].isin(train)]
    order = np.random.default_rng(seed).permutation(np.unique(rows["configuration"].astype(str)))
    for share in wanted:
        kept = set(order[: max(1, round(share * len(order)))].tolist())
        yield share, set(rows.loc[rows["configuration"].isin(kept), "run"])


def score(
    data: Measurements,
    train: set[str],
    test: set[str],
    by: tuple[str, ...],
    settings: Settings,
) -> dict[str, Any]:
    """Train one predictor for each value of the columns `by` and test them together.

    Where a part of the test has no training groups of its own, the mean slowdown of all training
    groups is the prediction, and counted as such.
    """
    rows = data.rows[data.rows["degree"] > 1]
    mean = data.with_runs(train).targets()["slowdown"].mean()
    measured, predicted, models, alone, seconds = [], [], 0, 0, 0.0
    for _, part in rows.groupby(list(by)) if by else [(None, rows)]:
        runs = set(part["run"])
        if not runs & test:
            continue
        held = data.with_runs(runs & test)
        if held.targets().empty:
            continue
        if data.with_runs(runs & train).targets().empty:
            truth = held.targets()["slowdown"].to_numpy(float)
            found = np.full(len(truth), mean)
            alone += len(truth)
        else:
            start = time.perf_counter()
            known = Predictor.train(data.with_runs(runs & train), settings=settings)
            seconds += time.perf_counter() - start
            models += 1
            examples, found, _ = predict_examples(known, held)
            truth = examples.slowdown
        measured.append(truth)
        predicted.append(found)
    result = scores(np.concatenate(measured), np.concatenate(predicted))
    return {"predictors": models, "untrained": alone, "seconds": seconds, **result}


def compare(
    name: str,
    data: Measurements,
    settings: Settings,
    show: Callable[[dict[str, Any]], None],
    fractions: tuple[float, ...] = SHARES,
) -> list[dict[str, Any]]:
    """Return the rows of one data set: a fifth of the configurations is held out."""
    train, test = next(iter(splits(data, "configuration", 5, 0, 0)))
    result = []
    for share, part in shares(data, train, fractions, 0):
        count = len(data.with_runs(part).targets())
        for label, by in KEYS.items():
            row = {"data": name, "share": share, "trained_on": count, "kind": label,
                   **score(data, part, test, by, settings)}  # fmt: skip
            show(row)
            result.append(row)
    return result


def show(row: dict[str, Any]) -> None:
    """Print `row` as one line of the table."""
    label = f"{row['data']}, {row['kind']}"
    print(
        f"{label:50} {100 * row['share']:5.0f} {row['trained_on']:8d} {row['predictors']:10d} "
        f"{row['mape']:7.2f} {row['median_ape']:8.2f} {row['untrained']:9d} {row['seconds']:8.2f}",
        flush=True,
    )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=PUBLISHED, help="folder of published data")
    parser.add_argument("--smoke", action="store_true", help="made-up data and few trees")
    options = parser.parse_args()
    print(machine.describe())
    settings = replace(SMOKE, share=0.5) if options.smoke else Settings()
    settings = replace(settings, calibration_folds=0)
    # Of the published sets, only this one has degrees and VM types to tell apart.
    chosen = [] if options.smoke else list(data_sets(options.data))
    chosen = [one for one in chosen if one[0] != "gavel_motivation" and "by mean" not in one[0]]
    print(f"{'data, predictors':50} {'%':>5} {'trained':>8} {'predictors':>10} {'MAPE %':>7} "
          f"{'median %':>8} {'untrained':>9} {'seconds':>8}")  # fmt: skip
    rows = []
    with tempfile.TemporaryDirectory() as made:
        if not chosen:
            write_synthetic(Path(made))
            chosen = [("SYNTHETIC", Path(made), read_measurements, ())]
        fractions = SMOKE_SHARES if options.smoke else SHARES
        for name, folder, read, _ in chosen:
            rows += compare(name, read(folder), settings, show, fractions)
    save(rows, "unified_smoke" if options.smoke else "unified")


if __name__ == "__main__":
    main()
