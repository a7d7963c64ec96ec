"""One batch of real models placed by several policies, and each placement run for real.

`python benchmarks/headline.py --models FOLDER|--zoo [--data FOLDER ...] [--predictor FILE]` draws a
batch of the measured models with SLOs and prices on four VM types, places it by each policy with
one predictor, and replays all placements on this host in one guarded campaign that shares its solo
runs. Nothing in the columns "meas" is simulated. `--smoke` makes two small models, measures a few
short runs and does the same. Writes benchmarks/results/headline.parquet.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import machine
import numpy as np

import placer
from placer import Instance, Placement, Predictor
from placer.interference.joined import read_folders
from placer.interference.measurements import Known
from placer.interference.predictor import Settings
from placer.measure import host
from placer.measure.campaign import Campaign, State
from placer.measure.dataset import DataSet, Group
from placer.measure.design import solo
from placer.measure.guard import Limits
from placer.measure.jobs import find_models
from placer.measure.onnx_models import OnnxModel, read_models
from placer.measure.replay import replay_all
from placer.measure.replayed import Replay
from placer.measure.runner import Window
from placer.measure.shapes import Shape
from placer.problem import PredictorInterference

HERE = Path(__file__).resolve().parent
MEASURED = HERE.parent / "instances" / "measured"
POLICIES = ("least-loaded", "first-fit-decreasing", "greedy", "auto")
VM_TYPES = {  # price per hour, memory in GiB and the most replicas, as a small cloud VM
    "1-core": (0.0425, 2.0, 3),
    "1.5-of-2-core": (0.064, 3.0, 4),
    "2-core": (0.085, 4.0, 6),
    "2-core-2-threads": (0.085, 4.0, 6),
}
REFERENCE = "2-core"  # SLOs are multiples of the solo latency on this VM type
SLO = 2.2
CLOSED_DEMAND = 0.45  # processors that one replica asked back to back is entered with
OBJECTIVE = {"price": 1.0, "degradation": 0.01, "slo": {"penalty": 0.05}}
ANYTHING = Limits(sentinel=1e9, foreign=1e9, stolen=1e9)
FEW_TREES = Settings(trees=40, learning_rate=0.2, encoding_folds=2, calibration_folds=2)
QUIET_LINES = 20.0  # seconds between two lines of progress


def draw_batch(known: Known, kinds: int, replicas: int, seed: int) -> dict[str, Any]:
    """Return an instance of measured models as JSON data; the same for the same data and seed.

    Half of the kinds are asked back to back, the others at a rate that was measured alone on
    every VM type, where there is one. Demands: processor time (a share where back to back) and
    memory. Latencies are the measured solo ones.
    """
    random = np.random.default_rng(seed)
    offered = [vm for vm in VM_TYPES if all(vm in known.nearest(m, None) for m in known.solo)]
    names = sorted(known.solo)
    chosen = sorted(random.choice(names, min(kinds, len(names)), replace=False).tolist())
    each, more = divmod(replicas, len(chosen))
    models = []
    for place, name in enumerate(chosen):
        rate = common_rate(known, name, offered) if place % 2 else None
        entries = known.nearest(name, rate)
        solo_ms = {vm: round(float(entries[vm]["latency_ms_p50"]), 3) for vm in offered}
        reference = solo_ms.get(REFERENCE, solo_ms[offered[0]])
        load = CLOSED_DEMAND if rate is None else rate * reference / 1000.0
        memory = max(float(e["memory_mib"] or 0.0) for e in known.nearest(name, None).values())
        models.append(
            {
                "name": name,
                "replicas": each + (place < more),
                "demand": {"vcpu": round(load, 3), "memory_gib": round(memory / 1024.0, 3)},
                "solo_latency_ms": solo_ms,
                "slo_ms": round(SLO * reference, 3),
            }
            | ({} if rate is None else {"rate_rps": rate})
        )
    vm_types = []
    for vm in offered:
        price, memory, most = VM_TYPES[vm]
        capacity = {"vcpu": Shape.parse(vm).vcpu, "memory_gib": memory}
        entry = {"name": vm, "capacity": capacity, "price": price, "max_models": most}
        vm_types.append(entry)
    return {
        "format": "placer/instance", "version": 1, "name": f"headline-{seed}",
        "vm_types": vm_types, "models": models, "interference": {"kind": "predictor"},
        "objective": OBJECTIVE,
    }  # fmt: skip


def common_rate(known: Known, name: str, vm_types: Sequence[str]) -> float | None:
    """Return the lowest rate at which a model was measured alone on every VM type."""
    on: dict[float, set[str]] = {}
    for entry in known.solo[name]:
        if entry["rate_rps"] is not None:
            on.setdefault(float(entry["rate_rps"]), set()).add(entry["vm_type"])
    return min((rate for rate, seen in on.items() if seen >= set(vm_types)), default=None)


def learn(folders: Sequence[Path], settings: Settings | None = None) -> Predictor:
    """Return a predictor trained on the runs of all folders together."""
    measured = read_folders(folders)
    # The host is a name and no property; one such as 075e48 would pass for a number, 75 x 10^47.
    nameless = measured.vm_types.drop(columns="host", errors="ignore")
    return Predictor.train(replace(measured, vm_types=nameless), settings=settings)


def builtin() -> Predictor:
    """Return the predictor that comes with placer."""
    from placer.interference.binding import load_predictor

    vm_type = placer.VmType(name="any", capacity={})
    asking = Instance.build(
        [vm_type], [placer.Model(name="any")], interference=PredictorInterference()
    )
    return load_predictor(asking)


def rehearsal(folder: Path) -> tuple[Predictor, Mapping[str, OnnxModel]]:
    """Make two small models, measure a few short runs and learn from them."""
    import onnx
    from onnx import numpy_helper, parser

    for name, width in (("narrow", 512), ("wide", 1024)):  # about 1 and 4 ms a request
        model = parser.parse_model(f"""<ir_version: 8, opset_import: ["" : 17]>
            {name} (float[64,{width}] x) => (float[64,{width}] y) {{ y = MatMul(x, w) }}""")
        values = np.full((width, width), 1.0 / width, dtype=np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, "w"))
        onnx.save(model, str(folder / f"{name}.onnx"))
    models = read_models(folder)
    names = [model.name for model in models]
    shapes = [Shape(cores) for cores in (1, 2) if cores <= len(host.processors())]
    groups = [
        Group.closed(shape.name, members)
        for shape in shapes
        for size in (2, 3)
        for members in combinations_with_replacement(names, size)
    ]
    data = DataSet(folder / "data")
    window = Window(seconds=0.05, requests=2, longest=0.2, warm_up=0.01)
    with Campaign(data, models, shapes, window=window, limits=ANYTHING) as campaign:
        campaign.measure([*solo(shapes, names), *groups])
    return learn([folder / "data"], FEW_TREES), {model.name: model for model in models}


def row_of(policy: str, instance: Instance, placement: Placement, found: Replay) -> dict[str, Any]:
    """Return one policy's figures; measured ones are None where a VM was not measured."""
    totals = found.totals()
    vms = {vm.name: 0 for vm in instance.vm_types}
    for vm in placement.vms:
        vms[vm.vm_type] += 1
    return {
        "policy": policy,
        "vms": totals["vms"],
        "price": totals["price"],
        "replicas": totals["replicas"],
        "slos": totals["slos"],
        **{f"{side}_mean": totals["mean_slowdown"][side] for side in ("predicted", "measured")},
        **{f"{side}_worst": totals["worst_slowdown"][side] for side in ("predicted", "measured")},
        **{f"{side}_missed": totals["slos_missed"][side] for side in ("predicted", "measured")},
        **{f"{side}_cost": totals["objective"][side] for side in ("predicted", "measured")},
        "degradation_ratio": totals["degradation_ratio"],
        "error_percent": totals["mean_absolute_error_percent"],
        "requests_over_slo_share": totals["requests_over_slo_share"],
        "latency_ms_p99": totals["latency_ms"]["p99"],
        "status": placement.status.value,
        "vms_by_type": str({name: count for name, count in vms.items() if count}),
    }


