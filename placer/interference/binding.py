"""From an instance that names a predictor to a predictor that answers for its models."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np

from placer.errors import InputError
from placer.interference.measured import measured_groups
from placer.problem import Instance, PredictorInterference
from placer.repeated import Repeated

if TYPE_CHECKING:
    from placer.interference.predictor import BoundPredictor, Predictor

BUILTIN = "builtin"
_BUILTIN_FILE = "builtin_predictor.json"
MOST_NOTES = 5


def load_predictor(instance: Instance) -> Predictor:
    """Return the predictor that `instance` names, its path relative to the instance's own file.

    Raises InputError where there is none, or none that can be read.
    """
    from placer.interference.predictor import Predictor

    if instance.predictor_in_memory is not None:
        return instance.predictor_in_memory
    assert isinstance(instance.interference, PredictorInterference)
    named = instance.interference.predictor
    if named != BUILTIN:
        try:
            return Predictor.load(instance.folder / named)
        except InputError as error:
            raise _refused(instance, str(error)) from None
    file = resources.files("placer") / "data" / _BUILTIN_FILE
    if not file.is_file():
        raise _refused(
            instance,
            "found 'builtin', but this version comes without a built-in predictor; expected the "
            "path of one made by `placer train`",
        )
    with resources.as_file(file) as path:
        return Predictor.load(path)


def _refused(instance: Instance, message: str) -> InputError:
    source = None if instance.file is None else str(instance.file)
    return InputError(message, path="interference.predictor", source=source)


def bound_predictor(instance: Instance) -> BoundPredictor:
    """Return the instance's predictor, bound to its models and VM types in their order.

    Raises InputError where a model or VM type is neither known to it nor described.
    """
    from placer.interference.predictor import ModelProfile, VmTypeProfile

    if instance.bound_predictor is None:
        models = [
            ModelProfile(
                name=model.name,
                rate_rps=model.rate_rps,
                features=model.features,
                solo_latency_ms={
                    v.name: latency
                    for v in instance.vm_types
                    if (latency := model.solo_latency_on(v.name)) is not None
                },
            )
            for model in instance.models
        ]
        vm_types = [VmTypeProfile(name=v.name, features=v.features) for v in instance.vm_types]
        predictor = load_predictor(instance)
        try:
            instance.remember_bound_predictor(predictor.bind(models, vm_types))
        except InputError as error:
            raise _refused(instance, str(error)) from None
    return instance.bound_predictor


def extrapolation_notes(
    instance: Instance, assignment: Iterable[tuple[str, Sequence[str]]]
) -> list[str]:
    """Return why groups of `assignment` are far from the predictor's training data.

    `assignment` is the VM type and the models of each VM. One note for each reason, the most
    frequent first, with the number of VMs that it holds for; at most six. Nothing where the
    instance asks no predictor; groups that were measured need none. Raises KeyError for unknown
    names.
    """
    if not isinstance(instance.interference, PredictorInterference):
        return []
    bound, measured = bound_predictor(instance), measured_groups(instance)
    number = {model.name: k for k, model in enumerate(instance.models)}
    vms: dict[str, Counter[tuple[int, ...]]] = defaultdict(Counter)
    for (vm_type, names), places in Repeated.of(assignment).runs():
        if (vm_type, tuple(sorted(names))) not in measured:
            vms[vm_type][tuple(sorted(number[name] for name in names))] += len(places)
    found: Counter[str] = Counter()
    for t, vm_type in enumerate(v.name for v in instance.vm_types):
        if vm_type not in vms:
            continue
        groups = np.full((len(vms[vm_type]), max(map(len, vms[vm_type]))), -1)
        for row, group in zip(groups, vms[vm_type], strict=True):
            row[: len(group)] = group
        counts = vms[vm_type].values()
        for reasons, count in zip(bound.extrapolation_reasons(t, groups), counts, strict=True):
            found.update(dict.fromkeys(reasons, count))
    notes = [
        f"far from the predictor's training data: {reason} ({count} VM{'s' * (count > 1)})"
        for reason, count in found.most_common(MOST_NOTES)
    ]
    if len(found) > MOST_NOTES:
        notes.append(f"and {len(found) - MOST_NOTES} more such reasons")
    return notes
