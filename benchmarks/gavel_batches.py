"""How close each policy comes to the measured best: 200 random batches of Gavel's jobs a fleet.

`python benchmarks/gavel_batches.py [--data FOLDER] [--gpus N] [--batches N] [--seed N]
[--workers N] [--smoke]`

The jobs are Gavel's (OSDI 2020): steps/s of TRAINING jobs measured alone and in every pair on one
V100, P100 or K80, so no inference and no group above two. A batch is two jobs for each GPU, drawn
with replacement, and every job is placed, at most two on a GPU: 12 jobs on 6 GPUs unless --gpus
says otherwise (--gpus 2 is the shape of Mendoza et al., EuroMLSys 2021: two machines). Every GPU
is full, so what is left to choose is who is paired with whom, and on which GPU. A fleet draws from
the jobs of which every pair was measured on every GPU type of the fleet, so all policies may form
the same pairs and each placement has a measured truth.

The predictor is trained without half of the pairs: an unordered pair of jobs is left out on all
GPU types at once, in both directions. Every policy's placement is then judged by the measured
table of all pairs, in one of two ways, which is also what the policy minimises:

degradation  sum over jobs of (slowdown - 1), slowdown against the same job alone on the same GPU
latency      sum over jobs of (step time / best solo step time on any GPU type of the fleet - 1),
             which also counts a slow GPU; on one GPU type it equals degradation and is left out

"measured where seen" has the measured slowdowns of the pairs that the predictor was trained on, as
an instance has that names its measurements; the predictor tells those of the others. oracle is the
proven optimum with the measured table. "groups" starts from the greedy placement, and
its time counts both. "additive" is a linear model fitted to the same half as the predictor: a
slowdown is 1 + what the job suffers + what its company inflicts, by GPU type. Solve times include
the predictor's answers; with --workers above 1 they are of batches solved at one time.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from regret import HEAD, LEGEND, judge, show, with_regret

from placer import Instance, Placement, Predictor, __version__, solve
from placer.interference.evaluate import additive, predict_examples, scores
from placer.interference.measurements import Measurements, read_measurements
from placer.interference.training import Settings, folds, make_examples

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "gavel_motivation"
RESULTS = Path(__file__).resolve().parent / "results"
FLEETS = (("v100", "v100"), ("v100", "p100"), ("v100", "k80"), ("v100", "p100", "k80"))
OBJECTIVES = ("degradation", "latency")
# policy, solver, whose slowdowns it sees
POLICIES = (
    ("random", "random", "measured"),
    ("least-loaded", "least-loaded", "measured"),
    ("greedy, predictor", "greedy", "predicted"),
    ("groups, additive", "groups", "additive"),
    ("groups, predictor", "groups", "predicted"),
    ("groups, measured where seen", "groups", "seen"),
    ("greedy, measured", "greedy", "measured"),
    ("oracle", "groups", "measured"),
)
SMOKE = Settings(trees=60, learning_rate=0.2, depth=4, encoding_folds=4, calibration_folds=0,
                 share=0.5)  # fmt: skip
PairTable = dict[str, dict[str, dict[str, float]]]


@dataclass(frozen=True)
class Knowledge:
    """Solo step times in ms by GPU type and job, and what each side knows of the pairs."""

    solo: dict[str, dict[str, float]]
    measured: PairTable
    additive: PairTable
    predictor: Predictor
    seen: Measurements


def pair_table(measurements: Measurements, slowdown: np.ndarray | None = None) -> PairTable:
    """Return GPU type -> job -> company -> slowdown, measured unless `slowdown` (n,) is given."""
    targets = measurements.targets()
    shared = measurements.rows[measurements.rows["degree"] == 2]
    members = shared.groupby("run")["model"].agg(list)
    values = targets["slowdown"] if slowdown is None else slowdown
    table: PairTable = {}
    for vm, run, job, value in zip(
        targets["vm_type"], targets["run"], targets["model"], values, strict=True
    ):
        company = list(members[run])
        company.remove(job)
        table.setdefault(vm, {}).setdefault(job, {})[company[0]] = float(value)
    return table


def learn(measurements: Measurements, seed: int, settings: Settings | None) -> Knowledge:
    """Train on half of the pairs and print how well the other half is predicted."""
    rows = measurements.rows[measurements.rows["degree"] == 2]
    held = folds(rows["mix"].to_numpy(dtype=str), 2, seed) == 1
    half = measurements.with_runs(set(rows["run"][~held]))
    begin = time.perf_counter()
    predictor = Predictor.train(half, seed=seed, settings=settings)
    seconds = time.perf_counter() - begin
    examples, predicted, _ = predict_examples(predictor, measurements)
    known = make_examples(predictor.vocabulary, predictor.known, half)
    linear = additive(known, examples)
    unseen = measurements.targets()["run"].isin(set(rows["run"][held])).to_numpy()
    errors = [
        scores(examples.slowdown[unseen], values[unseen])["mape"] for values in (predicted, linear)
    ]
    print(
        f"trained on {half.rows[half.rows['degree'] == 2]['run'].nunique()} of "
        f"{rows['run'].nunique()} measured pairs in {seconds:.1f} s; error on the pairs left out: "
        f"predictor {errors[0]:.1f} %, additive {errors[1]:.1f} %"
    )
    solo: dict[str, dict[str, float]] = {}
    alone = measurements.solo
    for vm, job, step in zip(
        alone["vm_type"], alone["model"], alone["latency_ms_p50"], strict=True
    ):
        solo.setdefault(vm, {})[job] = float(step)
    by_line = pair_table(measurements, linear)
    return Knowledge(solo, pair_table(measurements), by_line, predictor, half)


def jobs_for(fleet: tuple[str, ...], knowledge: Knowledge) -> list[str]:
    """Return jobs of which every pair was measured on every GPU type of the fleet.

    The job with the most pairs missing is dropped until none is missing.
    """
    jobs = sorted(set.intersection(*(set(knowledge.solo[vm]) for vm in fleet)))
    while True:
        missing: Counter[str] = Counter()
        for a, b in combinations_with_replacement(jobs, 2):
            if any(b not in knowledge.measured[vm].get(a, {}) for vm in fleet):
                missing.update({a, b})
        if not missing:
            return jobs
        jobs.remove(max(sorted(missing), key=missing.__getitem__))


def batch_data(
    fleet: tuple[str, ...], gpus: int, jobs: list[str], objective: str, knowledge: Knowledge
) -> dict[str, Any]:
    """Return the instance of one batch as JSON data, without its interference."""
    counts = Counter(fleet[place % len(fleet)] for place in range(gpus))
    replicas = Counter(jobs)
    return {
        "name": "-".join(fleet),
        "vm_types": [
            {"name": vm, "capacity": {}, "count": counts[vm], "max_models": 2} for vm in counts
        ],
        "models": [
            {
                "name": job,
                "replicas": replicas[job],
                "solo_latency_ms": {vm: knowledge.solo[vm][job] for vm in counts},
            }
            for job in replicas
        ],
        "objective": {
            "price": 0.0,
            "degradation": float(objective == "degradation"),
            "latency": float(objective == "latency"),
        },
    }


def instances(data: dict[str, Any], knowledge: Knowledge) -> dict[str, Instance]:
    """Return the batch as it is measured, predicted, and fitted by the additive model."""
    vms = [vm["name"] for vm in data["vm_types"]]
    jobs = [model["name"] for model in data["models"]]

    def with_table(table: PairTable) -> Instance:
        slowdown = {vm: {a: {b: table[vm][a][b] for b in jobs} for a in jobs} for vm in vms}
        pairs = {"kind": "pairwise", "slowdown": slowdown}
        return Instance.from_dict({**data, "interference": pairs})

    predicted = Instance.from_dict({**data, "interference": {"kind": "predictor"}})
    return {
        "measured": with_table(knowledge.measured),
        "additive": with_table(knowledge.additive),
        "predicted": predicted.with_predictor(knowledge.predictor),
        "seen": predicted.with_predictor(knowledge.predictor, knowledge.seen),
    }


def place(instance: Instance, solver: str, seed: int) -> Placement:
    """Return the solver's placement; `groups` starts from the greedy one, and proves either way."""
    start = None
    if solver == "groups":
        start = solve(instance, solver="greedy", seed=seed, workers=1, explain=False).placement
    return solve(instance, solver=solver, seed=seed, workers=1, start=start).placement


