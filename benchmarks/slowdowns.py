"""Tables of the slowdowns of every group: measured, predicted, by pairs, and with made-up noise."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement
from typing import Any

import numpy as np

from placer import ModelProfile, Predictor, VmTypeProfile
from placer.interference.measurements import Measurements

DEGREE = 4
Group = tuple[str, ...]
Table = dict[str, dict[Group, dict[str, float]]]
"""VM type -> group, sorted -> model -> slowdown; groups of two and more."""


def every_group(models: list[str], degree: int = DEGREE) -> Iterator[Group]:
    """Yield each multiset of 2 to `degree` of the models."""
    for size in range(2, degree + 1):
        yield from combinations_with_replacement(sorted(models), size)


def closed_loop(measurements: Measurements) -> Measurements:
    """Return the runs of which every replica ran back to back, up to the largest degree."""
    rows = measurements.rows
    opened = rows["rate_rps"].notna().groupby(rows["run"]).transform("any")
    return replace(measurements, rows=rows[~opened & (rows["degree"] <= DEGREE)])


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


@dataclass(frozen=True)
class Noise:
    """How far repeated runs of one group lie apart.

    `residuals` holds by degree one array for each run that was repeated: log slowdown of its
    members against the mean of that group's runs, widened for the mean's own error.
    """

    groups: int
    typical: float
    deviation: float
    residuals: dict[int, list[np.ndarray]]

    @staticmethod
    def of(measurements: Measurements) -> Noise | None:
        """Return the noise of the shared runs; None where no group was measured twice."""
        targets = measurements.targets()
        targets["log"] = np.log(targets["slowdown"])
        runs = targets.groupby("configuration")["run"].transform("nunique")
        again = targets[runs > 1].assign(runs=runs)
        if again.empty:
            return None
        by = again.groupby(["configuration", "model"])["log"]
        again = again.assign(left=again["log"] - by.transform("mean"))
        freedom = len(again) - by.ngroups
        again["left"] *= np.sqrt(again["runs"] / (again["runs"] - 1.0))
        apart = [np.abs(np.subtract.outer(one.to_numpy(), one.to_numpy())) for _, one in by]
        between = np.concatenate([np.expm1(d[np.triu_indices(len(d), 1)]) for d in apart])
        square = (again["left"] ** 2 * (again["runs"] - 1.0) / again["runs"]).sum()
        residuals: dict[int, list[np.ndarray]] = defaultdict(list)
        for _, one in again.groupby("run"):
            residuals[int(one["degree"].iloc[0])].append(one["left"].to_numpy())
        return Noise(
            groups=int(again["configuration"].nunique()),
            typical=float(np.median(between)),
            deviation=float(np.sqrt(square / freedom)),
            residuals=dict(residuals),
        )

    def copy(self, table: Table, seed: int) -> Table:
        """Return a made-up second measurement: every group with the residuals of a repeated run.

        Members of one group draw from one run, so what its replicas had in common stays.
        """
        random = np.random.default_rng(seed)
        anyone = [one for runs in self.residuals.values() for one in runs]

        def again(slowdown: dict[str, float], degree: int) -> dict[str, float]:
            runs = self.residuals.get(degree, anyone)
            left = runs[int(random.integers(len(runs)))]
            return {m: v * float(np.exp(random.choice(left))) for m, v in slowdown.items()}

        return {
            vm: {group: again(slowdown, len(group)) for group, slowdown in groups.items()}
            for vm, groups in table.items()
        }


def errors(told: Table, measured: Table, seen: set[Group]) -> dict[str, Any]:
    """Return by degree the error and the bias, percent, over the groups that were not seen.

    The bias is of the summed slowdown - 1 of all those groups, replicas counted.
    """
    found: dict[int, list[tuple[float, float, int]]] = defaultdict(list)
    for vm, groups in measured.items():
        for group, slowdown in groups.items():
            if group not in seen:
                found[len(group)] += [
                    (told[vm][group][m], value, group.count(m)) for m, value in slowdown.items()
                ]
    result = {}
    for degree, rows in sorted(found.items()):
        said, true, count = np.array(rows).T
        result[str(degree)] = {
            "mape": float(100.0 * np.abs(said / true - 1.0).mean()),
            "bias": float(100.0 * ((said - 1.0) @ count / ((true - 1.0) @ count) - 1.0)),
        }
    return result
