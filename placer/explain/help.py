"""Changes of one limit that were tried and make an infeasible instance feasible."""

from __future__ import annotations

import math

from placer.explain.relax import Cause, Outcome, Prover, without
from placer.explain.words import number
from placer.problem import Instance
from placer.scoring import score
from placer.solvers.run import Assignment

TRIED = 6
"""How many limits are tried at the most."""


def what_helps(instance: Instance, causes: list[Cause], prover: Prover) -> list[str]:
    """Return what one limit of `causes` could be changed to, each verified with a placement."""
    limits = [cause for cause in causes if cause.what != "model"]
    said: list[str] = []
    refused = 0
    for cause in limits[:TRIED]:
        outcome = prover.attempt(without(instance, [cause]))
        refused += outcome.infeasible
        if outcome.placement is not None:
            said.append(_change(instance, cause, outcome.placement, prover))
    if len(limits) > 1 and refused == len(limits):
        said.append("no change of one of these limits alone is enough")
    return said


def _change(instance: Instance, cause: Cause, found: Assignment, prover: Prover) -> str:
    i = cause.index
    if cause.what in ("count", "max_vms"):
        enough = _least_enough(instance, cause, found, prover)
        field = f"vm_types[{i}].count" if cause.what == "count" else "rules.max_vms"
        return f"there is a placement with {field} raised to {enough}"
    if cause.what == "max_price":
        price = _up(math.fsum(n * instance.vm_types[t].price for (t, _), n in found.items()))
        return f"there is a placement with rules.max_price raised to {price}"
    if cause.what == "slo":
        latency = _worst_latency(instance, i, found)
        return f"there is a placement with models[{i}].slo_ms raised to {_up(latency)}"
    if cause.what == "max_models":
        most = max(len(group) for (t, group) in found if t == i)
        return f"there is a placement with vm_types[{i}].max_models raised to {most}"
    if cause.what == "groups":
        return "there is a placement if groups that are not listed may be formed"
    return f"there is a placement without rules.{cause.what}[{i}]"


def _used(cause: Cause, found: Assignment) -> int:
    return sum(n for (t, _), n in found.items() if cause.what == "max_vms" or t == cause.index)


def _least_enough(instance: Instance, cause: Cause, found: Assignment, prover: Prover) -> int:
    """Return the least value for which a placement was found, by halving."""
    if cause.what == "count":
        low = instance.vm_types[cause.index].count or 0
    else:
        low = instance.rules.max_vms or 0
    enough = _used(cause, found)
    while enough - low > 1:
        middle = (low + enough) // 2
        outcome: Outcome = prover.attempt(_with(instance, cause, middle))
        if outcome.placement is None:
            low = middle
        else:
            enough = _used(cause, outcome.placement)
    return enough


def _with(instance: Instance, cause: Cause, value: int) -> Instance:
    if cause.what == "max_vms":
        rules = instance.rules.model_copy(update={"max_vms": value})
        return instance.model_copy(update={"rules": rules})
    types = list(instance.vm_types)
    types[cause.index] = types[cause.index].model_copy(update={"count": value})
    return instance.model_copy(update={"vm_types": types})


def _worst_latency(instance: Instance, k: int, found: Assignment) -> float:
    name = instance.models[k].name
    vms = [
        (instance.vm_types[t].name, [instance.models[m].name for m in group])
        for t, group in found
        if k in group
    ]
    return max(
        replica.latency_upper_ms or 0.0
        for vm in score(instance, vms).vms
        if vm is not None
        for replica in vm.replicas
        if replica.model == name
    )


def _up(value: float) -> str:
    """Return `value` rounded up to four significant digits, so that what is said is enough."""
    if value <= 0:
        return number(value)
    unit = 10.0 ** (math.floor(math.log10(value)) - 3)
    return number(math.ceil(value / unit - 1e-9) * unit)
