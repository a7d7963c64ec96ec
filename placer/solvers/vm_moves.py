"""What uniting, dividing and retyping whole VMs gains: local search looks through this."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np

from placer.interference.tables import Floats, Groups
from placer.problem import TOLERANCE
from placer.solvers.fleet import SLACK, Fleet, sort_padded
from placer.solvers.moves import Change
from placer.solvers.run import rows_of

PAIRS = 60_000
"""Pairs of contents looked at for merges before they are sampled."""

PARTS = 128
"""Parts of one content looked at for splits before they are sampled."""


def merges(fleet: Fleet, rng: np.random.Generator, least: float, seen: set[int]) -> list[Change]:
    """Return the unions of two VMs on one of any type that gain over `least`, best first.

    Pairs of rows that are both in `seen`, the rows whose unions are known not to gain, are left
    out; rows join it here, unless pairs had to be sampled.
    """
    batch, rows = fleet.batch, fleet.alive()
    first, second = np.triu_indices(len(rows))
    known = np.array([row in seen for row in rows.tolist()], dtype=bool)
    keep = (first != second) | (fleet.count[rows[first]] > 1)
    keep &= ~(known[first] & known[second])
    first, second = first[keep], second[keep]
    if len(first) <= PAIRS:
        seen.update(rows.tolist())
    if len(first) > PAIRS:
        chosen = np.sort(rng.choice(len(first), PAIRS, replace=False))
        first, second = first[chosen], second[chosen]
    groups = fleet.groups[rows, : max(1, int(fleet.degree[rows].max(initial=0)))]
    a, b = rows[first], rows[second]
    found: list[Change] = []
    for t in range(batch.types):
        used = _used_on(fleet, t, groups)
        fits = (used[first] + used[second] <= batch.capacity[t] + TOLERANCE + SLACK).all(axis=1)
        fits &= fleet.degree[a] + fleet.degree[b] <= batch.max_models[t]
        if not fits.any():
            continue
        pair = np.flatnonzero(fits)
        union = sort_padded(np.concatenate([groups[first[pair]], groups[second[pair]]], axis=1))
        gain = fleet.cost[a[pair]] + fleet.cost[b[pair]] - fleet.memo.cost(t, union)
        found += [
            Change(
                float(gain[i]),
                (int(a[pair[i]]), int(b[pair[i]])),
                ((t, _members(union[i])), (int(fleet.type_of[b[pair[i]]]), ())),
            )
            for i in np.flatnonzero(gain > least)
        ]
    seen.difference_update(row for change in found for row in change.sources)
    return sorted(found, key=lambda change: (-change.gain, change.sources))


def _used_on(fleet: Fleet, t: int, groups: Groups) -> Floats:
    """Return the resources that `groups` take on VM type `t` (n, R)."""
    padded = np.concatenate([fleet.batch.demand[t], np.zeros((1, fleet.batch.demand.shape[2]))])
    return np.asarray(padded[groups].sum(axis=1))


def _members(row: Groups) -> tuple[int, ...]:
    return tuple(int(kind) for kind in row if kind >= 0)


def retypes(fleet: Fleet, least: float) -> list[Change]:
    """Return the changes of a VM's type, and of two VMs' types with each other, best first."""
    batch, rows = fleet.batch, fleet.alive()
    if batch.types < 2 or not len(rows):
        return []
    groups = fleet.groups[rows, : max(1, int(fleet.degree[rows].max()))]
    cost = np.column_stack([fleet.memo.cost(t, groups) for t in range(batch.types)])
    gain = fleet.cost[rows][:, None] - cost
    found = [
        Change(float(gain[i, t]), (int(rows[i]),), ((int(t), fleet.states[rows[i]][1]),))
        for i, t in zip(*np.nonzero(gain > least), strict=True)
    ]
    types = fleet.type_of[rows]
    for t in range(batch.types):
        for other in range(t + 1, batch.types):
            ours, theirs = np.flatnonzero(types == t), np.flatnonzero(types == other)
            if not len(ours) or not len(theirs):
                continue
            i = ours[gain[ours, other].argmax()]
            j = theirs[gain[theirs, t].argmax()]
            both = float(gain[i, other] + gain[j, t])
            if both > least:
                a, b = int(rows[i]), int(rows[j])
                targets = ((other, fleet.states[a][1]), (t, fleet.states[b][1]))
                found.append(Change(both, (a, b), targets))
    return sorted(found, key=lambda change: (-change.gain, change.sources))


def splits(fleet: Fleet, rng: np.random.Generator, least: float, seen: set[int]) -> list[Change]:
    """Return the divisions of a VM into two that gain over `least`, best first.

    Rows in `seen`, whose divisions are known not to gain, are left out; rows join it here.
    """
    batch = fleet.batch
    fresh_types = [t for t in range(batch.types) if fleet.available(t) > 0]
    owners: list[int] = []
    halves: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    for row in sorted(set(fleet.alive().tolist()) - seen):
        for half in _two_parts(fleet.states[row][1], rng):
            owners.append(row)
            halves.append(half)
    if not owners:
        return []
    if len(fresh_types) == batch.types:
        seen.update(owners)
    allowed = np.zeros((len(owners), batch.types), dtype=bool)
    allowed[:, fresh_types] = True
    own = fleet.type_of[owners]
    index = np.arange(len(owners))
    costs = []
    for side in (0, 1):
        rows = rows_of([half[side] for half in halves])
        costs.append(np.column_stack([fleet.memo.cost(t, rows) for t in range(batch.types)]))
    found: list[Change] = []
    for stays, opens in ((0, 1), (1, 0)):
        fresh = np.where(allowed, costs[opens], np.inf)
        best = fresh.argmin(axis=1)
        gain = fleet.cost[owners] - costs[stays][index, own] - fresh[index, best]
        for i in np.flatnonzero(gain > least):
            targets = ((int(own[i]), halves[i][stays]), (int(best[i]), halves[i][opens]))
            found.append(Change(float(gain[i]), (owners[i], int(best[i])), targets))
    seen.difference_update(change.sources[0] for change in found)
    return sorted(found, key=lambda change: (-change.gain, change.sources))


def _two_parts(
    group: tuple[int, ...], rng: np.random.Generator
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Return the ways to divide `group` in two, sampled where there are very many."""
    counts = sorted(Counter(group).items())
    ways = int(np.prod([min(n + 1, PARTS + 1) for _, n in counts], dtype=np.float64))
    if ways <= 2 * PARTS:
        takes = list(product(*(range(n + 1) for _, n in counts)))
        chosen = takes[1 : (len(takes) + 1) // 2]  # the other half mirrors these
    else:
        most = np.array([n for _, n in counts])
        chosen = [tuple(rng.integers(0, most + 1).tolist()) for _ in range(PARTS)]
    parts = []
    for take in chosen:
        part = tuple(k for (k, _), n in zip(counts, take, strict=True) for _ in range(n))
        rest = tuple(k for (k, m), n in zip(counts, take, strict=True) for _ in range(m - n))
        if part and rest:
            parts.append((part, rest))
    return parts
