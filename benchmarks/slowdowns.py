"""Tables of the slowdowns of every group: measured, predicted, by pairs, and made up anew."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np

from placer import ModelProfile, Predictor, VmTypeProfile
from placer.interference.measurements import Measurements, from_tables, read_table

DEGREE = 4
Group = tuple[str, ...]
Table = dict[str, dict[Group, dict[str, float]]]
"""VM type -> group, sorted -> model -> slowdown; groups of two and more."""


def every_group(models: list[str], degree: int = DEGREE) -> Iterator[Group]:
    """Yield each multiset of 2 to `degree` of the models."""
    for size in range(2, degree + 1):
        yield from combinations_with_replacement(sorted(models), size)


def closed_loop(measurements: Measurements, most: float = DEGREE) -> Measurements:
    """Return the runs of at most so many replicas of which every one ran back to back."""
    rows = measurements.rows
    opened = rows["rate_rps"].notna().groupby(rows["run"]).transform("any")
    return replace(measurements, rows=rows[~opened & (rows["degree"] <= most)])


def read_by_mean(folder: Path) -> Measurements:
    """Return the measurements with the mean time of a request in place of the median latency.

    Back to back that is 1 / throughput. It wavers less where the system's scheduler gives a core
    to one of three replicas for a while: the median then jumps from one side to the other.
    """
    raw = read_table(folder / "measurements.csv")
    raw["latency_ms_p50"] = [str(1000.0 / float(rate)) for rate in raw["throughput_rps"]]
    tables = (read_table(folder / name) for name in ("models.csv", "vm_types.csv"))
    return from_tables(raw, *tables, source=str(folder))


def measured_table(measurements: Measurements) -> Table:
    """Return the median of the runs of each group, all closed loop."""
    targets = measurements.targets()
    table: Table = {}
    median = targets.groupby(["vm_type", "mix", "model"])["slowdown"].median()
    for (vm, mix, model), slowdown in median.items():  # type: ignore[misc]
        group = tuple(mix.split(" + "))
        table.setdefault(vm, {}).setdefault(group, {})[model] = float(slowdown)
    return table


def missing(table: Table, measurements: Measurements) -> list[str]:
    """Return in words the groups of the listed models and VM types that the table lacks."""
    return [
        f"{vm}: {' + '.join(group)}"
        for vm in measurements.vm_types.index
        for group in every_group(list(measurements.models.index))
        if group not in table.get(vm, {})
    ]


def predicted_table(predictor: Predictor, models: list[str], vms: list[str]) -> Table:
    """Return what the predictor says of every group, asked once for each VM type."""
    bound = predictor.bind([ModelProfile(m) for m in models], [VmTypeProfile(v) for v in vms])
    groups = list(every_group(models))
    rows = np.full((len(groups), DEGREE), -1)
    for row, group in zip(rows, groups, strict=True):
        row[: len(group)] = sorted(models.index(name) for name in group)
    table: Table = {}
    for number, vm in enumerate(vms):
        values = bound.slowdown(number, rows)
        table[vm] = {
            group: {models[k]: float(v) for k, v in zip(row, value, strict=True) if k >= 0}
            for group, row, value in zip(groups, rows, values, strict=True)
        }
    return table


def mixed_table(known: Table, other: Table, seen: set[Group]) -> Table:
    """Return `known` for the groups seen and `other` for the rest."""
    return {
        vm: {group: known[vm][group] if group in seen else other[vm][group] for group in groups}
        for vm, groups in known.items()
    }


def pairs_table(measured: Table, product: bool) -> Table:
    """Return the slowdown of every group as its pairs make it, summed or multiplied.

    A pair that was not measured counts as the mean of its VM type's pairs.
    """
    table: Table = {}
    for vm, groups in measured.items():
        pairs = {
            (model, company): slowdown[model]
            for group, slowdown in groups.items()
            if len(group) == 2
            for model, company in (group, group[::-1])
        }
        mean = float(np.mean(list(pairs.values()))) if pairs else 1.0
        table[vm] = {}
        for group in groups:
            table[vm][group] = {}
            for model in set(group):
                company = list(group)
                company.remove(model)
                each = np.array([pairs.get((model, one), mean) for one in company])
                slowdown = each.prod() if product else 1.0 + (each - 1.0).sum()
                table[vm][group][model] = float(slowdown)
    return table


def repeats(measurements: Measurements) -> str:
    """Return in words how far repeated runs of one group, and equal replicas of a run, differ."""
    targets = measurements.targets()
    runs = targets.groupby("configuration")["run"].transform("nunique")
    again = targets[runs > 1]
    lines = []
    for (vm, degree), part in again.groupby(["vm_type", "degree"]):
        by = part.groupby(["configuration", "model"])["slowdown"]
        apart = [np.abs(np.subtract.outer(v, v)) for v in (np.log(one.to_numpy()) for _, one in by)]
        between = np.concatenate([np.expm1(d[np.triu_indices(len(d), 1)]) for d in apart])
        lines.append(
            f"  {vm}, degree {degree}: {part['configuration'].nunique()} groups, "
            f"{100 * np.median(between):.1f} (90 % within {100 * np.quantile(between, 0.9):.1f})"
        )
    head = "two runs of one group: difference of a slowdown in percent, median"
    text = [head, *(lines or ["  no group was measured twice"])]
    shared = measurements.rows[measurements.rows["degree"] > 1]
    equal = shared.groupby(["vm_type", "degree", "run", "model"])["slowdown"]
    widest = (equal.max() / equal.min())[equal.size() > 1]
    text.append("slowest over fastest replica of one model in one run, median (90 % within):")
    for (vm, degree), part in widest.groupby(level=[0, 1]):
        text.append(f"  {vm}, degree {degree}: {part.median():.2f} ({part.quantile(0.9):.2f})")
    return "\n".join(text)


def second_measurement(measurements: Measurements, fitted: Table, seed: int) -> Table:
    """Return a made-up measurement of every group: what was fitted, and another group's luck.

    The luck of a run is what its replicas have over the fit; it is drawn from the runs of the same
    VM type and degree, whole, and dealt to the members at random. Errors of the fit count as luck.
    """
    random = np.random.default_rng([seed, 2])
    luck: dict[tuple[str, int], list[np.ndarray]] = defaultdict(list)
    shared = measurements.rows[measurements.rows["degree"] > 1]
    for _, run in shared.groupby("run"):
        vm, group = run["vm_type"].iloc[0], tuple(run["mix"].iloc[0].split(" + "))
        told = [fitted[vm][group][model] for model in run["model"]]
        luck[vm, len(group)].append(np.log(run["slowdown"].to_numpy() / told))
    table: Table = {}
    for vm, groups in fitted.items():
        table[vm] = {}
        for group, slowdown in groups.items():
            runs = luck[vm, len(group)]
            dealt = random.permutation(runs[int(random.integers(len(runs)))])
            mine = {m: dealt[[one == m for one in group]] for m in slowdown}
            table[vm][group] = {
                m: value * float(np.exp(np.median(mine[m]))) for m, value in slowdown.items()
            }
    return table


def errors(told: Table, measured: Table, seen: set[Group]) -> dict[int, dict[str, float]]:
    """Return by degree the errors in percent over the groups that were not seen.

    `members` and `sums` are mean absolute errors of slowdowns, of a member and summed over a
    group's replicas; `bias` is that of slowdown - 1, summed over all groups.
    """
    members: dict[int, list[float]] = defaultdict(list)
    sums: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for vm, groups in measured.items():
        for group, slowdown in groups.items():
            if group not in seen:
                said = told[vm][group]
                members[len(group)] += [abs(said[m] / slowdown[m] - 1.0) for m in slowdown]
                pair = (sum(said[m] for m in group), sum(slowdown[m] for m in group))
                sums[len(group)].append(pair)
    result = {}
    for degree in sorted(sums):
        said_sum, true = np.array(sums[degree]).T
        result[degree] = {
            "members": 100.0 * float(np.mean(members[degree])),
            "sums": 100.0 * float(np.abs(said_sum / true - 1.0).mean()),
            "bias": 100.0 * float((said_sum - degree).sum() / (true - degree).sum() - 1.0),
        }
    return result