HEAD = (
    f"{'policy':22} {'VMs':>4} {'price':>7} {'mean slowdown':>15} {'worst':>13} "
    f"{'SLOs missed':>13} {'cost':>15} {'MAPE':>6}\n"
    f"{'':22} {'':4} {'':7} {'pred':>8} {'meas':>6} {'pred':>6} {'meas':>6} "
    f"{'pred':>6} {'meas':>6} {'pred':>8} {'meas':>6} {'%':>6}"
)


def show(row: dict[str, Any]) -> str:
    """Return a row as one line of the table."""

    def number(name: str, form: str, width: int) -> str:
        value = row[name]
        return f"{'-' if value is None else format(value, form):>{width}}"

    return (
        f"{row['policy']:22} {row['vms']:4} {number('price', '.3f', 7)} "
        f"{number('predicted_mean', '.2f', 8)} {number('measured_mean', '.2f', 6)} "
        f"{number('predicted_worst', '.2f', 6)} {number('measured_worst', '.2f', 6)} "
        f"{row['predicted_missed']:6} {row['measured_missed']:6} "
        f"{number('predicted_cost', '.3f', 8)} {number('measured_cost', '.3f', 6)} "
        f"{number('error_percent', '.1f', 6)}"
    )


class Progress:
    """Prints how far the campaign is, now and then."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, state: State) -> None:
        if time.monotonic() - self._last >= QUIET_LINES:
            self._last = time.monotonic()
            left = "" if state.seconds_left is None else f", {state.seconds_left:.0f} s left"
            print(f"  {state.done} of {state.total} runs{left}; {state.text}", flush=True)


def run(
    predictor: Predictor,
    models: Mapping[str, OnnxModel],
    batch: dict[str, Any],
    *,
    seconds: float,
    **replaying: Any,
) -> list[dict[str, Any]]:
    """Place the batch by each policy, replay all placements, and return one row for each."""
    instance = Instance.from_dict(batch).with_predictor(predictor)
    placements = {
        policy: placer.solve(instance, solver=policy, time_limit=seconds, explain=False).placement
        for policy in POLICIES
    }
    found = replay_all(
        {policy: one for policy, one in placements.items() if one.vms},
        models, instance=instance, on_progress=Progress(), **replaying,
    )  # fmt: skip
    rows = [row_of(policy, instance, placements[policy], one) for policy, one in found.items()]
    first = next(iter(found.values()))
    thrown = sum(first.runs_thrown.values())
    print(
        f"{instance.name}: {instance.total_replicas} replicas of {len(instance.models)} models; "
        f"{first.runs_kept} runs kept in {first.seconds:.0f} s, {thrown} thrown away "
        f"({first.stopped_by}), {first.started}"
    )
    print(HEAD)
    for row in rows:
        print(show(row), flush=True)
    measured = {row["policy"]: row["measured_cost"] for row in rows}
    best = measured.get("auto")
    if best and all(value is not None for value in measured.values()):
        others = [f"{p} {100 * (v / best - 1):+.1f} %" for p, v in measured.items() if p != "auto"]
        print(f"measured cost against auto: {', '.join(others)}")
    ratios = [row["degradation_ratio"] for row in rows if row["degradation_ratio"] is not None]
    if ratios:
        print(f"measured over predicted degradation: median {statistics.median(ratios):.2f}")
    return rows


def save(rows: list[dict[str, Any]], name: str, facts: Mapping[str, Any]) -> None:
    """Write the rows with machine, versions and host to benchmarks/results/NAME.parquet."""
    import pandas as pd

    folder = HERE / "results"
    folder.mkdir(exist_ok=True)
    table = pd.DataFrame(rows).assign(machine=machine.describe(), **facts)
    table.to_parquet(folder / f"{name}.parquet")


def arguments() -> argparse.Namespace:
    """Return the options given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, help="folder of ONNX models")
    parser.add_argument("--zoo", action="store_true", help="the built-in list of models")
    parser.add_argument("--data", type=Path, action="append", help="data set to learn from")
    parser.add_argument("--predictor", help="a predictor's file, or builtin, in place of --data")
    parser.add_argument("--kinds", type=int, default=14)
    parser.add_argument("--replicas", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each different VM")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a run")
    parser.add_argument("--time-limit", type=float, default=60.0, help="of a solve, seconds")
    parser.add_argument("--patience", type=float, default=3600.0, help="for a quiet host, seconds")
    parser.add_argument("--smoke", action="store_true", help="two small models, short runs")
    return parser.parse_args()


