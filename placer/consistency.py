"""What the fields of an instance must say of each other: names known, nothing needed missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from placer.errors import InputError, near_name
from placer.validation import path_text

if TYPE_CHECKING:
    from placer.problem import (
        GroupEntry,
        GroupsInterference,
        Instance,
        PairwiseInterference,
    )


def verify(instance: Instance) -> None:
    """Raise InputError at the first name that is unknown or repeated, or value that is missing."""
    vm_types = _unique("vm_types", [v.name for v in instance.vm_types])
    models = _unique("models", [m.name for m in instance.models])
    _verify_models(instance, vm_types)
    _verify_rules(instance, models)
    interference = instance.interference
    if interference.kind == "pairwise":
        _verify_pairwise(instance, interference, ("interference",), vm_types, models)
        _require_pairs(instance, interference, ("interference",))
    elif interference.kind == "groups":
        _verify_groups(instance, interference, vm_types, models)


def _unique(field: str, names: list[str]) -> dict[str, int]:
    seen: dict[str, int] = {}
    for index, name in enumerate(names):
        if name in seen:
            raise InputError(
                f"found {name!r}, already the name of {field}[{seen[name]}]; names must differ",
                path=f"{field}[{index}].name",
            )
        seen[name] = index
    return seen


def _known(
    names: Iterable[str],
    known: Mapping[str, int],
    what: str,
    path: tuple[str | int, ...],
    extra: tuple[str, ...] = (),
) -> None:
    for index, name in enumerate(names):
        if name not in known and name not in extra:
            keyed = isinstance(names, Mapping)
            where = (*path, name) if keyed else (*path, index)
            raise InputError(
                f"unknown {what} {name!r}{near_name(name, known)}, expected the name of one of the "
                f"instance's {what}s",
                path=path_text(where),
            )


def _verify_models(instance: Instance, vm_types: Mapping[str, int]) -> None:
    for index, model in enumerate(instance.models):
        path = ("models", index)
        for field in ("demand_on", "cost_on"):
            _known(getattr(model, field), vm_types, "VM type", (*path, field))
        if isinstance(model.solo_latency_ms, dict):
            _known(model.solo_latency_ms, vm_types, "VM type", (*path, "solo_latency_ms"))
        if model.vm_types is not None:
            _known(model.vm_types, vm_types, "VM type", (*path, "vm_types"))
            _not_repeated(model.vm_types, (*path, "vm_types"))
        _verify_demand(instance, index)
        _verify_solo_latency(instance, index)


def _not_repeated(names: list[str], path: tuple[str | int, ...]) -> None:
    for index, name in enumerate(names):
        if name in names[:index]:
            raise InputError(
                f"found {name!r} twice, expected it once", path=path_text((*path, index))
            )


def _verify_demand(instance: Instance, index: int) -> None:
    model = instance.models[index]
    for t, vm_type in enumerate(instance.vm_types):
        if not model.may_run_on(vm_type.name):
            continue
        own = vm_type.name in model.demand_on
        for resource in model.demand_of(vm_type.name):
            if resource not in vm_type.capacity:
                field = ("demand_on", vm_type.name) if own else ("demand",)
                raise InputError(
                    f"resource {resource!r} is not in vm_types[{t}].capacity of {vm_type.name!r}"
                    f"{near_name(resource, vm_type.capacity)}, where this model may run; expected "
                    "every resource of a demand there",
                    path=path_text(("models", index, *field, resource)),
                )


def _verify_solo_latency(instance: Instance, index: int) -> None:
    model = instance.models[index]
    reasons = [
        reason
        for needed, reason in (
            (model.slo_ms is not None, "slo_ms is given"),
            (instance.objective.latency > 0, "objective.latency is above 0"),
        )
        if needed
    ]
    if not reasons:
        return
    for vm_type in instance.vm_types:
        if model.may_run_on(vm_type.name) and model.solo_latency_on(vm_type.name) is None:
            raise InputError(
                f"missing for VM type {vm_type.name!r}; expected a latency in ms, "
                f"since {reasons[0]}",
                path=f"models[{index}].solo_latency_ms",
            )


def _verify_rules(instance: Instance, models: Mapping[str, int]) -> None:
    for field in ("apart", "together"):
        for index, names in enumerate(getattr(instance.rules, field)):
            _known(names, models, "model", ("rules", field, index))


def _verify_pairwise(
    instance: Instance,
    table: PairwiseInterference,
    path: tuple[str | int, ...],
    vm_types: Mapping[str, int],
    models: Mapping[str, int],
) -> None:
    _known(table.slowdown, vm_types, "VM type", (*path, "slowdown"), extra=("*",))
    for vm_type, targets in table.slowdown.items():
        _known(targets, models, "model", (*path, "slowdown", vm_type))
        for target, co_runners in targets.items():
            if not co_runners.keys() <= models.keys():
                _known(co_runners, models, "model", (*path, "slowdown", vm_type, target))


def _require_pairs(
    instance: Instance, table: PairwiseInterference, path: tuple[str | int, ...]
) -> None:
    """Every ordered pair that could share a VM has a slowdown, unless a default speaks for it."""
    if table.default is not None:
        return
    for vm_type in instance.vm_types:
        if vm_type.max_models is not None and vm_type.max_models < 2:
            continue
        rows = table.table_for(vm_type.name)
        here = [m for m in instance.models if m.replicas and m.may_run_on(vm_type.name)]
        names = {m.name for m in here}
        for target in here:
            missing = names - rows.get(target.name, {}).keys()
            if target.replicas < 2:
                missing.discard(target.name)
            if missing:
                co_runner = min(missing)
                raise InputError(
                    f"no slowdown of {target.name!r} beside {co_runner!r}; expected one for every "
                    "ordered pair of models, or a default",
                    path=path_text((*path, "slowdown", vm_type.name, target.name, co_runner)),
                )


def _verify_groups(
    instance: Instance,
    table: GroupsInterference,
    vm_types: Mapping[str, int],
    models: Mapping[str, int],
) -> None:
    _known(table.slowdown, vm_types, "VM type", ("interference", "slowdown"), extra=("*",))
    for vm_type, entries in table.slowdown.items():
        seen: dict[tuple[str, ...], int] = {}
        for index, entry in enumerate(entries):
            path: tuple[str | int, ...] = ("interference", "slowdown", vm_type, index)
            _known(entry.models, models, "model", (*path, "models"))
            _verify_entry(entry, path)
            key = tuple(sorted(entry.models))
            if key in seen:
                raise InputError(
                    f"the group {', '.join(key)} is already entry {seen[key]}; expected each once",
                    path=path_text(path),
                )
            seen[key] = index
    if table.missing == "pairwise":
        if table.pairwise is None:
            raise InputError(
                "missing; expected a pair table, since interference.missing is 'pairwise'",
                path="interference.pairwise",
            )
        _verify_pairwise(instance, table.pairwise, ("interference", "pairwise"), vm_types, models)
        _require_pairs(instance, table.pairwise, ("interference", "pairwise"))


def _verify_entry(entry: GroupEntry, path: tuple[str | int, ...]) -> None:
    if len(entry.slowdown) != len(entry.models):
        raise InputError(
            f"found {len(entry.slowdown)} slowdowns for {len(entry.models)} models, "
            "expected one for each",
            path=path_text((*path, "slowdown")),
        )
    first: dict[str, float] = {}
    for index, (name, value) in enumerate(zip(entry.models, entry.slowdown, strict=True)):
        if first.setdefault(name, value) != value:
            raise InputError(
                f"found {value:g} for {name!r}, which has {first[name]:g} before; expected the "
                "same slowdown for replicas of the same model",
                path=path_text((*path, "slowdown", index)),
            )
