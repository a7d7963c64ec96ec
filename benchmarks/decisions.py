"""Decision quality: how dear it is to place by predicted slowdowns where the true ones are known.

`python benchmarks/decisions.py [--by mean|p50] [--only TEXT] [--data FOLDER] [--batches N]
[--splits N] [--share S] [--seed N] [--workers N] [--synthetic] [--smoke]`

The data set holds every multiset of up to four of its models on every VM type, measured closed
loop. So the true cost of any placement of these models is known, and so is the true optimum. A
batch is 10 to 24 replicas of random models, on a random part of the VM types, four replicas a VM
at most. A slowdown is that of the mean time of a request, or with --by p50 that of the median
latency, as everywhere else; `read_by_mean` says why. Three settings, each of them what the
policies minimise and are judged by:

price and slowdowns  prices in proportion to cores with random discounts; a replica that runs twice
                     as slow as alone costs 0.1 to 0.6 core hours; half of the fleets are scarce
degradation          a given fleet of 2.5 to 4 replicas a VM; the sum of slowdown - 1
latency              such a fleet of two and more types; the sum of latency / best solo one - 1

The predictor knows all solo runs and all pairs, and the share `--share` of the groups of three and
four; a group is left out on all VM types at once. There are `--splits` such splits, taken in turn
by the batches. "pairs" are policies that know the measured pairs alone, summed or multiplied.
"measured where seen" has the measured slowdowns of the groups that were trained on in place of
predicted ones, as an instance has that names its measurements beside its predictor.
The blind policies count replicas, but for "least-loaded by core", which puts the replicas on the
VMs of least-loaded where fewest share a core. "greedy" is the best of several greedy orders.
"trained on all" is the predictor that has seen all groups: what is left is the noise of the
measured table, in which the oracle sees its own luck, and the predictor's form. "second
measurement" is SIMULATED: an oracle for another measurement of all groups, made up from that
predictor and the luck of other groups; its regret is what one measurement of each group costs.
Policies see tables of predictions, which a few batches hold against the predictor itself. Where
a few groups are not measured nobody may form them, and the policies that cannot know this are
judged by the other batches alone. For data of two replicas a GPU there is gavel_batches.py.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import machine
import numpy as np
import pandas as pd
from contention import write_complete
from regret import FITTED, HEAD, LEGEND, ORACLE, judge, show, with_regret
from slowdowns import (
    DEGREE,
    Group,
    Table,
    closed_loop,
    errors,
    every_group,
    measured_table,
    missing,
    mixed_table,
    pairs_table,
    predicted_table,
    read_by_mean,
    repeats,
    second_measurement,
)

from placer import Instance, Placement, Predictor, read_measurements, score, solve
from placer.interference.measurements import Measurements
from placer.interference.training import Settings

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "instances" / "measured" / "complete"
RESULTS = ROOT / "benchmarks" / "results"
SETTINGS = ("price and slowdowns", "degradation", "latency")
BLIND, BY_CORE = "least-loaded", "least-loaded by core"
PREDICTED, WHERE_SEEN = "auto, predictor", "auto, measured where seen"
# policy, solver, whose slowdowns it sees
POLICIES = (
    (BLIND, BLIND, "measured"),
    ("round-robin", "round-robin", "measured"),
    ("greedy, predictor", "greedy", "predicted"),
    ("auto, pairs summed", "auto", "sum"),
    ("auto, pairs multiplied", "auto", "product"),
    (PREDICTED, "auto", "predicted"),
    (WHERE_SEEN, "auto", "seen"),
    (FITTED, "auto", "all"),
    ("second measurement, made up", "auto", "again"),
    ("greedy, measured", "greedy", "measured"),
    (ORACLE, "auto", "measured"),
)
SMOKE = Settings(trees=60, learning_rate=0.2, depth=4, encoding_folds=4, calibration_folds=0,
                 share=0.5)  # fmt: skip
CHECKED = 2  # batches of each setting that are solved with the predictor itself too
CHUNK = 10


@dataclass(frozen=True)
class Knowledge:
    """Names, solo latencies in ms and vCPUs, and what each side knows of the groups."""

    models: list[str]
    solo: dict[str, dict[str, float]]
    vcpu: dict[str, float]
    tables: dict[str, Table]
    predictor: Predictor
    seen: Measurements
    complete: bool


def split(measurements: Measurements, share: float, seed: int) -> set[Group]:
    """Return the groups to be trained on: all pairs, and a random share of the larger ones."""
    rows = measurements.rows
    mixes = {n: sorted(set(rows["mix"][rows["degree"] == n])) for n in set(rows["degree"])}
    seen = set(mixes.get(2, []))
    random = np.random.default_rng([seed, 1])
    for degree in sorted(n for n in mixes if n > 2):
        count = round(share * len(mixes[degree]))
        seen |= {str(mix) for mix in random.permutation(mixes[degree])[:count]}
    return {tuple(mix.split(" + ")) for mix in seen}


def learn(
    measurements: Measurements, share: float, seed: int, settings: Settings, fitted: Table
) -> Knowledge:
    """Train on the part that was seen, print the errors on the rest, and make the tables."""
    rows = measurements.rows
    seen = split(measurements, share, seed)
    runs = set(rows["run"][rows["mix"].isin({" + ".join(group) for group in seen})])
    known = measurements.with_runs(runs)
    begin = time.perf_counter()
    predictor = Predictor.train(known, seed=seed, settings=settings)
    seconds = time.perf_counter() - begin
    measured = measured_table(measurements)
    models, vms = sorted(measurements.models.index), sorted(measured)
    predicted = predicted_table(predictor, models, vms)
    tables = {
        "measured": measured,
        "predicted": predicted,
        "seen": mixed_table(measured, predicted, seen),
        "sum": pairs_table(measured, product=False),
        "product": pairs_table(measured, product=True),
        "all": fitted,
        "again": second_measurement(measurements, fitted, seed),
    }
    report(tables, seen, seed, seconds)
    vcpu = measurements.vm_types["vcpu"]
    solo: dict[str, dict[str, float]] = {vm: {} for vm in vms}
    alone = measurements.solo[measurements.solo["rate_rps"].isna()]
    for vm, model, ms in zip(alone["vm_type"], alone["model"], alone["latency_ms_p50"],
                             strict=True):  # fmt: skip
        solo[vm][model] = float(ms)
    cores = {vm: float(vcpu[vm]) for vm in vms}
    complete = not missing(measured, measurements)
    return Knowledge(models, solo, cores, tables, predictor, known, complete)


def report(tables: dict[str, Table], seen: set[Group], seed: int, seconds: float) -> None:
    """Print how well the groups that were not seen are known."""
    print(f"split {seed}: {sum(len(g) > 2 for g in seen)} groups of three and four seen, trained "
          f"in {seconds:.1f} s; percent error of members / groups (bias) on others:")  # fmt: skip
    for name in ("predicted", "sum", "product", "all"):
        found = errors(tables[name], tables["measured"], seen)
        parts = [
            f"degree {n} {e['members']:.1f} / {e['sums']:.1f} ({e['bias']:+.1f})"
            for n, e in found.items()
        ]
        print(f"  {name:10} {', '.join(parts)}", flush=True)


def spread(random: np.random.Generator, vms: int, types: list[str]) -> dict[str, int]:
    """Return random counts of the VM types, at least one of each, that sum to `vms`."""
    rest = random.multinomial(max(0, vms - len(types)), np.full(len(types), 1.0 / len(types)))
    return {vm: 1 + int(extra) for vm, extra in zip(types, rest, strict=True)}


def draw(setting: str, known: Knowledge, random: np.random.Generator) -> dict[str, Any]:
    """Return a random batch and fleet as an instance's JSON data, without its interference."""
    replicas = int(random.integers(10, 25))
    batch = Counter(str(name) for name in random.choice(known.models, replicas))
    least = min(2 if setting == "latency" else 1, len(known.vcpu))
    size = int(random.integers(least, len(known.vcpu) + 1))
    types = sorted(str(vm) for vm in random.choice(sorted(known.vcpu), size, replace=False))
    prices = dict.fromkeys(types, 0.0)
    counts: dict[str, int | None] = dict.fromkeys(types)
    if setting == SETTINGS[0]:
        prices = {vm: known.vcpu[vm] * float(random.uniform(0.6, 1.0)) for vm in types}
        if random.random() < 0.5:
            counts |= spread(random, math.ceil(replicas * random.uniform(1.0, 1.5) / 4), types)
        weight = float(np.exp(random.uniform(np.log(0.1), np.log(0.6))))
    else:
        counts |= spread(random, math.ceil(replicas / random.uniform(2.5, 4.0)), types)
        weight = 1.0
    late = setting == "latency"
    return {
        "vm_types": [
            {"name": vm, "capacity": {}, "price": prices[vm], "count": counts[vm], "max_models": 4}
            for vm in types
        ],
        "models": [
            {"name": m, "replicas": n, "solo_latency_ms": {vm: known.solo[vm][m] for vm in types}}
            for m, n in sorted(batch.items())
        ],
        "objective": {
            "price": float(setting == SETTINGS[0]),
            "degradation": 0.0 if late else weight,
            "latency": weight if late else 0.0,
        },
    }


