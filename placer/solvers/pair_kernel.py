"""The compiled part of the search for groups whose costs are sums over pairs.

Groups grow depth first, one member at a time. A node is left where no group in it can have a
reduced cost below the threshold: what its members cost, plus the most rewarding newcomers, each
with the best help that the other newcomers could give it and the rent of the room it takes, less
the rent of all the room there is (the knapsack's Lagrangian bound).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from placer.problem import TOLERANCE
from placer.solvers.jit import compiled
from placer.solvers.pair_bounds import bound_each, helps, most_that_fit, sift

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

HELP_DEPTH, HELP_ROUNDS = 3, 4
"""Up to this degree what newcomers cost each other is worked out anew, and how often at most."""

DONE, PAUSED, FULL = 0, 1, 2


class PairTask(NamedTuple):
    """What is searched: K kinds in the order of joining, T VM types by ascending price.

    own (K,): cost of a lone replica less its price; demand (K, R); rent (K,): of what it takes;
    pair (K, K): what two cost each other; times (K,): replicas that may join. offer (T,): a VM's
    price less what the duals pay for it; room (T,): offer less the rent of the whole VM; capacity
    (T, R); most (T,); endless (T,): whether there are always more. rates (R,): rent of room.
    effect (K, K), slack, help (K,): what a co-runner adds to a slowdown, how much may be added,
    and the least that any adds. triples (M, 3): kinds of which a group that holds two or more
    costs penalty (M,) more, -1 for none; cuts: those of each kind, from first_cut (K + 1,) on.
    """

    own: Floats
    demand: Floats
    rent: Floats
    pair: Floats
    times: Ints
    offer: Floats
    room: Floats
    capacity: Floats
    most: Ints
    endless: NDArray[np.bool_]
    rates: Floats
    effect: Floats
    slack: Floats
    help: Floats
    has_slo: bool
    triples: Ints
    penalty: Floats
    cuts: Ints
    first_cut: Ints


class Stack(NamedTuple):
    """Where the search stands, by degree d: kinds that may join, and what each would mean.

    kind (D, K): candidates; beside (D, K): what they cost beside the members; helped (D, D, K):
    half of what some of them cost each other at the least, by how many; bound (D, K): of all that
    each leads to; left, at (D,): how many there are, and the next one. shared (D, K): half of the
    penalties in `beside` that another newcomer could share; score (D, K), change (K,): scratch.
    base (D,), load (D, R), member (D,), slow (D, D): the group. depth (1,).
    """

    kind: Ints
    beside: Floats
    helped: Floats
    shared: Floats
    change: Floats
    score: Floats
    bound: Floats
    left: Ints
    at: Ints
    base: Floats
    load: Floats
    member: Ints
    slow: Floats
    depth: Ints


class Found(NamedTuple):
    """Groups found: vm_type (M,), groups (M, D) padded with -1, reduced (M,); size, least (1,)."""

    vm_type: Ints
    groups: Ints
    reduced: Floats
    size: Ints
    least: Floats


@compiled
def types_that_hold(task: PairTask, load: Floats, size: int, widest: Floats) -> tuple[float, int]:
    """Return the least room offer of the types that hold this load, and the most that may join.

    widest (R,) is filled in with the largest capacity among them.
    """
    cheapest, free = np.inf, -1
    widest[:] = -np.inf
    for t in range(task.offer.shape[0]):
        fits = size <= task.most[t]
        for r in range(load.shape[0]):
            fits = fits and load[r] <= task.capacity[t, r] + TOLERANCE
        if fits:
            cheapest = min(cheapest, task.room[t])
            free = max(free, task.most[t] - size)
            for r in range(load.shape[0]):
                widest[r] = max(widest[r], task.capacity[t, r])
    return cheapest, free


@compiled
def emit(task: PairTask, stack: Stack, found: Found, size: int, threshold: float) -> None:
    """Add the group at hand on each type where it is worth it, up to one that never runs out."""
    for x in range(size):
        if task.has_slo and stack.slow[size, x] > task.slack[stack.member[x + 1]] + 1e-12:
            return
    for t in range(task.offer.shape[0]):
        fits = size <= task.most[t]
        for r in range(stack.load.shape[1]):
            fits = fits and stack.load[size, r] <= task.capacity[t, r] + TOLERANCE
        if not fits:
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
    room, free = types_that_hold(task, load, size, widest)
    if size and task.has_slo and slowed(task, stack, size, max(free, 0)):
        return
    if size and free >= 0:
        emit(task, stack, found, size, threshold)
    if free <= 0:
        return
    base = room + stack.base[size]
    for r in range(load.shape[0]):
        base += task.rates[r] * load[r]
        widest[r] -= load[r]
    count, free = list_newcomers(task, stack, size, free, widest, threshold + slack - base)
    bound_each(
        stack.kind[size], stack.beside[size], stack.helped[size], stack.shared[size], count,
        task.times, task.rent,
        stack.member[1 : size + 1], free, stack.bound[size],
    )  # fmt: skip
    for x in range(count):
        stack.bound[size, x] += base
    stack.left[size] = count


@compiled
def list_newcomers(
    task: PairTask, stack: Stack, size: int, free: int, space: Floats, limit: float
) -> tuple[int, int]:
    """List the kinds that may join and, with others, cost no more than `limit` at the least.

    Return how many kinds there are, and how many replicas may join at most.
    """
    kind, beside, helped = stack.kind[size], stack.beside[size], stack.helped[size]
    shared = stack.shared[size]
    times, rent, score = task.times, task.rent, stack.score[size]
    if size:
        last = stack.member[size]
        first = stack.at[size - 1]
        first += times_in(stack.member, size, last) >= times[last]
        above = slice(first, stack.left[size - 1])
        count = gather(
            stack.kind[size - 1, above], stack.beside[size - 1, above],
            stack.helped[size - 1, :free, above], stack.shared[size - 1, above], task.pair[last],
            task.demand, space, kind, beside, helped, shared,
        )  # fmt: skip
        if len(task.penalty):
            penalise(task, stack, size, kind[:count], beside, shared)
        free = min(free, most_that_fit(task.demand, kind[:count], space))
        count = sift(kind, beside, helped, shared, score, count, times, rent, free, limit)
    else:
        count = start(task, space, kind, beside, shared)
    for _ in range(HELP_ROUNDS if size < HELP_DEPTH else size == HELP_DEPTH):
        before = count
        if free > 1 and count:
            helps(task.pair, kind[:count], times, free - 1, helped)
            count = sift(kind, beside, helped, shared, score, count, times, rent, free, limit)
        if count > 0.8 * before:
            break
    return count, free


@compiled
def times_in(members: Ints, size: int, kind: int) -> int:
    """Return how often `kind` is among the members, which follow the first entry."""
    times = 0
    for x in range(1, size + 1):
        times += members[x] == kind
    return times


@compiled
def start(task: PairTask, space: Floats, kind: Ints, beside: Floats, shared: Floats) -> int:
    """List the kinds that fit at all; return how many there are."""
    count = 0
    for k in range(task.own.shape[0]):
        fits = True
        for r in range(space.shape[0]):
            fits = fits and task.demand[k, r] <= space[r] + TOLERANCE
        if fits:
            kind[count], beside[count], shared[count] = k, task.own[k], 0.0
            count += 1
    return count


@compiled
def gather(
    kinds: Ints,
    besides: Floats,
    helpeds: Floats,
    shareds: Floats,
    pair: Floats,
    demand: Floats,
    space: Floats,
    kind: Ints,
    beside: Floats,
    helped: Floats,
    shared: Floats,
) -> int:
    """List those of `kinds` that may join beside a new member, whose pairs cost `pair` (K,)."""
    count = 0
    for x in range(kinds.shape[0]):
        k = kinds[x]
        fits = True
        for r in range(space.shape[0]):
            fits = fits and demand[k, r] <= space[r] + TOLERANCE
        if fits:
            kind[count], beside[count], shared[count] = k, besides[x] + pair[k], shareds[x]
            for r in range(helpeds.shape[0]):
                helped[r, count] = helpeds[r, x]
            count += 1
    return count


@compiled
def penalise(
    task: PairTask, stack: Stack, size: int, kinds: Ints, beside: Floats, shared: Floats
) -> None:
    """Add to `beside` and `shared` what cuts of the last member mean for each of `kinds`.

    Who joins the first of a triple pays; once two are in, the third pays nothing more.
    """
    last, change = stack.member[size], stack.change
    for x in range(task.first_cut[last], task.first_cut[last + 1]):
        cut = task.cuts[x]
        held = 0
        for k in task.triples[cut]:
            held += k >= 0 and times_in(stack.member, size, k) > 0
        for k in task.triples[cut]:
            if k >= 0 and k != last and held <= 2:
                change[k] += task.penalty[cut] if held == 1 else -task.penalty[cut]
    for x in range(kinds.shape[0]):
        beside[x] += change[kinds[x]]
        shared[x] += 0.5 * change[kinds[x]]
    for x in range(task.first_cut[last], task.first_cut[last + 1]):
        for k in task.triples[task.cuts[x]]:
            if k >= 0:
                change[k] = 0.0


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
