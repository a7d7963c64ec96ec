"""All groups that fit, by growth one member at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from placer.problem import TOLERANCE
from placer.solvers.batch import Batch
from placer.solvers.columns import Columns, join
from placer.solvers.run import Run

GROUP_LIMIT = 3_000_000
"""More groups than this are priced by growth with bounds, not by looking at each."""

PAIR_CHUNK = 2_000_000

SAMPLE, FAR = 300, 2.0
"""Groups of one size whose larger ones are counted to tell how many there are, and how many times
the limit is told from that: they are not listed in vain."""


def enumerate_groups(run: Run, limit: int = GROUP_LIMIT) -> Columns | None:
    """Return every group that may be formed, by VM type, or None where there are too many."""
    if _far_too_many(run, limit):
        return None
    levels: list[tuple[int, NDArray[np.int32]]] = []
    for t in np.flatnonzero(run.batch.vms_possible() > 0).tolist():
        room = limit - sum(len(level) for _, level in levels)
        found = _groups_of_type(run, t, room)
        if found is None:
            return None
        levels += [(t, level) for level in found]
    parts: list[Columns] = []
    for t, level in levels:
        if run.should_stop():
            return None
        cost = run.costs.service_cost(t, level)
        keep = np.isfinite(cost)
        vm_type = np.full(int(keep.sum()), t, dtype=np.int32)
        parts.append(Columns(vm_type, level[keep], cost[keep]))
    return join(parts)


def _far_too_many(run: Run, limit: int) -> bool:
    """Return whether there are FAR times more groups than `limit`, by what a sample grows to."""
    batch, expected = run.batch, 0.0
    if batch.interference.only_listed():
        return False
    for t in np.flatnonzero(batch.vms_possible() > 0).tolist():
        level, room = start_groups(batch, t)
        number = float(len(level))
        while len(level):
            expected += number
            if expected > FAR * limit:
                return True
            some = np.linspace(0, len(level) - 1, min(SAMPLE, len(level))).astype(np.int64)
            grown = grow(batch, t, level[some], room[some], PAIR_CHUNK)
            if grown is None:
                return False
            level, room = grown
            number *= len(level) / len(some)
    return False


def _groups_of_type(run: Run, t: int, limit: int) -> list[NDArray[np.int32]] | None:
    batch = run.batch
    if batch.interference.only_listed():
        return [_listed_groups(run, t)]
    level, room = start_groups(batch, t)
    levels: list[NDArray[np.int32]] = []
    total = 0
    while len(level):
        levels.append(level)
        total += len(level)
        if total > limit or run.should_stop():
            return None
        grown = grow(batch, t, level, room, limit - total)
        if grown is None:
            return None
        level, room = grown
    return levels


def _listed_groups(run: Run, t: int) -> NDArray[np.int32]:
    """Return singles and listed groups that fit, where nothing else may be formed."""
    batch = run.batch
    listed = batch.interference.listed(t)
    singles = np.arange(batch.kinds, dtype=np.int32)[:, None]
    width = max(1, 0 if listed is None else listed.shape[1])
    rows = np.pad(singles, ((0, 0), (0, width - 1)), constant_values=-1)
    if listed is not None and len(listed):
        rows = np.unique(np.concatenate([rows, listed]), axis=0)
    enough = np.ones(len(rows), dtype=bool)
    for kind in range(batch.kinds):
        enough &= (rows == kind).sum(axis=1) <= batch.replicas[kind]
    rows = rows[enough]
    result: NDArray[np.int32] = rows[run.costs.fits(t, rows)]
    return result


def start_groups(batch: Batch, t: int) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Return the groups of one that fit on type `t` (n, 1) and the room beside them (n, R)."""
    if batch.max_models[t] < 1:
        return np.zeros((0, 1), np.int32), np.zeros((0, batch.capacity.shape[1]))
    room = batch.capacity[t] - batch.demand[t]
    fits = batch.allowed[t] & (batch.replicas > 0) & (room >= -TOLERANCE).all(axis=1)
    kinds = np.flatnonzero(fits).astype(np.int32)
    return kinds[:, None], room[kinds]


def grow(
    batch: Batch, t: int, groups: NDArray[np.int32], room: NDArray[np.float64], limit: int
) -> tuple[NDArray[np.int32], NDArray[np.float64]] | None:
    """Return every group made of one of `groups` (n, d) by adding a last member, and its room.

    None where there would be more than `limit`.
    """
    degree = groups.shape[1]
    kinds, _ = start_groups(batch, t)
    candidates = kinds[:, 0]
    if degree >= batch.max_models[t] or not len(candidates) or not len(groups):
        return groups[:0], room[:0]
    first = np.searchsorted(candidates, groups[:, -1])
    found: list[tuple[NDArray[np.int32], NDArray[np.float64]]] = []
    total = 0
    per_row = max(1, len(candidates))
    step = max(1, PAIR_CHUNK // per_row)
    for begin in range(0, len(groups), step):
        part = slice(begin, begin + step)
        rows, kind = _pairs(first[part], candidates)
        keep, left = _may_join(batch, t, groups[part], room[part], rows, kind)
        grown = np.column_stack([groups[part][rows[keep]], kind[keep]])
        found.append((grown.astype(np.int32), left))
        total += len(grown)
        if total > limit:
            return None
    return np.concatenate([g for g, _ in found]), np.concatenate([r for _, r in found])


def _pairs(
    first: NDArray[np.int_], candidates: NDArray[np.int32]
) -> tuple[NDArray[np.int_], NDArray[np.int32]]:
    """Return each row with each candidate from its own first one on."""
    count = len(candidates) - first
    rows = np.repeat(np.arange(len(first)), count)
    offset = np.arange(len(rows)) - np.repeat(np.cumsum(count) - count, count)
    return rows, candidates[np.repeat(first, count) + offset]


def _may_join(
    batch: Batch,
    t: int,
    groups: NDArray[np.int32],
    room: NDArray[np.float64],
    rows: NDArray[np.int_],
    kind: NDArray[np.int32],
) -> tuple[NDArray[np.int_], NDArray[np.float64]]:
    """Return which pairs of row and kind make a group that fits, and the room beside it."""
    ok = np.ones(len(rows), dtype=bool)
    demand = batch.demand[t]
    for resource in range(demand.shape[1]):
        ok &= room[rows, resource] - demand[kind, resource] >= -TOLERANCE
    keep = np.flatnonzero(ok)
    scarce = batch.replicas <= groups.shape[1]
    if scarce.any() or batch.apart.any():
        members = groups[rows[keep]]
        same = (members == kind[keep, None]).sum(axis=1)
        fine = same < batch.replicas[kind[keep]]
        for member in members.T:
            fine &= ~batch.apart[member, kind[keep]]
        keep = keep[fine]
    return keep, room[rows[keep]] - demand[kind[keep]]