def instances(data: dict[str, Any], known: Knowledge) -> dict[str, Instance]:
    """Return the batch as each side sees it; groups that were not measured are open to nobody."""
    vms = [vm["name"] for vm in data["vm_types"]]
    measured = known.tables["measured"]
    groups = list(every_group([model["name"] for model in data["models"]]))
    seen = {}
    for name, table in known.tables.items():
        listed = {
            vm: [
                {"models": group, "slowdown": [table[vm][group][model] for model in group]}
                for group in groups
                if group in measured[vm]
            ]
            for vm in vms
        }
        interference = {"kind": "groups", "slowdown": listed, "missing": "forbid"}
        seen[name] = Instance.from_dict({**data, "interference": interference})
    return seen


def by_core(placement: Placement, vcpu: dict[str, float]) -> Placement:
    """Return the replicas on the same VMs, in order, each where fewest share a core."""
    types = [vm.vm_type for vm in placement.vms]
    held: list[list[str]] = [[] for _ in types]
    names = sorted(model.name for vm in placement.vms for model in vm.models)
    for name in names:
        free = [place for place, group in enumerate(held) if len(group) < DEGREE]
        held[min(free, key=lambda p: (len(held[p]) + 1) / vcpu[types[p]])].append(name)
    vms = [
        {"name": str(place), "vm_type": vm, "models": [{"name": name} for name in group]}
        for place, (vm, group) in enumerate(zip(types, held, strict=True))
        if group
    ]
    return Placement.from_dict({"format": "placer/placement", "version": 1, "vms": vms})