def main() -> None:
    """Run the benchmark."""
    options = arguments()
    facts = {key: str(value) for key, value in host.describe().items()}
    print(machine.describe())
    if options.smoke:
        with tempfile.TemporaryDirectory() as folder:
            predictor, models = rehearsal(Path(folder))
            batch = draw_batch(predictor.known, 2, 6, options.seed)
            window = Window(seconds=0.05, requests=2, longest=0.2, warm_up=0.01)
            rows = run(
                predictor, models, batch, seconds=2.0, repeats=1, window=window, limits=ANYTHING
            )
        save(rows, "headline_smoke", facts)
        return
    if options.predictor == "builtin":
        predictor = builtin()
    elif options.predictor:
        predictor = Predictor.load(options.predictor)
    else:
        predictor = learn(options.data or [MEASURED / "broad", MEASURED / "complete"])
    batch = draw_batch(predictor.known, options.kinds, options.replicas, options.seed)
    names = [model["name"] for model in batch["models"]]
    folder = options.models
    if options.zoo:
        from placer.measure.zoo import build_zoo, zoo_folder

        folder = build_zoo(folder or zoo_folder(), names, print)
    if folder is None:
        raise SystemExit("give --models FOLDER or --zoo")
    window = Window(options.seconds, longest=4.0 * options.seconds)
    rows = run(
        predictor, find_models(folder, names), batch, seconds=options.time_limit,
        repeats=options.repeats, window=window, limits=Limits(patience=options.patience),
    )  # fmt: skip
    save(rows, "headline", facts)


if __name__ == "__main__":
    main()
