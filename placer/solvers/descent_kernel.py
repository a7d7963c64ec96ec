"""The compiled part of the descent that looks for groups of negative reduced cost.

From a group, a member or two leave and another or two join, whatever lowers the reduced cost most,
until nothing does. Nothing is proved; the search that proves follows where this finds too little.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from placer.solvers.jit import compiled
from placer.solvers.pair_kernel import holds
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
        better = cost + task.offer[t] < best.value[0]
        if better and holds(task, t, load, size) and may_form(task, group, size):
            best.value[0], best.size[0], best.vm_type[0] = cost + task.offer[t], size, t
            best.group[:size] = group[:size]


@compiled
def add_one(
    task: PairTask, group: Ints, size: int, cost: float, load: Floats, beside: Floats, best: Choice
) -> None:
    """Consider a group with one more member; beside (K,) is what each would cost."""
    least, more = cost + task.offer.min(), np.empty(len(load))
    for k in range(len(beside)):
        if least + beside[k] < best.value[0]:
            group[size] = k
            for r in range(len(load)):
                more[r] = load[r] + task.demand[k, r]
            consider(task, group, size + 1, cost + beside[k], more, best)


@compiled
def add_two(
    task: PairTask,
    group: Ints,
    size: int,
    cost: float,
    load: Floats,
    beside: Floats,
    company: Floats,
    best: Choice,
) -> None:
    """Consider a group with two more members; beside (K,) is what each would cost.

    Most pairs are told by what they cost at the least: with the rent of their room, as the search's
    bounds are, and company (K,), half of the least that any other costs them.
    """
    rates = task.rates[size + 2]
    dear = beside + task.rent[size + 2] + company
    least = cost + task.room[size + 2].min()
    for r in range(len(load)):
        least += rates[r] * load[r]
    listed = np.flatnonzero(least + dear + dear.min() < best.value[0])
    listed = listed[np.argsort(dear[listed])]
    cheapest, more = task.offer.min(), np.empty(len(load))
    for x in range(len(listed)):
        a = listed[x]
        for y in range(x, len(listed)):
            b = listed[y]
            if least + dear[a] + dear[b] >= best.value[0]:
                break
            both = cost + beside[a] + beside[b] + task.pair[a, b]
            if both + cheapest < best.value[0]:
                group[size], group[size + 1] = a, b
                for r in range(len(load)):
                    more[r] = load[r] + task.demand[a, r] + task.demand[b, r]
                consider(task, group, size + 2, both, more, best)


@compiled
def members_cost(task: PairTask, group: Ints, size: int, beside: Floats) -> float:
    """Return what the members cost; beside (K,), what each kind costs alone, becomes with them."""
    cost = 0.0
    for x in range(size):
        cost += beside[group[x]]
        beside += task.pair[group[x]]
    return cost


@compiled
def fill(
    task: PairTask,
    group: Ints,
    size: int,
    load: Floats,
    wide: bool,
    company: Floats,
    best: Choice,
) -> None:
    """Consider a group, and with one more member, or with `wide` two."""
    beside = task.own.copy()
    cost = members_cost(task, group, size, beside)
    if size:
        consider(task, group, size, cost, load, best)
    most = task.most.max()
    if size + 1 <= most:
        add_one(task, group, size, cost, load, beside, best)
    if wide and size + 2 <= most:
        add_two(task, group, size, cost, load, beside, company, best)


@compiled
def change(
    task: PairTask, group: Ints, size: int, wide: bool, company: Floats, best: Choice
) -> None:
    """Consider all groups that differ from this one by a member, or with `wide` by two."""
    rest, load = np.empty(size + 2, np.int64), np.empty(task.demand.shape[1])
    for i in range(size + 1):
        for j in range(i + 1 if i < size else size, size + 1):
            if j < size and (size == 2 or not wide):
                continue  # two leave, and somebody stays
            left = 0
            load[:] = 0.0
            for x in range(size):
                if x != i and x != j:
                    rest[left] = group[x]
                    load += task.demand[group[x]]
                    left += 1
            fill(task, rest, left, load, wide, company, best)


@compiled
def settle(task: PairTask, group: Ints, size: int, best: Choice) -> None:
    """Make a group the best so far, at an infinite value where no VM type may hold it."""
    best.value[0], load = np.inf, np.zeros(task.demand.shape[1])
    for x in range(size):
        load += task.demand[group[x]]
    consider(task, group, size, members_cost(task, group, size, task.own.copy()), load, best)


@compiled
def descend(
    task: PairTask, starts: Ints, wide: bool, company: Floats, least_gain: float, found: Found
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
            change(task, group, size, False, company, best)
            if wide and best.size[0] == 0:
                best.value[0] = min(best.value[0], -least_gain)  # a start may be far above
                change(task, group, size, True, company, best)
            if best.size[0] == 0:
                break
            size = best.size[0]
            group[:size] = best.group[:size]
            if best.value[0] < 0.0:
                n = found.size[0]
                found.vm_type[n], found.reduced[n] = best.vm_type[0], best.value[0]
                found.groups[n, :size], found.groups[n, size:] = group[:size], -1
                found.size[0] = n + 1