def run_batch(data: dict[str, Any], known: Knowledge, seed: int) -> list[dict[str, Any]]:
    """Let every policy place the batch; return what the measured table makes of it."""
    seen = instances(data, known)
    rows, placements = [], []
    for policy, solver, sight in POLICIES:
        begin = time.perf_counter()
        found = solve(seen[sight], solver=solver, seed=seed, workers=1, explain=False)
        seconds = time.perf_counter() - begin
        rows.append(judge(policy, found.placement, seen["measured"], seconds))
        placements.append(found.placement)
        if solver == BLIND:
            other = by_core(found.placement, known.vcpu)
            rows.append(judge(BY_CORE, other, seen["measured"], seconds))
            placements.append(other)
        if solver == "auto":
            assert found.status.value in ("optimal", "infeasible"), (policy, found.status)
    kept = [
        {**row, "by_fit": score(seen["all"], placement.assignment()).objective}
        for row, placement in zip(rows, placements, strict=True)
        if row is not None
    ]
    if seed < CHECKED and known.complete:
        compare(data, known, kept)
    return kept if any(row["policy"] == ORACLE for row in kept) else []


def compare(data: dict[str, Any], known: Knowledge, rows: list[dict[str, Any]]) -> None:
    """Assert that the predictor itself gives the same optimum as the table of its answers.

    Alone, and with the measured slowdowns of the groups that were seen.

    The instance lists every model, those of the batch alone with replicas, as the table does.
    """
    here = {model["name"]: model for model in data["models"]}
    models = [here.get(name, {"name": name, "replicas": 0}) for name in known.models]
    own = Instance.from_dict({**data, "models": models, "interference": {"kind": "predictor"}})
    for policy, measured in ((PREDICTED, None), (WHERE_SEEN, known.seen)):
        found = solve(own.with_predictor(known.predictor, measured), workers=1)
        table = next(row["expected"] for row in rows if row["policy"] == policy)
        assert found.objective is not None
        assert math.isclose(found.objective, table, rel_tol=2e-6), (found.objective, table)


def run_chunk(
    chunk: list[tuple[int, dict[str, Any]]], known: Knowledge, split: int
) -> list[dict[str, Any]]:
    """Run some batches of one split."""
    return [
        {"batch": number, "split": split, **row}
        for number, data in chunk
        for row in run_batch(data, known, number)
    ]


