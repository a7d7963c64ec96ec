"""Groups that were measured, whose slowdowns need no predictor."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from placer.errors import InputError
from placer.interference.measurements import Measurements, read_measurements
from placer.problem import Instance, PredictorInterference
from placer.repeated import Repeated

Key = tuple[str, tuple[tuple[str, float | None], ...]]
"""A VM type's name, and the name and rate (None: closed loop) of each member, sorted."""

Group = tuple[str, tuple[str, ...]]
"""A VM type's name and the names of the models on one VM of it, sorted."""


def key_of_group(vm_type: str, members: Iterable[tuple[str, float | None]]) -> Key:
    """Return the same key for every order of the same members."""
    return vm_type, tuple(sorted(members, key=lambda member: (member[0], member[1] or 0.0)))


def kept_rate(rate_rps: float | None) -> float | None:
    """Return a rate as a data set keeps it, so that what was measured is found again."""
    return None if rate_rps is None else float(f"{rate_rps:.6g}")


def measured_slowdowns(measurements: Measurements) -> dict[Key, dict[str, float]]:
    """Return the slowdowns of every group that ran together, medians over its runs.

    Replicas of one model in one run count once, by their median. Models are told apart by name
    alone, so a group with one model at two rates is left out.
    """
    members: dict[str, list[tuple[str, float | None]]] = {}
    found: dict[str, dict[str, list[float]]] = {}
    vm_types: dict[str, str] = {}
    rows = measurements.rows[measurements.rows["degree"] > 1]
    columns = (rows[name] for name in ("run", "vm_type", "model", "rate_rps", "slowdown"))
    for run, vm_type, model, rate, slowdown in zip(*columns, strict=True):
        vm_types[run] = str(vm_type)
        pair = (str(model), kept_rate(None if math.isnan(rate) else float(rate)))
        members.setdefault(run, []).append(pair)
        if not math.isnan(slowdown):
            found.setdefault(run, {}).setdefault(str(model), []).append(float(slowdown))
    collected: dict[Key, dict[str, list[float]]] = {}
    for run, pairs in members.items():
        names = {name for name, _ in pairs}
        if len(set(pairs)) > len(names) or found.get(run, {}).keys() != names:
            continue
        of_group = collected.setdefault(key_of_group(vm_types[run], pairs), {})
        for name, values in found[run].items():
            of_group.setdefault(name, []).append(median(values))
    return {
        key: {name: median(values) for name, values in by_name.items()}
        for key, by_name in collected.items()
    }


def rates_of(instance: Instance) -> dict[str, float | None]:
    """Return the rate of each model by name, as a data set keeps it."""
    return {model.name: kept_rate(model.rate_rps) for model in instance.models}


def names_measurements(instance: Instance) -> bool:
    """Return whether measurements stand beside the instance's predictor."""
    interference = instance.interference
    return isinstance(interference, PredictorInterference) and (
        interference.measured is not None or instance.measurements_in_memory is not None
    )


def measured_groups(instance: Instance) -> Mapping[Group, Mapping[str, float]]:
    """Return the measured slowdown of each model in the groups that the instance could form.

    Those that ran at the models' rates in the measurements that stand beside its predictor; none
    where it names no measurements. Raises InputError where they cannot be read.
    """
    if not names_measurements(instance):
        return {}
    if instance.measured_groups is None:
        measurements = instance.measurements_in_memory
        if measurements is None:
            folder = str(getattr(instance.interference, "measured", ""))
            try:
                measurements = read_measurements(instance.folder / folder)
            except InputError as error:
                source = None if instance.file is None else str(instance.file)
                raise InputError(str(error), path="interference.measured", source=source) from None
        instance.remember_measured_groups(_groups_of(instance, measurements))
    found: Mapping[Group, Mapping[str, float]] = instance.measured_groups
    return found


def _groups_of(instance: Instance, measurements: Measurements) -> dict[Group, dict[str, float]]:
    rates = rates_of(instance)
    vm_types = {vm_type.name for vm_type in instance.vm_types}
    found = {}
    for (vm_type, members), slowdowns in measured_slowdowns(measurements).items():
        here = all(name in rates and rates[name] == rate for name, rate in members)
        if here and vm_type in vm_types:
            found[vm_type, tuple(sorted(name for name, _ in members))] = slowdowns
    return found


def measured_notes(
    instance: Instance, assignment: Iterable[tuple[str, Sequence[str]]]
) -> list[str]:
    """Return on how many shared VMs of `assignment` the slowdowns are measured ones.

    Nothing where the instance names no measurements, or no VM is shared.
    """
    if not names_measurements(instance):
        return []
    known = measured_groups(instance)
    shared = measured = 0
    for (vm_type, names), places in Repeated.of(assignment).runs():
        if len(names) > 1:
            shared += len(places)
            measured += len(places) * ((vm_type, tuple(sorted(names))) in known)
    if not known:
        return ["no group of these models, rates and VM types was measured: all is predicted"]
    if not shared:
        return []
    return [f"slowdowns are measured on {measured} of {shared} shared VMs, predicted on the others"]
