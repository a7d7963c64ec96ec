"""A part of a placement filled anew at the least cost there is, by the exact group master."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from placer.solvers.backend_highs import solve_with_highs
from placer.solvers.batch import UNLIMITED, Batch
from placer.solvers.columns import (
    Columns,
    Prices,
    TogetherIndex,
    assignment_of,
    columns_of,
    including,
    join,
)
from placer.solvers.covering import NARROW, Beams, Covering
from placer.solvers.frontier import Ground
from placer.solvers.group_search import GroupSearch
from placer.solvers.integer_program import IntegerProgram
from placer.solvers.master import Rows, integer_master
from placer.solvers.pair_listing import list_best
from placer.solvers.pricing import lowest
from placer.solvers.run import Assignment, Run, State, vms_used

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

GROUPS = 6_000
"""The most groups that a repair mostly chooses from."""

WIDTH = 60
"""Groups grown from each kind where there are too many to list."""

SPARE = 0.15
"""What part of their cost VMs could give up, where no prices say it."""

REPAIR_SECONDS = 3.0

SETTLED_ROWS = 12
"""Of more replicas, each one of a kind, an integer program comes to nothing after a beam search."""

LEAST_GAIN = 1e-9
"""What a gain is at the least, relative to what a hole cost before."""


@dataclass(frozen=True)
class Hole:
    """What is freed: VMs by content, and replicas (K,), those unplaced included."""

    vms: Counter[State]
    replicas: Ints


def refilled(
    run: Run,
    ground: Ground,
    placement: Assignment,
    hole: Hole,
    prices: Prices | None,
    share: float = 1.0,
    most: int = GROUPS,
    seconds: float = REPAIR_SECONDS,
    beams: Beams = NARROW,
) -> Assignment | None:
    """Return `placement` with its hole filled at the least cost, None where that is no better.

    No VM of the hole may be there for a together rule. With `prices` only groups go into the
    master that are dearer than they are worth by at most this `share` of what the whole hole is;
    of too many the `most` promising ones.
    """
    rest = Counter(placement)
    rest.subtract(hole.vms)
    batch = left_of(run.batch, hole.replicas, rest)
    columns = _groups(run, ground, batch, hole, prices, share, most)
    if columns is None or (len(columns) <= len(hole.vms) and hole.replicas.max() <= 1):
        return None  # each replica is one of a kind: nothing to choose from
    values = _chosen(integer_master(Rows(batch), columns, hole.vms), run, seconds, beams)
    if values is None:
        return None
    for state, count in assignment_of(columns, values[: len(columns)]).items():
        rest[state] += count
    return rest


def _chosen(program: IntegerProgram, run: Run, seconds: float, beams: Beams) -> Ints | None:
    """Return better values (n,) than those to begin from, None where none were found in time.

    Where each replica is one of a kind, a beam search comes first.
    """
    cost, found = program.cost, None
    known = np.inf if program.start is None else float(cost @ program.start)
    covering = Covering.of(program, run)
    if covering is not None:
        if covering.bound >= known - LEAST_GAIN * abs(known):
            return None
        rng = np.random.default_rng(run.options.seed)
        found = covering.search(run, known, beams, rng)
        if len(program.row_lower) > SETTLED_ROWS:
            return found
        if found is not None:
            program, known = replace(program, start=found.astype(float)), float(cost @ found)
    result = solve_with_highs(program, run, seconds=seconds)
    better = result.values is not None and cost @ result.values < known
    return result.values if better else found


def left_of(batch: Batch, replicas: Ints, rest: Counter[State]) -> Batch:
    """Return what `batch` leaves to `replicas` (K,) beside the VMs of `rest`."""
    used = vms_used(batch, rest)
    limited = batch.count < UNLIMITED
    return replace(
        batch,
        replicas=replicas,
        count=np.where(limited, batch.count - used, batch.count),
        max_vms=batch.max_vms if batch.max_vms >= UNLIMITED else batch.max_vms - int(used.sum()),
        max_price=batch.max_price - float(used @ batch.price),
        together=[],
    )


def _groups(
    run: Run,
    ground: Ground,
    batch: Batch,
    hole: Hole,
    prices: Prices | None,
    share: float,
    most: int,
) -> Columns | None:
    """Return groups of the freed replicas that could be part of a better placement."""
    used = columns_of(run.costs, list(hole.vms))
    counts = np.array(list(hole.vms.values()), dtype=float)
    if prices is None:
        prices, spare = _shared_cost(used, batch), SPARE * float(np.abs(used.cost) @ counts)
    else:
        prices = replace(prices, together=np.zeros(0))
        spare = share * float((used.cost - prices.worth(used)) @ counts)
    window = spare + 1e-9 * (1.0 + abs(spare))
    found = list_best(run, ground.classes, batch, prices, window, most)
    if found is None:
        ground = replace(ground, batch=batch, together=TogetherIndex(batch))
        found = likely_groups(ground, prices, window, most)
    if run.should_stop():
        return None
    return including(run.costs, found, hole.vms)


def _shared_cost(columns: Columns, batch: Batch) -> Prices:
    """Return prices at which each group is worth what it costs, shared by its members."""
    total, times = np.zeros(batch.kinds + 1), np.zeros(batch.kinds + 1)
    members = columns.groups >= 0
    share = columns.cost / np.maximum(members.sum(axis=1), 1)
    np.add.at(total, columns.groups, share[:, None] * members)
    np.add.at(times, columns.groups, members)
    kind = (total / np.maximum(times, 1))[:-1]
    return Prices(kind, np.zeros(batch.types), np.zeros(0), 0.0)


def likely_groups(ground: Ground, prices: Prices, window: float, most: int) -> Columns:
    """Return the groups of reduced cost at most `window`, of too many the `most` likely."""
    parts: list[Columns] = []
    for t in np.flatnonzero(ground.batch.vms_possible() > 0).tolist():
        search = GroupSearch(ground, t, prices)
        if not search.collect(window, most):
            search = GroupSearch(ground, t, prices)
            search.seed(WIDTH, window)
        parts.append(search.columns(limited=False))
    found = join(parts)
    return found.take(lowest(found.cost - prices.worth(found), most))