def run_batch(data: dict[str, Any], knowledge: Knowledge, seed: int) -> list[dict[str, Any]]:
    """Let every policy place the batch; return what the measured table makes of it."""
    seen = instances(data, knowledge)
    rows = []
    for policy, solver, sight in POLICIES:
        begin = time.perf_counter()
        placement = place(seen[sight], solver, seed)
        seconds = time.perf_counter() - begin
        row = judge(policy, placement, seen["measured"], seconds)
        assert row is not None, policy
        rows.append(row)
    return rows


def run_fleet(
    fleet: tuple[str, ...], objective: str, knowledge: Knowledge, options: argparse.Namespace
) -> pd.DataFrame:
    """Return one row for each batch and policy."""
    from joblib import Parallel, delayed

    jobs = jobs_for(fleet, knowledge)
    batches = []
    for number in range(options.batches):
        random = np.random.default_rng([options.seed, FLEETS.index(fleet), number])
        drawn = [str(job) for job in random.choice(jobs, 2 * options.gpus)]
        batches.append(batch_data(fleet, options.gpus, drawn, objective, knowledge))
    found = Parallel(options.workers, batch_size=max(1, options.batches // (4 * options.workers)))(
        delayed(run_batch)(data, knowledge, number) for number, data in enumerate(batches)
    )
    rows = [{"batch": number, **row} for number, part in enumerate(found) for row in part]
    name = "+".join(fleet).upper()
    return pd.DataFrame(rows).assign(fleet=name, jobs=len(jobs), judged_by=objective)


def write_synthetic(folder: Path) -> None:
    """Write a made-up folder like Gavel's: eight jobs, alone and in all pairs, on three GPUs."""
    random = np.random.default_rng(0)
    speed = {"v100": 1.0, "p100": 1.8, "k80": 5.0}
    demand = {f"job{place}": 0.15 + 0.1 * place for place in range(8)}
    lines = ["run,vm_type,model,latency_ms_p50"]
    for vm, factor in speed.items():
        solo = {job: 100 * need * factor for job, need in demand.items()}
        lines += [f"solo {vm} {job},{vm},{job},{solo[job]}" for job in demand]
        for a, b in combinations_with_replacement(demand, 2):
            filled = (demand[a] + demand[b]) * (0.8 + 0.1 * factor)
            for job, other in ((a, b), (b, a)):
                slowdown = max(1.02 + 0.3 * demand[other], filled) * random.lognormal(0, 0.03)
                lines.append(f"{vm} {a} {b},{vm},{job},{solo[job] * max(slowdown, 1.01)}")
    tables = {
        "measurements": lines,
        "models": ["model,demand", *(f"{job},{need}" for job, need in demand.items())],
        "vm_types": ["vm_type,factor", *(f"{vm},{factor}" for vm, factor in speed.items())],
    }
    for name, text in tables.items():
        (folder / f"{name}.csv").write_text("\n".join(text) + "\n")


def read_data(folder: Path) -> tuple[Measurements, str]:
    """Return the measured jobs, or made-up ones where the data are not here, and their label."""
    if folder.is_dir():
        return read_measurements(folder), "Gavel's measured training jobs"
    with tempfile.TemporaryDirectory() as made_up:
        write_synthetic(Path(made_up))
        label = f"SYNTHETIC: {folder} is not here, made-up jobs stand in; nothing was measured"
        return replace(read_measurements(made_up), source="synthetic"), label


def parse() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA, help="folder with the measurements")
    parser.add_argument("--gpus", type=int, default=6, help="GPUs of a fleet, its types in turn")
    parser.add_argument("--batches", type=int, default=200, help="batches for each fleet")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="batches at work at one time")
    parser.add_argument("--smoke", action="store_true", help="a quick run, to see that it works")
    return parser.parse_args()


