"""What is run for a placement: its groups at their rates, this host's shapes, the ONNX files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from placer.errors import InputError, UsageError, near_name
from placer.interference.measured import kept_rate
from placer.measure import host
from placer.measure.dataset import Group
from placer.measure.onnx_models import OnnxModel, read_catalogue, read_model, read_models
from placer.measure.shapes import FORM, Shape, fitting
from placer.placement import PlacedModel, PlacedVm, Placement
from placer.problem import TOLERANCE, Instance
from placer.scoring import score


@dataclass(frozen=True)
class Job:
    """Equal VMs of one placement, or one VM, and the group that is run for them."""

    group: Group
    vms: tuple[PlacedVm, ...]


def jobs_of(
    placement: Placement,
    models: Mapping[str, OnnxModel],
    instance: Instance | None,
    every: bool,
) -> list[Job]:
    """Return what is to be run for a placement; empty VMs are left out. Raises InputError."""
    rates = rates_of(placement, models, instance)
    offered = None if instance is None else [vm_type.name for vm_type in instance.vm_types]
    found: dict[object, list[PlacedVm]] = {}
    groups: dict[object, Group] = {}
    for place, vm in enumerate(placement.vms):
        if not vm.models:
            continue
        if offered is not None and vm.vm_type not in offered:
            raise InputError(
                f"VM type {vm.vm_type!r} is not in the instance{near_name(vm.vm_type, offered)}",
                path=f"vms[{place}].vm_type",
            )
        names = tuple(sorted(model.name for model in vm.models))
        group = Group(vm.vm_type, names, tuple(rates[name] for name in names))
        key = (group.key, place if every else 0)
        groups[key] = group
        found.setdefault(key, []).append(vm)
    if not found:
        raise InputError("there is no VM with a replica; nothing can be replayed", path="vms")
    return [Job(groups[key], tuple(vms)) for key, vms in found.items()]


def rates_of(
    placement: Placement, models: Mapping[str, OnnxModel], instance: Instance | None
) -> dict[str, float | None]:
    """Return the rate of each model of a placement, requests/s, None for closed loop.

    Raises InputError for a model that has no file or is not in the instance, and for a rate of 0.
    """
    given = None if instance is None else {model.name: model for model in instance.models}
    rates: dict[str, float | None] = {}
    for i, vm in enumerate(placement.vms):
        for j, placed in enumerate(vm.models):
            name, path = placed.name, f"vms[{i}].models[{j}].name"
            if name not in models:
                raise InputError(f"there is no {name}.onnx{near_name(name, models)}", path=path)
            if given is None:
                rates[name] = None
            elif name not in given:
                raise InputError(
                    f"model {name!r} is not in the instance{near_name(name, given)}", path=path
                )
            elif given[name].rate_rps == 0:
                raise InputError(
                    f"model {name!r} has rate_rps 0 in the instance; a replica without requests "
                    "has no latency to measure",
                    path=path,
                )
            else:
                rates[name] = kept_rate(given[name].rate_rps)
    return rates


def shapes_of(placement: Placement, given: Mapping[str, Shape]) -> dict[str, Shape]:
    """Return the shape of this host that plays each VM type of a placement. Raises InputError."""
    first: dict[str, str] = {}
    for i, vm in enumerate(placement.vms):
        first.setdefault(vm.vm_type, f"vms[{i}].vm_type")
    return {name: shape_for(name, given, path) for name, path in first.items()}


def vm_type_shapes(instance: Instance, given: Mapping[str, Shape]) -> dict[str, Shape]:
    """Return the shape of this host that plays each VM type of an instance. Raises InputError."""
    return {
        vm_type.name: shape_for(vm_type.name, given, f"vm_types[{t}].name")
        for t, vm_type in enumerate(instance.vm_types)
    }


def shape_for(name: str, given: Mapping[str, Shape], path: str) -> Shape:
    """Return the shape that plays a VM type: the one given, or that in its name.

    Raises InputError where there is none, or the host is too small for it.
    """
    shape = given.get(name) or shape_in(name)
    if shape is None:
        raise InputError(
            f"VM type {name!r} is no shape of this host; say which one plays it, such as "
            f"--vm-type {name}=2-core",
            path=path,
        )
    try:
        fitting([shape], len(host.processors()))
    except InputError as error:
        raise InputError(error.message, path=path) from None
    return shape


def shape_in(name: str) -> Shape | None:
    """Return the shape that a VM type's name ends in, behind any label, or None."""
    for start in range(len(name)):
        if FORM.fullmatch(name[start:]):
            try:
                return Shape.parse(name[start:])
            except UsageError:
                return None
    return None


def find_models(folder: str | Path, names: Iterable[str]) -> dict[str, OnnxModel]:
    """Return the models of a folder of ONNX files; only those of these names have features.

    Raises InputError where the folder has no model, or one of these is no ONNX model.
    """
    files = {file.stem: file for file in sorted(Path(folder).glob("*.onnx"))}
    if not files:
        return {model.name: model for model in read_models(folder)}  # says what is wrong
    said, wanted = read_catalogue(Path(folder)), set(names)
    return {
        name: read_model(file, said.get(name, {})) if name in wanted else OnnxModel(name, file)
        for name, file in files.items()
    }


def require_models(instance: Instance, models: Mapping[str, OnnxModel]) -> None:
    """Raise InputError for a model of an instance that has no file, or a rate of 0."""
    for k, model in enumerate(instance.models):
        if model.replicas and model.name not in models:
            raise InputError(
                f"there is no {model.name}.onnx{near_name(model.name, models)}",
                path=f"models[{k}].name",
            )
        if model.rate_rps == 0:
            raise InputError(
                "found 0; a replica without requests has no latency to measure",
                path=f"models[{k}].rate_rps",
            )


def predictions(
    placement: Placement, instance: Instance | None
) -> dict[tuple[str, str], PlacedModel]:
    """Return what is predicted of each model on each VM, by the VM's and the model's name.

    As the placement states it; what it leaves out comes from the instance, if there is one.
    """
    found = {(vm.name, model.name): model for vm in placement.vms for model in vm.models}
    if instance is None:
        return found
    slos = {model.name: model.slo_ms for model in instance.models}
    if any(model.slowdown is None for model in found.values()):
        scored = score(instance, placement.assignment()).vms
        for vm, of_vm in zip(placement.vms, scored, strict=True):
            for one in of_vm.replicas if of_vm is not None else ():
                found[vm.name, one.model] = PlacedModel(
                    name=one.model, slowdown=one.slowdown, latency_ms=one.latency_ms
                )
    return {
        (vm, name): placed.model_copy(update={"slo_ms": slos[name]})
        for (vm, name), placed in found.items()
    }


def predicted_over_slo(placed: PlacedModel) -> bool | None:
    """Say whether a placement expects a replica to miss its SLO; None where it cannot tell."""
    if placed.slo_ms is None or placed.latency_ms is None or placed.slowdown is None:
        return None
    upper = (placed.model_extra or {}).get("slowdown_upper", placed.slowdown)
    return bool(placed.latency_ms * upper / placed.slowdown > placed.slo_ms + TOLERANCE)
