"""Who may join a group of pair costs at hand, for the compiled search."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from placer.problem import TOLERANCE
from placer.solvers.jit import compiled
from placer.solvers.pair_bounds import helps, jointly, most_that_fit, sift
from placer.solvers.pair_types import PairTask, Stack

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

HELP_DEPTH, HELP_ROUNDS = 3, 4
"""Up to this degree what newcomers cost each other is worked out anew, and how often at most."""


@compiled
def list_newcomers(
    task: PairTask,
    stack: Stack,
    size: int,
    free: int,
    space: Floats,
    joint: Floats,
    base: Floats,
    limit: float,
) -> tuple[int, int]:
    """List the kinds that may join and, with others, lead no higher than `limit` at the least.

    base (D,): what there is beside them, by how many join. Return how many kinds there are, and
    how many replicas may join at most.
    """
    kind, beside, helped = stack.kind[size], stack.beside[size], stack.helped[size]
    shared = stack.shared[size]
    times, rent, score = task.times, task.rent[size + 1 :], stack.score[size]
    none = joint[:0]
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
        count = sift(
            kind, beside, helped, none, shared, score, count, times, rent, base, free, limit
        )
    else:
        count = start(task, space, kind, beside, shared)
    return look_closer(task, stack, size, count, free, joint, base, limit), free


@compiled
def look_closer(
    task: PairTask,
    stack: Stack,
    size: int,
    count: int,
    free: int,
    joint: Floats,
    base: Floats,
    limit: float,
) -> int:
    """Work out anew what newcomers cost each other, fewer by now; return how many are left."""
    kind, beside, helped = stack.kind[size], stack.beside[size], stack.helped[size]
    shared, score = stack.shared[size], stack.score[size]
    times, rent, none = task.times, task.rent[size + 1 :], joint[:0]
    for _ in range(HELP_ROUNDS if size < HELP_DEPTH else size == HELP_DEPTH):
        before = count
        if free > 1 and count:
            helps(task.pair, kind[:count], times, free - 1, helped)
            count = sift(
                kind, beside, helped, none, shared, score, count, times, rent, base, free, limit
            )
        if count > 0.8 * before:
            break
    if count and len(joint):
        jointly(task.pair, kind[:count], beside, shared, rent, times, free - 1, joint)
        count = sift(
            kind, beside, helped, joint, shared, score, count, times, rent, base, free, limit
        )
    return count


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
