"""The best placement by trying them all, written from the format's text alone.

It reads an instance's fields and nothing else of `placer`, so that a misreading there shows here.
Together rules are read so: a rule lists replicas, one for each time a model is named. Where any
replica of a listed model is placed, some VM must hold the whole list; where none is placed the
rule asks for nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import product
from typing import Any

from placer.problem import Instance

LIMIT = 1e-6
"""Absolute tolerance of capacity, SLO and price limits."""

Vm = tuple[str, tuple[str, ...]]
"""A VM type's name and the model names on one VM of it, in the instance's order."""


def brute_force(instance: Instance) -> tuple[float, list[tuple[str, list[str]]]] | None:
    """Return the least objective and a placement that has it, None where there is none."""
    best: tuple[float, list[tuple[str, list[str]]]] | None = None
    for objective, vms in feasible_placements(instance):
        if best is None or objective < best[0]:
            best = objective, [(vm_type, list(names)) for vm_type, names in vms]
    return best


def placement_objective(instance: Instance, vms: list[Vm]) -> float | None:
    """Return the objective of this placement, None where it breaks a rule."""
    unplaced = instance.objective.unplaced
    placed = Counter(name for _, names in vms for name in names)
    objective = 0.0
    for model in instance.models:
        missing = model.replicas - placed[model.name]
        if missing < 0 or (missing > 0 and unplaced == "forbid"):
            return None
        if missing > 0:
            objective += unplaced.penalty * model.weight * missing
    if not _limits_kept(instance, vms) or not _company_kept(instance, vms):
        return None
    for vm_type, names in vms:
        cost = vm_cost(instance, vm_type, names)
        if cost is None:
            return None
        objective += cost
    return objective


def feasible_placements(instance: Instance) -> Iterator[tuple[float, list[Vm]]]:
    """Yield every feasible placement once, and its objective."""
    costs = possible_vms(instance)
    leads: dict[str, list[tuple[Vm, Counter[str], float]]] = {}
    for vm, cost in costs.items():
        leads.setdefault(vm[1][0], []).append((vm, Counter(vm[1]), cost))
    models = [model.name for model in instance.models]
    weight = {model.name: model.weight for model in instance.models}
    unplaced = instance.objective.unplaced
    penalty = None if unplaced == "forbid" else unplaced.penalty

    def extend(
        left: Counter[str], vms: list[Vm], objective: float, lead: str, first: int
    ) -> Iterator[tuple[float, list[Vm]]]:
        """Continue with the first model that has replicas left: a VM for it, or none at all."""
        name = next((m for m in models if left[m]), None)
        if name is None:
            if _company_kept(instance, vms):
                yield objective, vms
            return
        if penalty is not None:
            rest = left.copy()
            rest[name] = 0
            yield from extend(rest, vms, objective + penalty * weight[name] * left[name], "", 0)
        options = leads.get(name, [])
        for index in range(first if name == lead else 0, len(options)):
            vm, content, cost = options[index]
            if content <= left and _limits_kept(instance, [*vms, vm]):
                yield from extend(left - content, [*vms, vm], objective + cost, name, index)

    yield from extend(Counter({m.name: m.replicas for m in instance.models}), [], 0.0, "", 0)


def possible_vms(instance: Instance) -> dict[Vm, float]:
    """Return each content that one VM may have, and what it adds to the objective."""
    names = [model.name for model in instance.models]
    costs: dict[Vm, float] = {}
    for amounts in product(*(range(model.replicas + 1) for model in instance.models)):
        group = tuple(name for name, n in zip(names, amounts, strict=True) for _ in range(n))
        if not group:
            continue
        for vm_type in instance.vm_types:
            cost = vm_cost(instance, vm_type.name, group)
            if cost is not None:
                costs[vm_type.name, group] = cost
    return costs


def vm_cost(instance: Instance, type_name: str, group: tuple[str, ...]) -> float | None:
    """Return what one VM with these models adds to the objective, None where it may not be."""
    vm_type = next(v for v in instance.vm_types if v.name == type_name)
    members = [next(m for m in instance.models if m.name == name) for name in group]
    if vm_type.max_models is not None and len(group) > vm_type.max_models:
        return None
    if any(m.vm_types is not None and type_name not in m.vm_types for m in members):
        return None
    if not _fits(vm_type, members) or _quarrel(instance, group):
        return None
    slowdown = slowdowns(instance, type_name, group)
    if slowdown is None:
        return None
    objective = instance.objective
    cost = objective.price * vm_type.price
    for model in members:
        cost += objective.price * model.cost_on.get(type_name, 0.0)
        cost += objective.degradation * model.weight * (slowdown[model.name] - 1.0)
        if objective.latency > 0:
            least = min(_solo(model, t) for t in _allowed(instance, model))
            relative = _solo(model, type_name) * slowdown[model.name] / least
            cost += objective.latency * model.weight * (relative - 1.0)
        if model.slo_ms is not None:
            late = _solo(model, type_name) * slowdown[model.name] > model.slo_ms + LIMIT
            if late and objective.slo == "forbid":
                return None
            if late:
                cost += objective.slo.penalty * model.weight
    return cost


def _fits(vm_type: Any, members: list[Any]) -> bool:
    used: Counter[str] = Counter()
    for model in members:
        demand = model.demand
        if vm_type.name in model.demand_on:
            demand = model.demand_on[vm_type.name]
        for resource, amount in demand.items():
            used[resource] += amount
    return all(amount <= vm_type.capacity[resource] + LIMIT for resource, amount in used.items())


def _quarrel(instance: Instance, group: tuple[str, ...]) -> bool:
    """Return whether an apart rule forbids these models on one VM."""
    for rule in instance.rules.apart:
        if len(set(rule) & set(group)) > 1:
            return True
        if any(rule.count(name) > 1 and group.count(name) > 1 for name in rule):
            return True
    return False


def _allowed(instance: Instance, model: Any) -> list[str]:
    names = [vm_type.name for vm_type in instance.vm_types]
    return names if model.vm_types is None else [n for n in names if n in model.vm_types]


def _solo(model: Any, type_name: str) -> float:
    solo = model.solo_latency_ms
    return solo[type_name] if isinstance(solo, dict) else solo


def slowdowns(
    instance: Instance, type_name: str, group: tuple[str, ...]
) -> dict[str, float] | None:
    """Return the slowdown by model name in this group, None where it may not be formed."""
    interference = instance.interference
    if interference.kind == "none":
        return dict.fromkeys(group, 1.0)
    if interference.kind == "pairwise":
        return _by_pairs(interference, type_name, group)
    tables = interference.slowdown
    listed = tables[type_name] if type_name in tables else tables.get("*", [])
    for entry in listed:
        if Counter(entry.models) == Counter(group):
            return {entry.models[i]: entry.slowdown[i] for i in range(len(group))}
    if len(group) == 1:
        return {group[0]: 1.0}
    if interference.missing == "pairwise":
        return _by_pairs(interference.pairwise, type_name, group)
    return None


def _by_pairs(table: Any, type_name: str, group: tuple[str, ...]) -> dict[str, float]:
    tables = table.slowdown
    rows = tables[type_name] if type_name in tables else tables.get("*", {})
    result = {}
    for target in set(group):
        others = list(group)
        others.remove(target)
        effects = [rows.get(target, {}).get(other, table.default) for other in others]
        if table.combine == "sum":
            result[target] = 1.0 + sum(effect - 1.0 for effect in effects)
        else:
            result[target] = 1.0
            for effect in effects:
                result[target] *= effect
    return result


def _limits_kept(instance: Instance, vms: list[Vm]) -> bool:
    """Return whether so many VMs may be used, at this price; more VMs never mend it."""
    used = Counter(vm_type for vm_type, _ in vms)
    rules = instance.rules
    if rules.max_vms is not None and len(vms) > rules.max_vms:
        return False
    price = sum(vm_type.price * used[vm_type.name] for vm_type in instance.vm_types)
    if rules.max_price is not None and price > rules.max_price + LIMIT:
        return False
    return all(v.count is None or used[v.name] <= v.count for v in instance.vm_types)


def _company_kept(instance: Instance, vms: list[Vm]) -> bool:
    """Return whether every together rule has its VM, or nothing of it is placed."""
    placed = {name for _, names in vms for name in names}
    for rule in instance.rules.together:
        wanted = Counter(rule)
        if placed.isdisjoint(rule):
            continue
        if not any(wanted <= Counter(names) for _, names in vms):
            return False
    return True
