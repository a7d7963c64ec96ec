"""The compiled part of the search for groups whose costs are sums over pairs.

Groups grow depth first, one member at a time. A node is left where no group in it can have a
reduced cost below the threshold: what its members cost, plus the most rewarding newcomers, each
with the best help that the other newcomers could give it and the rent of the room it takes, less
the rent of all the room there is (the knapsack's Lagrangian bound). The rates of that rent depend
on how many members the whole group has.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from placer.problem import TOLERANCE
from placer.solvers.jit import compiled, inlined
from placer.solvers.pair_bounds import bound_each
from placer.solvers.pair_newcomers import list_newcomers
from placer.solvers.pair_types import Found, PairTask, Stack

Floats = NDArray[np.float64]

JOINT_DEPTH = 3
"""Up to this degree what newcomers and their company cost together is worked out."""

DONE, PAUSED, FULL = 0, 1, 2


@inlined
def holds(task: PairTask, t: int, load: Floats, size: int) -> bool:
    """Return whether VM type `t` has room for this load of so many members."""
    fits = size <= task.most[t]
    for r in range(load.shape[0]):
        fits = fits and load[r] <= task.capacity[t, r] + TOLERANCE
    return fits


@compiled
def types_that_hold(task: PairTask, load: Floats, size: int, widest: Floats, base: Floats) -> int:
    """Return how many may join this load at the most on types that hold it, -1 for no type.

    base (D,) is filled in with the least room offer among them by how many join, from one on, and
    widest (R,) with the largest capacity.
    """
    free = -1
    widest[:] = -np.inf
    base[:] = np.inf
    for t in range(task.offer.shape[0]):
        if holds(task, t, load, size):
            free = max(free, task.most[t] - size)
            for join in range(1, task.most[t] - size + 1):
                base[join - 1] = min(base[join - 1], task.room[size + join, t])
            for r in range(load.shape[0]):
                widest[r] = max(widest[r], task.capacity[t, r])
    return free


@compiled
def emit(task: PairTask, stack: Stack, found: Found, size: int, threshold: float) -> None:
    """Add the group at hand on each type where it is worth it, up to one that never runs out."""
    for x in range(size):
        if task.has_slo and stack.slow[size, x] > task.slack[stack.member[x + 1]] + 1e-12:
            return
    load = stack.load[size]
    for t in range(task.offer.shape[0]):
        if not holds(task, t, load, size):
            continue
        reduced = task.offer[t] + stack.base[size]
        found.least[0] = min(found.least[0], reduced)
        if reduced <= threshold:
            n = found.size[0]
            found.vm_type[n], found.reduced[n] = t, reduced
            found.groups[n, :size] = stack.member[1 : size + 1]
            found.groups[n, size:] = -1
            found.size[0] = n + 1
        if task.endless[t]:
            return


@compiled
def slowed(task: PairTask, stack: Stack, size: int, free: int) -> bool:
    """Fill in the slowdowns of the group at hand; return whether some SLO cannot be kept."""
    new = stack.member[size]
    own = 0.0
    for x in range(size - 1):
        k = stack.member[x + 1]
        stack.slow[size, x] = stack.slow[size - 1, x] + task.effect[k, new]
        own += task.effect[new, k]
        if stack.slow[size, x] + task.help[k] * free > task.slack[k] + 1e-9:
            return True
    stack.slow[size, size - 1] = own
    return own + task.help[new] * free > task.slack[new] + 1e-9


@compiled
def enter(task: PairTask, stack: Stack, found: Found, threshold: float, slack: float) -> None:
    """List the kinds that may join the group at hand and lead below the threshold, with bounds."""
    size = stack.depth[0]
    stack.left[size] = stack.at[size] = 0
    widest = np.empty(task.capacity.shape[1])
    load = stack.load[size]
    base = np.empty(task.rates.shape[0])
    free = types_that_hold(task, load, size, widest, base)
    if size and task.has_slo and slowed(task, stack, size, max(free, 0)):
        return
    if size and free >= 0:
        emit(task, stack, found, size, threshold)
    if free <= 0:
        return
    for r in range(load.shape[0]):
        widest[r] -= load[r]
        for join in range(1, free + 1):
            base[join - 1] += task.rates[size + join, r] * load[r]
    for join in range(1, free + 1):
        base[join - 1] += stack.base[size]
    joint = stack.joint[: stack.joint.shape[0] * (size <= JOINT_DEPTH)]
    count, free = list_newcomers(task, stack, size, free, widest, joint, base, threshold + slack)
    bound_each(
        stack.kind[size], stack.beside[size], stack.helped[size], joint, stack.shared[size], count,
        task.times, task.rent[size + 1 :], base, stack.member[1 : size + 1], free,
        stack.bound[size],
    )  # fmt: skip
    stack.left[size] = count


@compiled
def thin(found: Found, keep: int) -> float:
    """Keep the `keep` groups of least reduced cost; return the largest that is kept."""
    count = found.size[0]
    limit = np.partition(found.reduced[:count], keep - 1)[keep - 1]
    kept = 0
    for n in range(count):
        if found.reduced[n] <= limit and kept < keep:
            found.vm_type[kept], found.reduced[kept] = found.vm_type[n], found.reduced[n]
            found.groups[kept] = found.groups[n]
            kept += 1
    found.size[0] = kept
    return limit


@compiled
def search(
    task: PairTask,
    stack: Stack,
    found: Found,
    threshold: Floats,
    slack: float,
    nodes: int,
    share: int,
    shares: int,
    thinning: bool,
) -> int:
    """Go on for at most this many nodes; return DONE, PAUSED, or FULL where `found` is.

    Of the first members only each `shares`-th is taken, from `share` on. With `thinning` the
    threshold (1,) falls to the better half of what is found instead of filling up.
    """
    spare = task.offer.shape[0]
    for _ in range(nodes):
        size = stack.depth[0]
        if stack.at[size] >= stack.left[size]:
            if size == 0:
                return DONE
            stack.depth[0] = size - 1
            stack.at[size - 1] += 1 if size > 1 else shares
            continue
        x = stack.at[size]
        if stack.bound[size, x] > threshold[0] + slack:
            stack.at[size] += 1 if size else shares
            continue
        if found.size[0] + spare > found.reduced.shape[0]:
            if not thinning:
                return FULL
            threshold[0] = min(threshold[0], thin(found, found.reduced.shape[0] // 2))
        k = stack.kind[size, x]
        stack.member[size + 1] = k
        stack.base[size + 1] = stack.base[size] + stack.beside[size, x]
        for r in range(task.demand.shape[1]):
            stack.load[size + 1, r] = stack.load[size, r] + task.demand[k, r]
        stack.depth[0] = size + 1
        enter(task, stack, found, threshold[0], slack)
    return PAUSED


@compiled
def begin(
    task: PairTask, stack: Stack, found: Found, threshold: float, slack: float, share: int
) -> None:
    """List the first members."""
    stack.depth[0] = 0
    stack.base[0] = 0.0
    stack.load[0] = 0.0
    enter(task, stack, found, threshold, slack)
    stack.at[0] = share