def main() -> None:
    """Run the benchmark."""
    import xgboost

    options = parse()
    if options.smoke:
        options.batches, options.workers = min(options.batches, 3), 1
    begin = time.perf_counter()
    measurements, label = read_data(options.data)
    print(
        f"{platform.platform()}, {platform.machine()}, {os.cpu_count()} cores; "
        f"Python {platform.python_version()}, numpy {np.__version__}, "
        f"xgboost {xgboost.__version__}, placer {__version__}; seed {options.seed}"
    )
    print(
        f"{label}; {options.batches} batches of {2 * options.gpus} jobs on {options.gpus} GPUs, "
        f"{options.workers} at one time"
    )
    if options.smoke:
        print("Smoke run: few batches and few trees; not the real figures.")
    knowledge = learn(measurements, options.seed, SMOKE if options.smoke else None)
    print(f"{LEGEND}\n{HEAD}")
    tables = []
    for fleet in FLEETS:
        if len(fleet) > options.gpus:
            continue  # it would be another fleet
        for objective in OBJECTIVES if len(set(fleet)) > 1 else OBJECTIVES[:1]:
            tables.append(with_regret(run_fleet(fleet, objective, knowledge, options)))
            first = tables[-1].iloc[0]
            print(f"{first['fleet']}, {first['jobs']} jobs to draw from, judged by {objective}")
            show(tables[-1], [policy for policy, *_ in POLICIES])
    RESULTS.mkdir(exist_ok=True)
    kind = "synthetic" if measurements.source == "synthetic" else "gavel"
    file = (
        RESULTS / f"{kind}_batches_{options.gpus}_gpus{'_smoke' if options.smoke else ''}.parquet"
    )
    pd.concat(tables, ignore_index=True).assign(seed=options.seed).to_parquet(file, index=False)
    print(f"{time.perf_counter() - begin:.0f} s; every batch is in {file}")


if __name__ == "__main__":
    main()
