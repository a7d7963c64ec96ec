"""The instance as arrays, the form in which every solver sees it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from placer.errors import InputError
from placer.interference.tables import Floats, Interference, build_interference
from placer.problem import Instance, best_solo_latency

UNLIMITED = 2**31 - 1


@dataclass(frozen=True)
class Batch:
    """Numbers of one instance: K kinds (models), T VM types, R resources.

    replicas (K,), weight (K,): as in the instance. allowed (T, K): where a kind may run.
    demand (T, K, R), capacity (T, R): infinite where a type does not name a resource.
    price (T,): of one VM, as in the instance. count, max_models (T,): UNLIMITED for none.
    fixed (T, K): cost_on, not yet weighted. solo (T, K): ms, NaN where not given.
    slo (K,): ms, infinite for none. best_solo (K,): ms, NaN where no latency term needs it.
    apart (K, K): pairs that may not share a VM, the diagonal for a kind with itself.
    together: for each rule the replicas of each kind (K,) that one VM must hold.
    max_vms: the most VMs in use, UNLIMITED for no rule. max_price: the most that the VMs in use
    may cost together, infinite for no rule.
    """

    instance: Instance
    interference: Interference
    replicas: NDArray[np.int64]
    weight: Floats
    allowed: NDArray[np.bool_]
    demand: Floats
    capacity: Floats
    price: Floats
    count: NDArray[np.int64]
    max_models: NDArray[np.int64]
    fixed: Floats
    solo: Floats
    slo: Floats
    best_solo: Floats
    apart: NDArray[np.bool_]
    together: list[NDArray[np.int64]]
    max_vms: int
    max_price: float

    @property
    def kinds(self) -> int:
        """How many kinds (models) there are."""
        return len(self.replicas)

    @property
    def types(self) -> int:
        """How many VM types there are."""
        return len(self.price)

    @property
    def total_replicas(self) -> int:
        """How many replicas the batch has."""
        return int(self.replicas.sum())

    @property
    def unplaced_cost(self) -> Floats | None:
        """What one unplaced replica of each kind costs (K,); None where all must be placed."""
        penalty = self.instance.objective.unplaced_penalty
        return None if penalty is None else penalty * self.weight

    def vms_possible(self) -> NDArray[np.int64]:
        """Return how many VMs of each type could be in use at the most (T,)."""
        return np.minimum(np.minimum(self.count, self.max_vms), self.total_replicas)


def compile_batch(instance: Instance) -> Batch:
    """Return `instance` as arrays.

    Raises InputError where its predictor cannot be used, or replicas are too many to count.
    """
    vm_types, models = instance.vm_types, instance.models
    _refuse_too_many(sum(model.replicas for model in models))
    resources = sorted({r for v in vm_types for r in v.capacity})
    demand = np.zeros((len(vm_types), len(models), len(resources)))
    for t, vm_type in enumerate(vm_types):
        for k, model in enumerate(models):
            own = model.demand_of(vm_type.name)
            if own:
                demand[t, k] = [own.get(resource, 0.0) for resource in resources]
    number = {model.name: k for k, model in enumerate(models)}
    nan, inf = float("nan"), float("inf")
    needs_latency = instance.objective.latency > 0
    return Batch(
        instance=instance,
        interference=build_interference(instance),
        replicas=np.array([m.replicas for m in models], dtype=np.int64),
        weight=np.array([m.weight for m in models]),
        allowed=np.array([[m.may_run_on(v.name) for m in models] for v in vm_types]),
        demand=demand,
        capacity=np.array([[v.capacity.get(r, inf) for r in resources] for v in vm_types]).reshape(
            len(vm_types), len(resources)
        ),
        price=np.array([v.price for v in vm_types]),
        count=_limits([v.count for v in vm_types]),
        max_models=_limits([v.max_models for v in vm_types]),
        fixed=np.array([[m.cost_on.get(v.name, 0.0) for m in models] for v in vm_types]),
        solo=np.array([[m.solo_latency_on(v.name) or nan for m in models] for v in vm_types]),
        slo=np.array([inf if m.slo_ms is None else m.slo_ms for m in models]),
        best_solo=np.array(
            [
                best_solo_latency(instance, m) if needs_latency and m.vm_types != [] else nan
                for m in models
            ]
        ),
        apart=_apart(instance, number),
        together=[_members(names, number) for names in instance.rules.together if names],
        max_vms=UNLIMITED if instance.rules.max_vms is None else instance.rules.max_vms,
        max_price=inf if instance.rules.max_price is None else instance.rules.max_price,
    )


def _refuse_too_many(replicas: int) -> None:
    if replicas > UNLIMITED:
        raise InputError(
            f"found {replicas:,} replicas in all, expected at most {UNLIMITED:,}", path="models"
        )


def _limits(values: list[int | None]) -> NDArray[np.int64]:
    return np.array([UNLIMITED if value is None else value for value in values], dtype=np.int64)


def _apart(instance: Instance, number: dict[str, int]) -> NDArray[np.bool_]:
    apart = np.zeros((len(number), len(number)), dtype=bool)
    for names in instance.rules.apart:
        listed = Counter(number[name] for name in names)
        members = list(listed)
        pairs = np.ix_(members, members)
        own = apart[members, members] | np.array([listed[k] > 1 for k in members], dtype=bool)
        apart[pairs] = True
        apart[members, members] = own
    return apart


def _members(names: list[str], number: dict[str, int]) -> NDArray[np.int64]:
    members = np.zeros(len(number), dtype=np.int64)
    for name in names:
        members[number[name]] += 1
    return members
