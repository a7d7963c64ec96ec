"""Does `placer measure --budget` learn faster than measuring at random? A replay over full tables.

`python benchmarks/learning.py [--only TEXT] [--data FOLDER] [--seeds N] [--first-seed N]
[--workers N] [--smoke]` takes sets of measured groups, holds 30 % of the groups out, and lets two
policies ask for the others in batches: at random, and as `placer.measure.choose` chooses. Both
begin with all solo runs and the same 20 random groups. After 50, 100, 200 and 400 runs a predictor
is trained on what was asked for, and its error on the groups held out is the mean absolute
percentage error of slowdowns. All figures are means over the seeds, which draw the groups held out,
the first 20 and what is random; "wins" is in how many of them the chooser was better.

"same error" is how many runs (and measured seconds) the random policy needs, on its mean curve, to
come as low as the chooser is at that budget; "-" where it does not with the whole pool. Rows are
written to benchmarks/results/learning.parquet.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import machine
import numpy as np

from placer.interference.evaluate import predict_examples
from placer.interference.measurements import Measurements, read_measurements
from placer.interference.predictor import Predictor
from placer.interference.training import Settings
from placer.measure.choose import choose
from placer.measure.committee import LIGHT, groups_of
from placer.measure.dataset import Group

HERE = Path(__file__).resolve().parent
SETS = {
    "complete": HERE.parent / "instances" / "measured" / "complete",
    "broad": HERE.parent / "instances" / "measured" / "broad",
    "Gavel's pairs": HERE.parents[1] / "shared" / "data" / "gavel_motivation",
}
FIRST = 20
BUDGETS = (50, 100, 200, 400)
LEAST_BATCH = 10
HELD_OUT = 0.3
FULL = replace(Settings(), calibration_folds=0)
POLICIES = ("random", "chooser")


@dataclass(frozen=True)
class Pool:
    """A measured table: its runs by group, each group once, and the seconds of each run.

    `seconds` is empty where the set does not tell them.
    """

    measurements: Measurements
    runs: dict[str, Group]
    seconds: dict[str, float]


@dataclass(frozen=True)
class Point:
    """Where a policy stands: runs asked for, their measured seconds, error in percent."""

    runs: int
    seconds: float
    error: float


def read_pool(folder: Path) -> Pool:
    """Return the groups of a data set, the first run of each."""
    measurements = read_measurements(folder)
    first: dict[object, str] = {}
    groups = groups_of(measurements)
    for run, group in groups.items():
        first.setdefault(group.key, run)
    seconds: dict[str, float] = {}
    if (folder / "runs.csv").exists():
        with (folder / "runs.csv").open(newline="", encoding="utf-8") as stream:
            seconds = {row["run"]: float(row["seconds"]) for row in csv.DictReader(stream)}
    return Pool(measurements, {run: groups[run] for run in sorted(first.values())}, seconds)


def replay(pool: Pool, budgets: Sequence[int], settings: Settings, policy: str, seed: int
           ) -> list[Point]:  # fmt: skip
    """Let a policy ask for groups until each budget and return where it stands there."""
    random = np.random.default_rng(seed)
    order = [list(pool.runs)[place] for place in random.permutation(len(pool.runs))]
    held = order[: round(HELD_OUT * len(order))]
    known = order[len(held) : len(held) + FIRST]
    free = order[len(held) + FIRST :]
    test = pool.measurements.with_runs(held)
    points = []
    for budget in budgets:
        while len(known) < budget and free:
            count = min(max(LEAST_BATCH, len(known) // 4), budget - len(known))
            asked = ask(pool, known, free, count, policy, seed + len(known))
            known, free = known + asked, [run for run in free if run not in set(asked)]
        error = error_on(test, pool.measurements.with_runs(known), settings)
        spent = sum(pool.seconds.get(run, 0.0) for run in known)
        points.append(Point(len(known), spent, error))
    return points


def ask(
    pool: Pool, known: list[str], free: list[str], count: int, policy: str, seed: int
) -> list[str]:
    """Return the next runs that a policy asks for; `free` is in random order."""
    if policy == "random":
        return free[:count]
    run_of = {pool.runs[run].key: run for run in free}
    chosen = choose(
        pool.measurements.with_runs(known), [pool.runs[run] for run in free], count, seed=seed
    )
    return [run_of[choice.group.key] for choice in chosen]


def error_on(test: Measurements, learned: Measurements, settings: Settings) -> float:
    """Return the error in percent, on groups held out, of a predictor trained on `learned`."""
    predictor = Predictor.train(learned, settings=settings, workers=1)
    examples, predicted, _ = predict_examples(predictor, test)
    return float(100.0 * np.abs(predicted / examples.slowdown - 1.0).mean())


def needed(curve: Sequence[Point], error: float, of: Callable[[Point], float]) -> float | None:
    """Return where a curve comes down to an error for good, None where it does not."""
    if curve[-1].error > error:
        return None
    above = max((at for at, point in enumerate(curve) if point.error > error), default=-1)
    if above < 0:
        return of(curve[0])
    before, after = curve[above], curve[above + 1]
    share = (before.error - error) / max(before.error - after.error, 1e-12)
    return of(before) + share * (of(after) - of(before))


def mean(curves: Sequence[Sequence[Point]]) -> list[Point]:
    """Return the mean of curves over seeds."""
    return [
        Point(*(float(np.mean(values)) for values in zip(*map(fields, points), strict=True)))
        for points in zip(*curves, strict=True)
    ]


def fields(point: Point) -> tuple[float, float, float]:
    """Return a point's fields."""
    return point.runs, point.seconds, point.error


