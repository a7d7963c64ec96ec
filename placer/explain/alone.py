"""What keeps a lone replica off a VM type, and how far it is from fitting."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from placer.explain.words import number
from placer.problem import TOLERANCE
from placer.solvers.batch import Batch
from placer.solvers.group_costs import GroupCosts


@dataclass(frozen=True)
class Obstacle:
    """Why a replica cannot be on a VM type.

    code: `vm_types`, `count`, `max_models`, `capacity`, `slo`, `group`, `max_vms` or `max_price`.
    shortfall: relative, where it is capacity or an SLO; infinite where no amount would help.
    """

    code: str
    text: str
    shortfall: float = math.inf
    resource: str = ""


def obstacle(costs: GroupCosts, k: int, t: int) -> Obstacle | None:
    """Return what keeps a lone replica of kind `k` off an empty VM of type `t`, None if nothing."""
    batch = costs.batch
    instance = batch.instance
    vm_type, path = instance.vm_types[t], f"vm_types[{t}]"
    if not batch.allowed[t, k]:
        return Obstacle("vm_types", f"models[{k}].vm_types does not list it")
    if batch.max_models[t] < 1:
        return Obstacle("max_models", f"{path}.max_models is 0")
    short = _capacity(batch, k, t)
    if short is not None:
        return short
    if batch.count[t] < 1:
        return Obstacle("count", f"{path}.count is 0", 0.0)
    if batch.max_vms < 1:
        return Obstacle("max_vms", "rules.max_vms is 0", 0.0)
    if vm_type.price > batch.max_price + TOLERANCE:
        limit = number(batch.max_price)
        text = f"its price {number(vm_type.price)} is above rules.max_price {limit}"
        return Obstacle("max_price", text, 0.0)
    return _service(costs, k, t)


def _capacity(batch: Batch, k: int, t: int) -> Obstacle | None:
    """Return the resource that is short by the largest share."""
    worst: Obstacle | None = None
    model, vm_type = batch.instance.models[k], batch.instance.vm_types[t]
    for resource, need in model.demand_of(vm_type.name).items():
        capacity = vm_type.capacity.get(resource, math.inf)
        if need > capacity + TOLERANCE:
            shortfall = (need - capacity) / max(capacity, TOLERANCE)
            text = f"needs {number(need)} {resource}, it has {number(capacity)}"
            if worst is None or shortfall > worst.shortfall:
                worst = Obstacle("capacity", text, shortfall, resource)
    return worst


def _service(costs: GroupCosts, k: int, t: int) -> Obstacle | None:
    """Return an SLO that is missed even alone, or a group of one that may not be formed."""
    single = np.array([[k]], dtype=np.int32)
    if np.isfinite(costs.cost(t, single)[0]):
        return None
    batch = costs.batch
    upper = float(batch.interference.upper(t, single)[0, 0])
    latency, slo = float(batch.solo[t, k]) * upper, float(batch.slo[k])
    if math.isnan(upper):
        return Obstacle("group", "its group of one may not be formed")
    text = f"takes {number(latency)} ms even alone, models[{k}].slo_ms is {number(slo)}"
    return Obstacle("slo", text, (latency - slo) / slo)