def run_setting(
    setting: str, knowledge: list[Knowledge], options: argparse.Namespace
) -> pd.DataFrame:
    """Return one row for each batch and policy; the batches take the splits in turn."""
    from joblib import Parallel, delayed

    jobs = []
    for number, known in enumerate(knowledge):
        mine = []
        for batch in range(number, options.batches, len(knowledge)):
            random = np.random.default_rng([options.seed, SETTINGS.index(setting), batch])
            mine.append((batch, draw(setting, known, random)))
        chunks = [mine[at : at + CHUNK] for at in range(0, len(mine), CHUNK)]
        jobs += [delayed(run_chunk)(chunk, known, number) for chunk in chunks]
    found = Parallel(options.workers)(jobs)
    rows = [row for part in found for row in part]
    return pd.DataFrame(rows).sort_values("batch", kind="stable").assign(setting=setting)


def read(options: argparse.Namespace) -> Measurements | str:
    """Return the measured groups, made-up ones where asked for, or why there are none."""
    if options.synthetic:
        with tempfile.TemporaryDirectory() as folder:
            write_complete(Path(folder), 5 if options.smoke else 8, seed=options.seed)
            return closed_loop(replace(read_measurements(folder), source="synthetic"))
    if not (options.data / "measurements.csv").is_file():
        return f"skipped: {options.data} is not here (--synthetic runs on made-up slowdowns)"
    read_folder = read_by_mean if options.by == "mean" else read_measurements
    measurements = closed_loop(read_folder(options.data))
    absent = missing(measured_table(measurements), measurements)
    if absent:
        print(f"{len(absent)} groups are not measured and open to nobody, as {absent[0]}")
    most = len(list(every_group(list(measurements.models.index))))
    if len(absent) > (1.0 - options.least) * most * len(measurements.vm_types):
        return f"skipped: that is more than {1.0 - options.least:.0%} (--least)"
    return measurements


def parse() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA, help="folder with the measurements")
    parser.add_argument("--by", choices=("mean", "p50"), default="mean", help="slowdowns of what")
    parser.add_argument("--only", default="", help="only settings whose name holds this text")
    parser.add_argument("--batches", type=int, default=200, help="batches of each setting")
    parser.add_argument("--splits", type=int, default=5, help="splits into seen and not seen")
    parser.add_argument("--share", type=float, default=0.25, help="of groups of 3 and 4 seen")
    parser.add_argument("--least", type=float, default=0.95, help="of groups to be measured")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="batches at work at one time")
    parser.add_argument("--synthetic", action="store_true", help="made-up slowdowns")
    parser.add_argument("--smoke", action="store_true", help="a quick run, to see that it works")
    options = parser.parse_args()
    if options.smoke:
        options.batches, options.splits, options.workers = min(options.batches, 3), 1, 1
        options.synthetic = True
    return options


def main() -> None:
    """Run the benchmark."""
    options = parse()
    begin = time.perf_counter()
    print(f"{machine.describe()}; seed {options.seed}")
    measurements = read(options)
    if isinstance(measurements, str):
        print(measurements)
        return
    if options.synthetic:
        print("SYNTHETIC: made-up slowdowns with cores as the bottleneck; nothing was measured.")
    if options.smoke:
        print("Smoke run: few batches and few trees; not the real figures.")
    print(repeats(measurements))
    settings = SMOKE if options.smoke else replace(Settings(), calibration_folds=0)
    predictor = Predictor.train(measurements, seed=options.seed, settings=settings)
    names = sorted(measurements.models.index), sorted(measured_table(measurements))
    fitted = predicted_table(predictor, *names)
    knowledge = [
        learn(measurements, options.share, options.seed + number, settings, fitted)
        for number in range(options.splits)
    ]
    tables = []
    print(f"{LEGEND}\n{HEAD}")
    for setting in [one for one in SETTINGS if options.only in one]:
        tables.append(with_regret(run_setting(setting, knowledge, options)))
        best = tables[-1][tables[-1]["policy"] == ORACLE]
        part = f", {best['price'].sum() / best['value'].sum():.0%} of the optimum is price"
        print(f"{setting}, {len(best)} batches{part if best['price'].any() else ''}")
        show(tables[-1], [BLIND, BY_CORE, *(policy for policy, *_ in POLICIES[1:])])
    RESULTS.mkdir(exist_ok=True)
    kind = "synthetic" if options.synthetic else f"{options.by}_{options.only or 'all'}"
    name = f"decisions_{kind.replace(' ', '')}{'_smoke' * options.smoke}"
    rows = pd.concat(tables, ignore_index=True)
    rows = rows.assign(seed=options.seed, share=options.share, machine=machine.describe())
    rows.to_parquet(RESULTS / f"{name}.parquet", index=False)
    print(f"{time.perf_counter() - begin:.0f} s; every batch is in {RESULTS / name}.parquet")


if __name__ == "__main__":
    main()
