"""Why no placement keeps every rule: the smallest set of causes that can be proved in time."""

from __future__ import annotations

import math
from collections import Counter
from functools import partial

import numpy as np

from placer.explain.alone import Obstacle, obstacle
from placer.explain.help import what_helps
from placer.explain.relax import Cause, Prover, causes_of, smallest_set, without
from placer.explain.words import NAMES_SHOWN, listing, number, plural
from placer.problem import TOLERANCE, Instance
from placer.solvers.run import Run

SECONDS = 10.0
LEAST_SECONDS = 1.0
TYPES_SHOWN = 4


def explain_infeasible(run: Run) -> list[str]:
    """Return sentences on why the run's batch, proved infeasible, has no placement.

    Models that fit on no VM type are named first, by themselves; else the smallest set of models
    and limits that clash, what they need and have, and changes that were tried and help.
    """
    lone = _fit_nowhere(run)
    if lone:
        return lone
    instance = run.batch.instance
    run.enter("looking for the causes")
    prover = Prover(run, _seconds(run))
    causes, complete = _smallest(instance, prover)
    sentences = [_clash(instance, causes), *_lacking(instance, causes), *_totals(run, causes)]
    if not complete:
        sentences.append("the search for causes ran out of time: this may not be the smallest set")
    return sentences + what_helps(instance, causes, prover)


def _smallest(instance: Instance, prover: Prover) -> tuple[list[Cause], bool]:
    """Return the causes left by the quick proof, where it holds, and then by the exact one."""
    phases = causes_of(instance)
    out_of_time = partial(_spent, prover)
    if prover.short_in_sum(instance):
        causes, _ = smallest_set(
            phases, lambda gone: prover.short_in_sum(without(instance, gone)), out_of_time
        )
        phases = [[c for c in phase if c in causes] for phase in phases]
    kept = {cause for phase in phases for cause in phase}
    spared = [cause for phase in causes_of(instance) for cause in phase if cause not in kept]
    return smallest_set(
        phases,
        lambda gone: prover.still_infeasible(without(instance, [*spared, *gone])),
        out_of_time,
    )


def _spent(prover: Prover) -> bool:
    return prover.left() <= 0.0


def _seconds(run: Run) -> float:
    limit = run.options.time_limit
    left = math.inf if limit is None else limit - run.seconds()
    return min(SECONDS, max(LEAST_SECONDS, left))


def _fit_nowhere(run: Run) -> list[str]:
    """Return a sentence for each model of which no VM type can hold even one replica."""
    batch = run.batch
    if batch.unplaced_cost is not None:
        return []
    never = np.ones(batch.kinds, dtype=bool)
    for t in range(batch.types):
        usable = batch.vms_possible()[t] > 0 and batch.max_models[t] > 0
        if usable and batch.price[t] <= batch.max_price + TOLERANCE:
            never &= ~np.isfinite(run.costs.least_member_cost(t))
    lone = [int(k) for k in np.flatnonzero(never & (batch.replicas > 0))]
    found = [(k, [obstacle(run.costs, k, t) for t in range(batch.types)]) for k in lone]
    named = [
        _nowhere(batch.instance, k, [o for o in all_of if o is not None])
        for k, all_of in found[:NAMES_SHOWN]
        if None not in all_of
    ]
    more = len(lone) - NAMES_SHOWN
    return [*named, f"and so for {plural(more, 'more model')}"] if more > 0 else named


def _nowhere(instance: Instance, k: int, obstacles: list[Obstacle]) -> str:
    """Return why model `k` can be on no VM type; `obstacles` has one for each."""
    model = instance.models[k]
    head = f"model {model.name!r} (models[{k}]) fits on no VM type"
    open_types = [t for t, found in enumerate(obstacles) if found.code != "vm_types"]
    if not open_types:
        return f"{head}: models[{k}].vm_types is an empty list"
    codes = {obstacles[t].code for t in open_types}
    resources = {obstacles[t].resource for t in open_types}
    nearest = min(open_types, key=lambda t: obstacles[t].shortfall)
    only = "" if len(open_types) == len(obstacles) else " that it may run on"
    if len(open_types) > 1 and codes == {"capacity"} and len(resources) == 1:
        return f"{head}: even on the largest{only}, {_on(instance, nearest, obstacles)}"
    if len(open_types) > 1 and codes == {"slo"}:
        return f"{head}: even on the fastest{only}, {_on(instance, nearest, obstacles)}"
    each = [_on(instance, t, obstacles) for t in open_types]
    return f"{head}{only}: {'; '.join(each[:TYPES_SHOWN])}" + (
        f"; and {len(each) - TYPES_SHOWN} more" if len(each) > TYPES_SHOWN else ""
    )


