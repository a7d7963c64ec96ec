"""Slowdowns of whole groups straight from the instance, one group at a time.

The checker and the reports use this; solvers use the vectorised form in `tables`. The two are
written apart on purpose, so that each solve's check would show a fault in either.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from placer.interference.binding import bound_predictor
from placer.interference.measured import Group, measured_groups
from placer.problem import GroupsInterference, Instance, PairwiseInterference


@dataclass(frozen=True)
class GroupSlowdown:
    """Slowdown by model name in one group, and the upper bound that its SLOs are checked with."""

    mean: dict[str, float]
    upper: dict[str, float]


def group_slowdowns(
    instance: Instance, groups: Iterable[Group]
) -> dict[Group, GroupSlowdown | None]:
    """Return each group's slowdowns, None for a group that has none and so may not be formed:
    not in a group table, or with a pair of which nothing is said (the instance asks for pairs
    only where both may share a VM).

    Raises InputError where a predictor lacks what it needs.
    """
    wanted = list(dict.fromkeys(groups))
    interference = instance.interference
    if interference.kind == "predictor":
        return _predicted(instance, wanted)
    if interference.kind == "groups":
        return _listed(interference, wanted)
    if interference.kind == "pairwise":
        return {group: _from_pairs(interference, group) for group in wanted}
    return {group: _same(dict.fromkeys(group[1], 1.0)) for group in wanted}


def _same(mean: dict[str, float]) -> GroupSlowdown:
    return GroupSlowdown(mean=mean, upper=mean)


def _from_pairs(table: PairwiseInterference, group: Group) -> GroupSlowdown | None:
    vm_type, names = group
    result: dict[str, float] = {}
    for index, target in enumerate(names):
        if target in result:
            continue
        slowdown = 1.0
        for other, co_runner in enumerate(names):
            if other == index:
                continue
            pair = table.pair(vm_type, target, co_runner)
            if pair is None:
                return None
            slowdown = slowdown * pair if table.combine == "product" else slowdown + (pair - 1.0)
        result[target] = slowdown
    return _same(result)


def _listed(table: GroupsInterference, wanted: list[Group]) -> dict[Group, GroupSlowdown | None]:
    listed: dict[str, dict[tuple[str, ...], dict[str, float]]] = {}
    for vm_type in {group[0] for group in wanted}:
        listed[vm_type] = {
            tuple(sorted(entry.models)): dict(zip(entry.models, entry.slowdown, strict=True))
            for entry in table.entries_for(vm_type)
        }
    found: dict[Group, GroupSlowdown | None] = {}
    for vm_type, names in wanted:
        entry = listed[vm_type].get(names)
        if entry is not None:
            found[vm_type, names] = _same(entry)
        elif len(names) <= 1:
            found[vm_type, names] = _same(dict.fromkeys(names, 1.0))
        elif table.missing == "pairwise" and table.pairwise is not None:
            found[vm_type, names] = _from_pairs(table.pairwise, (vm_type, names))
        else:
            found[vm_type, names] = None
    return found


def _predicted(instance: Instance, wanted: list[Group]) -> dict[Group, GroupSlowdown | None]:
    bound, measured = bound_predictor(instance), measured_groups(instance)
    number = {model.name: k for k, model in enumerate(instance.models)}
    quantile = getattr(instance.interference, "slo_quantile", None)
    by_type: dict[str, list[Group]] = defaultdict(list)
    for group in wanted:
        by_type[group[0]].append(group)
    found: dict[Group, GroupSlowdown | None] = {}
    for t, vm_type in enumerate(v.name for v in instance.vm_types):
        asked = by_type.get(vm_type, [])
        if not asked:
            continue
        rows = np.full((len(asked), max(len(names) for _, names in asked)), -1, dtype=np.int32)
        for row, (_, names) in zip(rows, asked, strict=True):
            row[: len(names)] = sorted(number[name] for name in names)
        mean = bound.slowdown(t, rows)
        for row, values, (_, names) in zip(rows, mean, asked, strict=True):
            of_group = measured.get((vm_type, names))
            if of_group is not None:
                values[: len(names)] = [of_group[instance.models[k].name] for k in row if k >= 0]
        upper = mean if quantile is None else bound.upper_of(t, rows, mean, quantile)
        for row, group, m, u in zip(rows, asked, mean, upper, strict=True):
            members = [instance.models[k].name for k in row if k >= 0]
            found[group] = GroupSlowdown(
                mean=dict(zip(members, map(float, m), strict=False)),
                upper=dict(zip(members, map(float, u), strict=False)),
            )
    return found
