"""Every way in which a placement breaks its instance, or its own figures, as data.

The check needs the instance and the placement alone and shares no code with any solver.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from placer.placement import Placement
from placer.problem import TOLERANCE, Instance
from placer.scoring import TERMS, Score, score
from placer.status import Status, gap_between

RELATIVE_TOLERANCE = 1e-6
"""Relative tolerance with which figures stated in a placement file are compared."""


@dataclass(frozen=True)
class Violation:
    """One broken promise: a stable code, the place in the placement, and a sentence."""

    code: str
    path: str
    message: str


@dataclass(frozen=True)
class CheckReport:
    """What the check found: violations, and the objective recomputed from the instance."""

    violations: list[Violation]
    score: Score | None

    @property
    def ok(self) -> bool:
        """Whether nothing is broken."""
        return not self.violations

    def to_dict(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return {
            "ok": self.ok,
            "objective": self.score.objective if self.score else None,
            "terms": self.score.terms if self.score else None,
            "violations": [asdict(violation) for violation in self.violations],
        }


def check(instance: Instance, placement: Placement) -> CheckReport:
    """Return every violation of `instance` by `placement`, and the objective recomputed."""
    unknown = list(_unknown_names(instance, placement))
    if unknown:
        return CheckReport(unknown, None)
    recomputed = score(instance, placement.assignment())
    violations = [
        *_hosts(instance, placement),
        *_coverage(instance, placement),
        *_limits(instance, placement),
        *_company(instance, placement),
        *_service(instance, placement, recomputed),
    ]
    allowed = all(vm is not None for vm in recomputed.vms)
    if allowed:
        violations += _figures(placement, recomputed)
    return CheckReport(violations, recomputed if allowed else None)


def _unknown_names(instance: Instance, placement: Placement) -> Iterator[Violation]:
    vm_types = {v.name for v in instance.vm_types}
    models = {m.name for m in instance.models}
    for i, vm in enumerate(placement.vms):
        if vm.vm_type not in vm_types:
            yield Violation(
                "unknown-vm-type", f"vms[{i}].vm_type", f"VM type {vm.vm_type!r} is not on offer"
            )
        for j, model in enumerate(vm.models):
            if model.name not in models:
                yield Violation(
                    "unknown-model",
                    f"vms[{i}].models[{j}].name",
                    f"model {model.name!r} is not in the instance",
                )


def _hosts(instance: Instance, placement: Placement) -> Iterator[Violation]:
    """Capacity, co-location degree and admission, VM by VM."""
    vm_types = {v.name: v for v in instance.vm_types}
    models = {m.name: m for m in instance.models}
    names = Counter(vm.name for vm in placement.vms)
    for i, vm in enumerate(placement.vms):
        vm_type, path = vm_types[vm.vm_type], f"vms[{i}]"
        if names[vm.name] > 1:
            yield Violation("repeated-vm", path, f"VM name {vm.name!r} is used more than once")
        used: dict[str, list[float]] = {}
        for placed in vm.models:
            model = models[placed.name]
            if not model.may_run_on(vm_type.name):
                yield Violation(
                    "vm-type-not-allowed",
                    path,
                    f"model {model.name!r} may not run on VM type {vm_type.name!r}",
                )
            for resource, amount in model.demand_of(vm_type.name).items():
                used.setdefault(resource, []).append(amount)
        for resource, amounts in used.items():
            total, capacity = math.fsum(amounts), vm_type.capacity.get(resource, 0.0)
            if total > capacity + TOLERANCE:
                yield Violation(
                    "capacity",
                    path,
                    f"{vm.name!r} takes {total:g} {resource}, {vm_type.name!r} has {capacity:g}",
                )
        if vm_type.max_models is not None and len(vm.models) > vm_type.max_models:
            yield Violation(
                "max-models",
                path,
                f"{vm.name!r} holds {len(vm.models)} replicas, {vm_type.name!r} allows "
                f"{vm_type.max_models}",
            )


def _coverage(instance: Instance, placement: Placement) -> Iterator[Violation]:
    """Each replica once; left out only where that is allowed, and then listed."""
    placed = Counter(model.name for vm in placement.vms for model in vm.models)
    listed = Counter(u if isinstance(u, str) else u.name for u in placement.unplaced)
    for model in instance.models:
        missing = model.replicas - placed[model.name]
        if missing < 0:
            yield Violation(
                "too-many-replicas",
                "vms",
                f"model {model.name!r} is placed {placed[model.name]} times, has {model.replicas}",
            )
        elif missing > 0 and instance.objective.unplaced_penalty is None:
            yield Violation(
                "not-placed",
                "vms",
                f"{missing} of {model.replicas} replicas of model {model.name!r} are not placed",
            )
        if listed[model.name] != max(0, missing):
            yield Violation(
                "unplaced-differs",
                "unplaced",
                f"lists {listed[model.name]} of model {model.name!r}, {max(0, missing)} are "
                "not placed",
            )
    known = {model.name for model in instance.models}
    for name in sorted(listed.keys() - known):
        yield Violation("unknown-model", "unplaced", f"model {name!r} is not in the instance")


def _limits(instance: Instance, placement: Placement) -> Iterator[Violation]:
    """How many VMs of each type, of all types, and at what summed price."""
    used = Counter(vm.vm_type for vm in placement.vms)
    for vm_type in instance.vm_types:
        if vm_type.count is not None and used[vm_type.name] > vm_type.count:
            yield Violation(
                "count",
                "vms",
                f"{used[vm_type.name]} VMs of type {vm_type.name!r}, count allows {vm_type.count}",
            )
    rules = instance.rules
    if rules.max_vms is not None and len(placement.vms) > rules.max_vms:
        yield Violation(
            "max-vms", "vms", f"{len(placement.vms)} VMs, rules.max_vms allows {rules.max_vms}"
        )
    price = math.fsum(v.price * used[v.name] for v in instance.vm_types)
    if rules.max_price is not None and price > rules.max_price + TOLERANCE:
        yield Violation(
            "max-price",
            "vms",
            f"summed price {price:g}, rules.max_price allows {rules.max_price:g}",
        )


def _company(instance: Instance, placement: Placement) -> Iterator[Violation]:
    """Who may not share a VM, and who must."""
    contents = [Counter(model.name for model in vm.models) for vm in placement.vms]
    for r, names in enumerate(instance.rules.apart):
        listed = Counter(names)
        for i, held in enumerate(contents):
            here = [name for name in listed if held[name]]
            crowded = [name for name in here if listed[name] > 1 and held[name] > 1]
            if len(here) > 1 or crowded:
                together = here if len(here) > 1 else crowded * 2
                yield Violation(
                    "apart",
                    f"vms[{i}]",
                    f"{' and '.join(map(repr, together))} share a VM, rules.apart[{r}] forbids it",
                )
    placed = Counter[str]()
    for held in contents:
        placed.update(held)
    for r, names in enumerate(instance.rules.together):
        listed = Counter(names)
        if not any(placed[name] for name in listed):
            continue  # nothing of the list runs, so nothing of it runs apart
        if not any(all(held[n] >= c for n, c in listed.items()) for held in contents):
            yield Violation(
                "together",
                "vms",
                f"no VM holds {', '.join(map(repr, names))} together, rules.together[{r}] "
                "asks for it",
            )


def _service(instance: Instance, placement: Placement, scored: Score) -> Iterator[Violation]:
    """Groups that a group table does not allow, and SLOs that are missed though they may not be."""
    for i, (vm, result) in enumerate(zip(placement.vms, scored.vms, strict=True)):
        if result is None:
            group = ", ".join(sorted(model.name for model in vm.models))
            yield Violation(
                "group-not-listed",
                f"vms[{i}]",
                f"the group {group} on {vm.vm_type!r} is not listed, so it may not be formed",
            )
            continue
        if instance.objective.slo_penalty is not None:
            continue
        for replica in result.replicas:
            if replica.over_slo:
                yield Violation(
                    "slo",
                    f"vms[{i}]",
                    f"model {replica.model!r} on {vm.name!r} takes "
                    f"{replica.latency_upper_ms:g} ms, its slo_ms is {replica.slo_ms:g}",
                )


def _figures(placement: Placement, scored: Score) -> Iterator[Violation]:
    """Figures stated in the file against those recomputed; what is not stated is not compared."""
    objective = scored.objective
    stated: list[tuple[str, float | None, float]] = [("objective", placement.objective, objective)]
    if placement.terms is not None:
        stated += [(f"terms.{t}", getattr(placement.terms, t), scored.terms[t]) for t in TERMS]
    for i, (vm, result) in enumerate(zip(placement.vms, scored.vms, strict=True)):
        by_name = {replica.model: replica for replica in result.replicas} if result else {}
        for j, model in enumerate(vm.models):
            replica, path = by_name[model.name], f"vms[{i}].models[{j}]"
            stated.append((f"{path}.slowdown", model.slowdown, replica.slowdown))
            if replica.latency_ms is not None:
                stated.append((f"{path}.latency_ms", model.latency_ms, replica.latency_ms))
    for path, value, recomputed in stated:
        if value is not None and not _close(value, recomputed):
            yield Violation(
                "figure-differs", path, f"states {value:.9g}, recomputed {recomputed:.9g}"
            )
    bound = placement.bound
    if bound is not None and bound > objective and not _close(bound, objective):
        yield Violation(
            "bound-above-objective", "bound", f"{bound:.9g} is above the objective {objective:.9g}"
        )
    gap = gap_between(placement.objective, bound)
    stated_gap = placement.gap
    if stated_gap is not None and gap is not None and abs(gap - stated_gap) > 1e-6 + gap / 1e3:
        yield Violation("figure-differs", "gap", f"states {placement.gap:.9g}, is {gap:.9g}")
    if placement.status in (Status.INFEASIBLE, Status.UNKNOWN) and placement.vms:
        yield Violation(
            "status", "status", f"is {placement.status.value!r}, yet a placement is given"
        )


def _close(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=RELATIVE_TOLERANCE, abs_tol=TOLERANCE)