def run_set(
    label: str,
    pool: Pool,
    seeds: Sequence[int],
    workers: int,
    settings: Settings,
    budgets: Sequence[int],
) -> list[dict[str, Any]]:
    """Replay both policies on one set, print its rows and return them."""
    from joblib import Parallel, delayed

    most = len(pool.runs) - round(HELD_OUT * len(pool.runs))
    budgets = [budget for budget in budgets if budget < most]
    between = np.geomspace(budgets[0], most, 12).round().astype(int)
    asked = {"chooser": budgets, "random": sorted({*budgets, *between.tolist()})}
    jobs = [(policy, seed) for policy in reversed(POLICIES) for seed in seeds]
    job = delayed(partial(replay, pool))
    found = Parallel(n_jobs=workers)(job(asked[p], settings, p, seed) for p, seed in jobs)
    curves = dict(zip(jobs, found, strict=True))
    random = mean([curves["random", seed] for seed in seeds])
    chooser = mean([curves["chooser", seed] for seed in seeds])
    rows = []
    for budget, mine in zip(budgets, chooser, strict=True):
        other = random[asked["random"].index(budget)]
        wins = [
            curves["chooser", seed][budgets.index(budget)].error
            < curves["random", seed][asked["random"].index(budget)].error
            for seed in seeds
        ]
        rows.append(
            {"set": label, "runs": budget, "random": other.error, "chooser": mine.error,
             "seeds": len(seeds), "wins": sum(wins),
             "seconds_random": other.seconds, "seconds_chooser": mine.seconds,
             "same_error_runs": needed(random, mine.error, lambda point: point.runs),
             "same_error_seconds": needed(random, mine.error, lambda point: point.seconds)}
        )  # fmt: skip
        print(show(rows[-1], timed=bool(pool.seconds)), flush=True)
    return rows


def show(row: dict[str, Any], *, timed: bool) -> str:
    """Return one row of the table."""

    def number(name: str, form: str, *, known: bool = True) -> str:
        return "-" if row[name] is None or not known else format(row[name], form)

    return (
        f"{row['set']:16} {row['runs']:5d} {row['random']:9.2f} {row['chooser']:9.2f} "
        f"{row['wins']:5d} {number('same_error_runs', '.0f'):>11} "
        f"{number('seconds_random', '.0f', known=timed):>9} "
        f"{number('seconds_chooser', '.0f', known=timed):>9} "
        f"{number('same_error_seconds', '.0f', known=timed):>11}"
    )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="only sets whose name holds this text")
    parser.add_argument("--data", type=Path, help="replay over this set alone")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="replays at one time")
    parser.add_argument("--smoke", action="store_true", help="a quick run on made-up data")
    options = parser.parse_args()
    print(machine.describe())
    print(f"{'set':16} {'runs':>5} {'random %':>9} {'chooser %':>9} {'wins':>5} "
          f"{'same error':>11} {'random s':>9} {'chooser s':>9} {'same error':>11}")  # fmt: skip
    began = time.perf_counter()
    rows = []
    sets = SETS if options.data is None else {options.data.name: options.data}
    for label, folder in sets.items():
        if options.smoke or options.only.lower() not in label.lower():
            continue
        if not (folder / "measurements.csv").exists():
            print(f"({label}: left out, {folder} is not there)")
            continue
        seeds = range(options.first_seed, options.first_seed + options.seeds)
        rows += run_set(label, read_pool(folder), seeds, options.workers, FULL, BUDGETS)
    if options.smoke:
        rows += smoke()
    print(f"{time.perf_counter() - began:.0f} s")
    if rows:
        save(rows, "learning_smoke" if options.smoke else "learning")


def smoke() -> list[dict[str, Any]]:
    """Replay over a small made-up set."""
    from predictor import write_synthetic

    print("Smoke run: made-up data, few groups, one seed; no figures of the project.")
    with tempfile.TemporaryDirectory() as folder:
        write_synthetic(Path(folder), runs=150)
        return run_set("SYNTHETIC", read_pool(Path(folder)), [0], 1, LIGHT, (30, 50))


def save(rows: list[dict[str, Any]], name: str) -> None:
    """Write the rows with machine and versions to benchmarks/results/NAME.parquet."""
    import pandas as pd

    folder = HERE / "results"
    folder.mkdir(exist_ok=True)
    table = pd.DataFrame(rows).assign(machine=machine.describe())
    table.to_parquet(folder / f"{name}.parquet")


if __name__ == "__main__":
    main()
