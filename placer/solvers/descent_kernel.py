"""The compiled part of the descent that looks for groups of negative reduced cost.

From a group, a member or two leave and another or two join, whatever lowers the reduced cost most,
until nothing does. Nothing is proved; the search that proves follows where this finds too little.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from placer.problem import TOLERANCE
from placer.solvers.jit import compiled
from placer.solvers.pair_types import Found, PairTask

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Choice(NamedTuple):
    """The best group so far: value (1,), its reduced cost; group (D,), size (1,), vm_type (1,)."""

    value: Floats
    group: Ints
    size: Ints
    vm_type: Ints


@compiled
def may_form(task: PairTask, group: Ints, size: int) -> bool:
    """Return whether there are replicas enough for this group, and every SLO is kept."""
    for x in range(size):
        k, same, slow = group[x], 0, 0.0
        for y in range(size):
            same += group[y] == k
            if y != x:
                slow += task.effect[k, group[y]]
        if same > task.times[k] or (task.has_slo and slow > task.slack[k] + 1e-12):
            return False
    return True


@compiled
def consider(
    task: PairTask, group: Ints, size: int, cost: float, load: Floats, best: Choice
) -> None:
    """Take a group as the best where it is, on some VM type; `cost` is without that."""
    for t in range(task.offer.shape[0]):
        fits = cost + task.offer[t] < best.value[0] and size <= task.most[t]
        for r in range(load.shape[0]):
            fits = fits and load[r] <= task.capacity[t, r] + TOLERANCE
        if fits and may_form(task, group, size):
            best.value[0], best.size[0], best.vm_type[0] = cost + task.offer[t], size, t
            best.group[:size] = group[:size]


@compiled
def list_joiners(task: PairTask, load: Floats, beside: Floats, limit: float, kinds: Ints) -> int:
    """List the kinds that fit some VM beside this load and cost less than `limit`, by cost."""
    listed = 0
    for k in range(len(beside)):
        if beside[k] >= limit:
            continue
        for t in range(task.offer.shape[0]):
            fits = True
            for r in range(len(load)):
                fits = fits and load[r] + task.demand[k, r] <= task.capacity[t, r] + TOLERANCE
            if fits:
                kinds[listed] = k
                listed += 1
                break
    kinds[:listed] = kinds[:listed][np.argsort(beside[kinds[:listed]])]
    return listed


@compiled
def fill(
    task: PairTask, group: Ints, size: int, load: Floats, wide: bool, floor: Floats, best: Choice
) -> None:
    """Consider a group, and with one more member, or with `wide` two.

    floor (2,): the least that a pair costs, and the least offer.
    """
    cost, beside = 0.0, task.own.copy()
    for x in range(size):
        cost += beside[group[x]]
        beside += task.pair[group[x]]
    if size:
        consider(task, group, size, cost, load, best)
    most = task.most.max()
    if size + 1 > most:
        return
    wide = wide and size + 2 <= most
    limit = best.value[0] - cost - floor[1]
    kinds = np.empty(len(beside), np.int64)
    reach = max(limit, limit - floor[0] - beside.min()) if wide else limit
    listed = list_joiners(task, load, beside, reach, kinds)
    for x in range(listed):
        a = kinds[x]
        group[size] = a
        first = cost + beside[a]
        if first + floor[1] < best.value[0]:
            consider(task, group, size + 1, first, load + task.demand[a], best)
        for y in range(x, listed if wide else 0):
            b = kinds[y]
            if first + beside[b] + floor[0] + floor[1] >= best.value[0]:
                break
            both = first + beside[b] + task.pair[a, b]
            if both + floor[1] < best.value[0]:
                group[size + 1] = b
                consider(task, group, size + 2, both, load + task.demand[a] + task.demand[b], best)


@compiled
def change(task: PairTask, group: Ints, size: int, wide: bool, floor: Floats, best: Choice) -> None:
    """Consider all groups that differ from this one by a member, or with `wide` by two."""
    rest, load = np.empty(size + 2, np.int64), np.empty(task.demand.shape[1])
    for i in range(size + 1):
        for j in range(i + 1 if i < size else size, size + 1):
            if j < size and not wide:
                continue  # two leave
            left = 0
            load[:] = 0.0
            for x in range(size):
                if x != i and x != j:
                    rest[left] = group[x]
                    load += task.demand[group[x]]
                    left += 1
            fill(task, rest, left, load, wide, floor, best)


@compiled
def settle(task: PairTask, group: Ints, size: int, best: Choice) -> None:
    """Make a group the best so far, at an infinite value where no VM type may hold it."""
    best.value[0], cost = np.inf, 0.0
    load = np.zeros(task.demand.shape[1])
    for x in range(size):
        cost += task.own[group[x]]
        load += task.demand[group[x]]
        for y in range(x):
            cost += task.pair[group[x], group[y]]
    consider(task, group, size, cost, load, best)


@compiled
def descend(
    task: PairTask, starts: Ints, wide: bool, floor: Floats, least_gain: float, found: Found
) -> None:
    """Descend from each of `starts` (n, D), padded with -1; keep every step below 0 in `found`."""
    width = task.most.max()
    group = np.empty(width, np.int64)
    best = Choice(
        np.empty(1), np.empty(width + 2, np.int64), np.zeros(1, np.int64), np.zeros(1, np.int64)
    )
    for s in range(len(starts)):
        size = (starts[s] >= 0).sum()
        group[:size] = starts[s, :size]
        settle(task, group, size, best)
        while found.size[0] < len(found.reduced):
            best.value[0] -= least_gain
            best.size[0] = 0
            change(task, group, size, False, floor, best)
            if wide and best.size[0] == 0:
                change(task, group, size, True, floor, best)
            if best.size[0] == 0:
                break
            size = best.size[0]
            group[:size] = best.group[:size]
            if best.value[0] < 0.0:
                n = found.size[0]
                found.vm_type[n], found.reduced[n] = best.vm_type[0], best.value[0]
                found.groups[n, :size], found.groups[n, size:] = group[:size], -1
                found.size[0] = n + 1