def _on(instance: Instance, t: int, obstacles: list[Obstacle]) -> str:
    return f"{instance.vm_types[t].name!r}, {obstacles[t].text}"


def _clash(instance: Instance, causes: list[Cause]) -> str:
    """Return which models cannot be placed within which limits."""
    batch = [instance.models[c.index] for c in causes if c.what == "model"]
    models = [f"{model.name!r} ({plural(model.replicas, 'replica')})" for model in batch]
    limits = [limit_words(instance, c) for c in causes if c.what != "model"]
    who = f"{len(models)} models cannot all be placed: {listing(models)}"
    if len(models) == 1:
        who = f"model {models[0]} cannot be placed"
    if not limits:
        return f"{who}; capacities alone forbid it"
    return f"{who}, within {listing(limits)}"


def limit_words(instance: Instance, cause: Cause) -> str:
    """Return a limit by its path in the instance and its value."""
    i, rules = cause.index, instance.rules
    if cause.what in ("count", "max_models"):
        vm_type = instance.vm_types[i]
        return f"vm_types[{i}].{cause.what} = {getattr(vm_type, cause.what)} ({vm_type.name!r})"
    if cause.what == "slo":
        model = instance.models[i]
        return f"models[{i}].slo_ms = {number(model.slo_ms)} ({model.name!r})"
    if cause.what in ("apart", "together"):
        return f"rules.{cause.what}[{i}] ({listing(getattr(rules, cause.what)[i])})"
    if cause.what == "groups":
        return "interference.missing = 'forbid' (groups that are not listed)"
    return f"rules.{cause.what} = {number(getattr(rules, cause.what))}"


def _lacking(instance: Instance, causes: list[Cause]) -> list[str]:
    """Return which together rules name more replicas of a model than it has."""
    replicas = {model.name: model.replicas for model in instance.models}
    return [
        f"rules.together[{cause.index}] asks for {plural(asked, 'replica')} of {name!r} on one VM, "
        f"there {'is' if replicas[name] == 1 else 'are'} {replicas[name]}"
        for cause in causes
        if cause.what == "together"
        for name, asked in Counter(instance.rules.together[cause.index]).items()
        if asked > replicas[name]
    ]


def _only_hosts(run: Run, kinds: list[int], hosts: list[int]) -> list[str]:
    """Return which VM types alone can hold the models, and why the first of the others cannot."""
    instance = run.batch.instance
    others = [t for t in range(run.batch.types) if t not in hosts]
    if not others:
        return []
    named = " and ".join(repr(instance.vm_types[t].name) for t in hosts)
    who = "them" if len(kinds) > 1 else "it"
    found = obstacle(run.costs, kinds[0], others[0])
    why = "" if found is None else f" (on {instance.vm_types[others[0]].name!r}, {found.text})"
    return [f"only {named} can hold {who}{why}"]


def _totals(run: Run, causes: list[Cause]) -> list[str]:
    """Return which resource the models need more of than the VMs within the limits have."""
    batch = run.batch
    kinds = [c.index for c in causes if c.what == "model"]
    counted = {c.index for c in causes if c.what == "count"}
    capped = any(c.what == "max_vms" for c in causes)
    holds = np.array([np.isfinite(run.costs.least_member_cost(t)) for t in range(batch.types)])
    hosts = [t for t in range(batch.types) if holds[t, kinds].any()]
    if not kinds or not hosts or not (capped or set(hosts) <= counted):
        return []
    said = _only_hosts(run, kinds, hosts)
    for r, resource in enumerate(sorted({r for v in batch.instance.vm_types for r in v.capacity})):
        least = [min(batch.demand[t, k, r] for t in hosts if holds[t, k]) for k in kinds]
        need = math.fsum(int(batch.replicas[k]) * least[i] for i, k in enumerate(kinds))
        capacity, which = _available(run, hosts, r, capped, set(hosts) <= counted)
        if need > capacity + TOLERANCE:
            said.append(
                f"they need {number(need)} {resource} in all; there is at most "
                f"{number(capacity)} ({which})"
            )
    return said


def _available(
    run: Run, hosts: list[int], r: int, capped: bool, counted: bool
) -> tuple[float, str]:
    """Return how much of resource `r` the limited VMs can have at the most, and which VMs."""
    batch = run.batch
    by_count = math.inf
    if counted:
        by_count = math.fsum(float(batch.count[t] * batch.capacity[t, r]) for t in hosts)
    by_number = math.inf
    if capped:
        by_number = batch.max_vms * max(float(batch.capacity[t, r]) for t in hosts)
    if by_count <= by_number:
        names = [f"{batch.count[t]} x {batch.instance.vm_types[t].name!r}" for t in hosts]
        return by_count, listing(names)
    return by_number, f"{plural(batch.max_vms, 'VM')} of the largest type"
