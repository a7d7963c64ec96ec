"""What a placement costs by measured slowdowns: the instance's objective over a group table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from placer.interference.measured import Key, rates_of
from placer.measure.dataset import Group
from placer.placement import Placement
from placer.problem import Instance, Model
from placer.scoring import Score, score
from placer.status import Status

Slowdowns = Mapping[Key, Mapping[str, float]]
"""By group, the measured slowdown of each model in it; replicas of a model have the same."""


def groups_of(instance: Instance, assignment: Iterable[tuple[str, Sequence[str]]]) -> list[Group]:
    """Return the group on each VM of `assignment`, members in order, at the instance's rates."""
    rates = rates_of(instance)
    return [
        Group(vm_type, tuple(sorted(names)), tuple(rates[name] for name in sorted(names)))
        for vm_type, names in assignment
    ]


def measured_score(
    instance: Instance,
    assignment: Sequence[tuple[str, Sequence[str]]],
    slowdowns: Slowdowns,
    solo_ms: Mapping[tuple[str, str], float] | None = None,
) -> Score | None:
    """Return the objective of `assignment` with measured slowdowns, None where a group has none.

    `solo_ms` are latencies in ms by VM type and model that replace the instance's own. A replica
    alone on its VM is its own reference: 1.0.
    """
    groups = {group.key: group for group in groups_of(instance, assignment)}
    shared = [group for group in groups.values() if len(group.models) > 1]
    if any(group.key not in slowdowns for group in shared):
        return None
    table: dict[str, list[dict[str, list[object]]]] = {}
    for group in shared:
        by_name = slowdowns[group.key]
        entry: dict[str, list[object]] = {
            "models": list(group.models),
            "slowdown": [by_name[name] for name in group.models],
        }
        table.setdefault(group.vm_type, []).append(entry)
    data = instance.to_dict()
    data["interference"] = {"kind": "groups", "slowdown": table}
    if solo_ms is not None:
        for given, model in zip(data["models"], instance.models, strict=True):
            given["solo_latency_ms"] = solo_latencies(instance, model, solo_ms) or None
    return score(Instance.from_dict(data), assignment)


def solo_latencies(
    instance: Instance, model: Model, solo_ms: Mapping[tuple[str, str], float]
) -> dict[str, float]:
    """Return a model's solo latency in ms by VM type: as measured, else as the instance says."""
    found = {}
    for vm_type in instance.vm_types:
        given = solo_ms.get((vm_type.name, model.name), model.solo_latency_on(vm_type.name))
        if given is not None:
            found[vm_type.name] = given
    return found


def asking_a_predictor(instance: Instance) -> Instance:
    """Return the instance, with a predictor for any other kind of interference."""
    if instance.interference.kind == "predictor":
        return instance
    data = {**instance.to_dict(), "interference": {"kind": "predictor"}}
    return Instance.from_dict(data, file=instance.file)


def degradation(instance: Instance, scored: Score) -> float:
    """Return the summed weight x (slowdown - 1) of all replicas placed."""
    weights = {model.name: model.weight for model in instance.models}
    return math.fsum(
        weights[one.model] * (one.slowdown - 1.0) for vm in scored.vms if vm for one in vm.replicas
    )


def restated(instance: Instance, placement: Placement, measured: Score | None) -> Placement:
    """Return a placement with the figures of the instance's predictor and what was measured.

    Its bound is kept only where the objective is still what it was when the bound was proved.
    """
    said = score(instance, placement.assignment())
    vms = []
    for place, vm in enumerate(placement.vms):
        scored, truth = said.vms[place], None if measured is None else measured.vms[place]
        assert scored is not None
        replicas = {one.model: one for one in scored.replicas}
        found = {} if truth is None else {one.model: one.slowdown for one in truth.replicas}
        models = []
        for model in vm.models:
            one = replicas[model.name]
            stated = model.model_dump(exclude={"slowdown_upper"})
            stated |= {"slowdown": one.slowdown, "latency_ms": one.latency_ms}
            if one.slowdown_upper != one.slowdown:
                stated["slowdown_upper"] = one.slowdown_upper
            if found:
                stated["measured_slowdown"] = found[model.name]
            models.append(stated)
        vms.append({**vm.model_dump(), "models": models})
    fields = placement.model_dump()
    fields |= {"vms": vms, "objective": said.objective, "terms": said.terms}
    before = placement.objective
    if before is None or not math.isclose(said.objective, before, rel_tol=1e-9, abs_tol=1e-9):
        fields |= {"status": Status.FEASIBLE, "bound": None, "gap": None}
    if measured is not None:
        fields["measured"] = {"objective": measured.objective, "terms": measured.terms}
    return Placement(**fields)
