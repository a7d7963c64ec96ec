"""Every way in which a placement breaks its instance, or its own figures, as data.

The check needs the instance and the placement alone and shares no code with any solver.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from placer.placement import EqualVms, PlacedVm, Placement
from placer.problem import TOLERANCE, Instance, Model, VmType
from placer.scoring import TERMS, Score, VmScore, score
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
    vm_types = {v.name: v for v in instance.vm_types}
    models = {m.name: m for m in instance.models}
    placed = placed_replicas(placement)
    violations = [
        *_repeated_names(placement),
        *_each_vm(placement, lambda vm, _: _host(vm_types, models, vm)),
        *_coverage(instance, placement, placed),
        *_limits(instance, placement),
        *_each_vm(placement, lambda vm, _: _apart(instance, vm)),
        *_together(instance, placement, placed),
        *_each_vm(placement, lambda vm, i: _service(instance, vm, recomputed.vms[i])),
    ]
    allowed = all(vm is not None for vm, _ in recomputed.vms.runs())
    if allowed:
        violations += _figures(placement, recomputed)
    return CheckReport(violations, recomputed if allowed else None)


Finding = tuple[str, str, str]
"""A violation's code, its place within the VM, and the sentence."""


def _each_vm(
    placement: Placement, look: Callable[[PlacedVm, int], Iterable[Finding]]
) -> Iterator[Violation]:
    """Yield what `look` finds in each VM, given its place too; equal VMs break the same rules."""
    for vm, places in placement.equal_vms():
        if not any(True for _ in look(vm, places.start)):
            continue
        for i in places:
            for code, where, message in look(placement.vms[i], i):
                yield Violation(code, f"vms[{i}]{where}", message)


def _unknown_names(instance: Instance, placement: Placement) -> Iterator[Violation]:
    vm_types = {v.name for v in instance.vm_types}
    models = {m.name for m in instance.models}

    def look(vm: PlacedVm, _: int) -> Iterator[Finding]:
        if vm.vm_type not in vm_types:
            yield "unknown-vm-type", ".vm_type", f"VM type {vm.vm_type!r} is not on offer"
        for j, model in enumerate(vm.models):
            if model.name not in models:
                what = f"model {model.name!r} is not in the instance"
                yield "unknown-model", f".models[{j}].name", what

    yield from _each_vm(placement, look)


def _repeated_names(placement: Placement) -> Iterator[Violation]:
    if isinstance(placement.vms, EqualVms):
        return  # which numbers them
    names = Counter(vm.name for vm in placement.vms)
    for i, vm in enumerate(placement.vms):
        if names[vm.name] > 1:
            what = f"VM name {vm.name!r} is used more than once"
            yield Violation("repeated-vm", f"vms[{i}]", what)


def _host(vm_types: dict[str, VmType], models: dict[str, Model], vm: PlacedVm) -> Iterator[Finding]:
    """Capacity, co-location degree and admission of one VM."""
    vm_type = vm_types[vm.vm_type]
    used: dict[str, list[float]] = {}
    for placed in vm.models:
        model = models[placed.name]
        if not model.may_run_on(vm_type.name):
            what = f"model {model.name!r} may not run on VM type {vm_type.name!r}"
            yield "vm-type-not-allowed", "", what
        for resource, amount in model.demand_of(vm_type.name).items():
            used.setdefault(resource, []).append(amount)
    for resource, amounts in used.items():
        total, capacity = math.fsum(amounts), vm_type.capacity.get(resource, 0.0)
        if total > capacity + TOLERANCE:
            what = f"{vm.name!r} takes {total:g} {resource}, {vm_type.name!r} has {capacity:g}"
            yield "capacity", "", what
    most = vm_type.max_models
    if most is not None and len(vm.models) > most:
        what = f"{vm.name!r} holds {len(vm.models)} replicas, {vm_type.name!r} allows {most}"
        yield "max-models", "", what


