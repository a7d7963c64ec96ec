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
    shared: Floats,
    score: Floats,
    count: int,
    times: Ints,
    rent: Floats,
    free: int,
    limit: float,
) -> int:
    """Keep the candidates that, with some number of others, could cost no more than `limit`."""
    for x in range(count):
        score[x] = np.inf
    for join in range(1, free + 1):
        best = np.full(join - 1, np.inf)
        for x in range(count):
            value = beside[x] - shared[x] + helped[join - 1, x] + rent[kind[x]]
            if join > 1 and value < best[join - 2]:
                insert(best, value, min(times[kind[x]], join - 1))
        others = best.sum()
        for x in range(count):
            value = beside[x] - shared[x] + helped[join - 1, x] + rent[kind[x]]
            score[x] = min(score[x], value + others)
    kept = 0
    for x in range(count):
        if score[x] <= limit:
            kind[kept], beside[kept], shared[kept] = kind[x], beside[x], shared[x]
            for r in range(free):
                helped[r, kept] = helped[r, x]
            kept += 1
    return kept


@compiled
def bound_each(
    kind: Ints,
    beside: Floats,
    helped: Floats,
    shared: Floats,
    count: int,
    times: Ints,
    rent: Floats,
    members: Ints,
    free: int,
    bound: Floats,
) -> None:
    """Fill in the bound of all groups of which each candidate is the next member (count,)."""
    for x in range(count):
        bound[x] = np.inf
    for join in range(1, free + 1):
        best = np.full(join - 1, np.inf)
        total = np.inf if join > 1 else 0.0
        for x in range(count - 1, -1, -1):
            k = kind[x]
            value = beside[x] - shared[x] + helped[join - 1, x] + rent[k]
            more = times[k] - 1
            if more > 0 and join > 1:
                insert(best, value, min(more - (members == k).sum(), join - 1))
                total = best.sum()
            bound[x] = min(bound[x], value + total)
            if join > 1 and value < best[join - 2]:
                insert(best, value, 1)
                total = best.sum()
