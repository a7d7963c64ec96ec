"""The objective, by term, by VM and by replica: its one definition.

It needs the instance and an assignment, no solver. What solvers compute for themselves is held
against this before any placement leaves the program.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from placer.interference.plain import Group, GroupSlowdown, group_slowdowns
from placer.problem import TOLERANCE, Instance, Model, VmType, best_solo_latency
from placer.repeated import Repeated

TERMS = ("price", "degradation", "latency", "slo", "unplaced")


@dataclass(frozen=True)
class ReplicaScore:
    """One replica on its VM: slowdown, its upper bound where SLOs use one, latency in ms."""

    model: str
    slowdown: float
    slowdown_upper: float
    latency_ms: float | None
    latency_upper_ms: float | None
    slo_ms: float | None

    @property
    def over_slo(self) -> bool:
        """Whether the replica misses its SLO, by more than the tolerance."""
        return (
            self.slo_ms is not None
            and self.latency_upper_ms is not None
            and self.latency_upper_ms > self.slo_ms + TOLERANCE
        )


@dataclass(frozen=True)
class VmScore:
    """One VM's terms, already multiplied by the objective's weights, and its replicas."""

    vm_type: str
    replicas: tuple[ReplicaScore, ...]
    terms: dict[str, float]

    @property
    def cost(self) -> float:
        """What this VM and its replicas add to the objective."""
        return math.fsum(self.terms.values())


@dataclass(frozen=True)
class Score:
    """The objective of an assignment by term; VMs whose group may not be formed have no score.

    vms: in the assignment's order, one object for all equal VMs.
    """

    terms: dict[str, float]
    vms: Repeated[VmScore | None] = field(repr=False)

    @property
    def objective(self) -> float:
        """The sum of the terms."""
        return math.fsum(self.terms.values())


def score(instance: Instance, assignment: Iterable[tuple[str, Sequence[str]]]) -> Score:
    """Return the objective of `assignment`, a VM type and the model names of each VM.

    Replicas that no VM holds count as unplaced, at the instance's penalty (0 where it is a ban:
    that the ban is broken is for the checker to say). Raises KeyError for unknown names.
    """
    in_order: list[tuple[Group, int]] = [
        ((vm_type, tuple(sorted(names))), len(places))
        for (vm_type, names), places in Repeated.of(assignment).runs()
    ]
    counts: Counter[Group] = Counter()
    for group, count in in_order:
        counts[group] += count
    scorer = _Scorer(instance)
    slowdowns = group_slowdowns(instance, counts)
    by_group = {group: scorer.vm_score(group, slowdowns[group]) for group in counts}
    placed: Counter[str] = Counter()
    parts: dict[str, list[float]] = {term: [] for term in TERMS}
    for group, count in counts.items():
        for name in group[1]:
            placed[name] += count
        scored = by_group[group]
        for term, value in scored.terms.items() if scored else ():
            parts[term].append(value * count)
    penalty = instance.objective.unplaced_penalty or 0.0
    for model in instance.models:
        missing = max(0, model.replicas - placed[model.name])
        parts["unplaced"].append(penalty * model.weight * missing)
    vms = Repeated([by_group[group] for group, _ in in_order], [count for _, count in in_order])
    return Score(terms={term: math.fsum(values) for term, values in parts.items()}, vms=vms)


class _Scorer:
    """Terms of one VM under one instance's objective."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._vm_types = {v.name: v for v in instance.vm_types}
        self._models = {m.name: m for m in instance.models}

    def vm_score(self, group: Group, slowdown: GroupSlowdown | None) -> VmScore | None:
        if slowdown is None:
            return None
        vm_type = self._vm_types[group[0]]
        replicas = tuple(self._replica(self._models[name], vm_type, slowdown) for name in group[1])
        return VmScore(vm_type.name, replicas, self._terms(vm_type, replicas))

    def _replica(self, model: Model, vm_type: VmType, slowdown: GroupSlowdown) -> ReplicaScore:
        solo = model.solo_latency_on(vm_type.name)
        mean, upper = slowdown.mean[model.name], slowdown.upper[model.name]
        return ReplicaScore(
            model=model.name,
            slowdown=mean,
            slowdown_upper=upper,
            latency_ms=None if solo is None else solo * mean,
            latency_upper_ms=None if solo is None else solo * upper,
            slo_ms=model.slo_ms,
        )

    def _terms(self, vm_type: VmType, replicas: tuple[ReplicaScore, ...]) -> dict[str, float]:
        objective = self._instance.objective
        models = [self._models[r.model] for r in replicas]
        fixed = math.fsum(m.cost_on.get(vm_type.name, 0.0) for m in models)
        degradation = math.fsum(
            m.weight * (r.slowdown - 1.0) for m, r in zip(models, replicas, strict=True)
        )
        late = math.fsum(m.weight for m, r in zip(models, replicas, strict=True) if r.over_slo)
        latency = 0.0
        if objective.latency > 0:
            latency = math.fsum(
                m.weight * ((r.latency_ms or 0.0) / best_solo_latency(self._instance, m) - 1.0)
                for m, r in zip(models, replicas, strict=True)
            )
        return {
            "price": objective.price * (vm_type.price + fixed),
            "degradation": objective.degradation * degradation,
            "latency": objective.latency * latency,
            "slo": (objective.slo_penalty or 0.0) * late,
        }