def _coverage(
    instance: Instance, placement: Placement, placed: Counter[str]
) -> Iterator[Violation]:
    """Each replica once; left out only where that is allowed, and then listed."""
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
    used: Counter[str] = Counter()
    for vm, places in placement.equal_vms():
        used[vm.vm_type] += len(places)
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


def placed_replicas(placement: Placement) -> Counter[str]:
    """Return how many replicas of each model `placement` places, by name."""
    placed: Counter[str] = Counter()
    for vm, places in placement.equal_vms():
        for model in vm.models:
            placed[model.name] += len(places)
    return placed


def _apart(instance: Instance, vm: PlacedVm) -> Iterator[Finding]:
    """Who may not share a VM."""
    held = Counter(model.name for model in vm.models)
    for r, names in enumerate(instance.rules.apart):
        listed = Counter(names)
        here = [name for name in listed if held[name]]
        crowded = [name for name in here if listed[name] > 1 and held[name] > 1]
        if len(here) > 1 or crowded:
            together = here if len(here) > 1 else crowded * 2
            what = f"{' and '.join(map(repr, together))} share a VM, rules.apart[{r}] forbids it"
            yield "apart", "", what


def _together(
    instance: Instance, placement: Placement, placed: Counter[str]
) -> Iterator[Violation]:
    """Who must share a VM, where any of them runs."""
    if not instance.rules.together:
        return
    contents = [Counter(m.name for m in vm.models) for vm, _ in placement.equal_vms()]
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


def _service(instance: Instance, vm: PlacedVm, scored: VmScore | None) -> Iterator[Finding]:
    """Groups that a group table does not allow, and SLOs that are missed though they may not be."""
    if scored is None:
        group = ", ".join(sorted(model.name for model in vm.models))
        what = f"the group {group} on {vm.vm_type!r} is not listed, so it may not be formed"
        yield "group-not-listed", "", what
        return
    if instance.objective.slo_penalty is not None:
        return
    for replica in scored.replicas:
        if replica.over_slo:
            what = (
                f"model {replica.model!r} on {vm.name!r} takes {replica.latency_upper_ms:g} ms, "
                f"its slo_ms is {replica.slo_ms:g}"
            )
            yield "slo", "", what


def _figures(placement: Placement, scored: Score) -> Iterator[Violation]:
    """Figures stated in the file against those recomputed; what is not stated is not compared."""
    objective = scored.objective
    stated: list[tuple[str, float | None, float]] = [("objective", placement.objective, objective)]
    if placement.terms is not None:
        stated += [(f"terms.{t}", getattr(placement.terms, t), scored.terms[t]) for t in TERMS]
    for path, value, recomputed in stated:
        if differs := _differs(value, recomputed):
            yield Violation("figure-differs", path, differs)
    yield from _each_vm(placement, lambda vm, i: _figures_of(vm, scored.vms[i]))
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


def _figures_of(vm: PlacedVm, scored: VmScore | None) -> Iterator[Finding]:
    """Figures stated of one VM's replicas against those recomputed."""
    by_name = {replica.model: replica for replica in scored.replicas} if scored else {}
    for j, model in enumerate(vm.models):
        replica = by_name[model.name]
        if differs := _differs(model.slowdown, replica.slowdown):
            yield "figure-differs", f".models[{j}].slowdown", differs
        if replica.latency_ms is not None and (
            differs := _differs(model.latency_ms, replica.latency_ms)
        ):
            yield "figure-differs", f".models[{j}].latency_ms", differs


def _differs(stated: float | None, recomputed: float) -> str:
    """Return how a stated figure differs from the recomputed one, "" where it does not."""
    if stated is None or _close(stated, recomputed):
        return ""
    return f"states {stated:.9g}, recomputed {recomputed:.9g}"


def _close(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=RELATIVE_TOLERANCE, abs_tol=TOLERANCE)
