"""What newcomers to a group cost at the least: for the search for groups of pair costs.

For each number of newcomers the cheapest are taken, each with what it costs beside the members, the
rent of its room, and half of what it and the others cost each other at the least.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from placer.problem import TOLERANCE
from placer.solvers.jit import compiled

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@compiled
def insert(best: Floats, value: float, times: int) -> None:
    """Insert `value`, at most `times` times, among the `best` (q,), which ascend."""
    for _ in range(times):
        x = best.shape[0] - 1
        if x < 0 or value >= best[x]:
            return
        while x > 0 and best[x - 1] > value:
            best[x] = best[x - 1]
            x -= 1
        best[x] = value


@compiled
def helps(pair: Floats, kinds: Ints, times: Ints, most: int, helped: Floats) -> None:
    """Fill in what newcomers cost each other at the least (most + 1, K), half of it for each.

    helped[r, x]: half of what the r cheapest co-runners for the x-th of `kinds` cost together.
    """
    best = np.empty(most)
    for x in range(kinds.shape[0]):
        best[:] = np.inf
        for y in range(kinds.shape[0]):
            k = kinds[y]
            cost = pair[kinds[x], k]
            if cost < best[most - 1]:
                insert(best, cost, min(times[k] - (x == y), most))
        total = 0.0
        for r in range(most):
            helped[r, x] = 0.5 * total
            total += best[r]
        helped[most, x] = 0.5 * total


@compiled
def jointly(
    pair: Floats,
    kinds: Ints,
    beside: Floats,
    shared: Floats,
    rent: Floats,
    times: Ints,
    most: int,
    joint: Floats,
) -> None:
    """Fill in what newcomers and their company cost at the least (most + 1, K), half for each.

    joint[r, x]: half of what the x-th of `kinds` costs, and half of what its r cheapest co-runners
    cost with it, each of them with an r-th of its own cost. In a group of r + 1 newcomers these
    halves make up all costs, and co-runners that are cheap company but gain nothing do not count
    as the cheapest (after the quadratic knapsack's reformulation, Caprara et al. 1999).
    """
    own = np.empty(len(kinds))
    for r in range(most + 1):
        for x in range(len(kinds)):
            own[x] = beside[x] - shared[x] + rent[r, kinds[x]]
        with_company(pair, kinds, own, times, r, joint[r])


@compiled
def with_company(
    pair: Floats, kinds: Ints, own: Floats, times: Ints, r: int, joint: Floats
) -> None:
    """Fill in half of what each newcomer and its r cheapest co-runners cost (K,), all without."""
    if r == 0:
        joint[: len(own)] = own
        return
    best = np.empty(r)
    for x in range(len(kinds)):
        best[:] = np.inf
        for y in range(len(kinds)):
            k = kinds[y]
            cost = pair[kinds[x], k] + own[y] / r
            if cost < best[r - 1]:
                insert(best, cost, min(times[k] - (x == y), r))
        joint[x] = 0.5 * (own[x] + best.sum())


@compiled
def least_of(pair: Floats, own: Floats, times: Ints, size: int) -> float:
    """Return what any `size` replicas cost at the least, by what kinds (K,) cost and pairs."""
    joint, kinds = np.empty(len(own)), np.arange(len(own))
    with_company(pair, kinds, own, times, size - 1, joint)
    return cheapest(joint, kinds, times, size)


@compiled
def cheapest(values: Floats, kind: Ints, times: Ints, number: int) -> float:
    """Return the least sum of `values` that `number` replicas of the candidates have."""
    best = np.full(number, np.inf)
    for x in range(len(values) if number else 0):
        if values[x] < best[number - 1]:
            insert(best, values[x], min(times[kind[x]], number))
    return best.sum()


@compiled
def with_help(
    kind: Ints, beside: Floats, helped: Floats, shared: Floats, rent: Floats, values: Floats
) -> None:
    """Fill in what each candidate costs at the least with so many others (count,).

    helped (K,) and rent (K,) are those for that number.
    """
    for x in range(len(values)):
        values[x] = beside[x] - shared[x] + helped[x] + rent[kind[x]]


@compiled
def most_that_fit(demand: Floats, kinds: Ints, space: Floats) -> int:
    """Return how many of `kinds` go into `space` (R,) at the most, by what the smallest take."""
    most = 1_000_000.0
    for r in range(space.shape[0]):
        least = np.inf
        for k in kinds:
            least = min(least, demand[k, r])
        if least > 0.0:
            most = min(most, np.floor((space[r] + TOLERANCE) / least))
    return int(most)


@compiled
def sift(
    kind: Ints,
    beside: Floats,
    helped: Floats,
    joint: Floats,
    shared: Floats,
    score: Floats,
    count: int,
    times: Ints,
    rent: Floats,
    base: Floats,
    free: int,
    limit: float,
) -> int:
    """Keep the candidates that, with some number of others, could cost no more than `limit`.

    rent (free, K) and base (free,) are by how many join. `joint` may have no rows, where it was
    not worked out.
    """
    score[:count], values = np.inf, np.empty(count)
    for join in range(1, free + 1):
        with_help(kind, beside, helped[join - 1], shared, rent[join - 1], values)
        others = cheapest(values, kind, times, join - 1)
        for x in range(count):
            values[x] += others
        if len(joint):
            others = cheapest(joint[join - 1, :count], kind, times, join - 1)
            for x in range(count):
                values[x] = max(values[x], joint[join - 1, x] + others)
        for x in range(count):
            score[x] = min(score[x], values[x] + base[join - 1])
    return keep_cheap(kind, beside, helped[:free], joint, shared, score, count, limit)


@compiled
def keep_cheap(
    kind: Ints,
    beside: Floats,
    helped: Floats,
    joint: Floats,
    shared: Floats,
    score: Floats,
    count: int,
    limit: float,
) -> int:
    """Move the candidates whose score is no more than `limit` to the front; return how many."""
    kept = 0
    for x in range(count):
        if score[x] <= limit:
            kind[kept], beside[kept], shared[kept] = kind[x], beside[x], shared[x]
            for r in range(len(helped)):
                helped[r, kept] = helped[r, x]
                if len(joint):
                    joint[r, kept] = joint[r, x]
            kept += 1
    return kept


@compiled
def bound_each(
    kind: Ints,
    beside: Floats,
    helped: Floats,
    joint: Floats,
    shared: Floats,
    count: int,
    times: Ints,
    rent: Floats,
    base: Floats,
    members: Ints,
    free: int,
    bound: Floats,
) -> None:
    """Fill in the bound of all groups of which each candidate is the next member (count,)."""
    bound[:count] = np.inf
    values, least = np.empty(count), np.empty(count)
    for join in range(1, free + 1):
        least[:] = -np.inf
        with_help(kind, beside, helped[join - 1], shared, rent[join - 1], values)
        with_later(values, kind, times, members, join, least)
        if len(joint):
            with_later(joint[join - 1, :count], kind, times, members, join, least)
        for x in range(count):
            bound[x] = min(bound[x], least[x] + base[join - 1])


@compiled
def with_later(
    values: Floats, kind: Ints, times: Ints, members: Ints, join: int, least: Floats
) -> None:
    """Raise `least` (count,) to the least sum of `values` of each candidate and of later ones.

    `join` of them in all; candidates stand for as many replicas as are left beside the members.
    """
    best = np.full(join - 1, np.inf)
    total = np.inf if join > 1 else 0.0
    for x in range(len(values) - 1, -1, -1):
        k = kind[x]
        more = times[k] - 1
        if more > 0 and join > 1:
            insert(best, values[x], min(more - (members == k).sum(), join - 1))
            total = best.sum()
        least[x] = max(least[x], values[x] + total)
        if join > 1 and values[x] < best[join - 2]:
            insert(best, values[x], 1)
            total = best.sum()
