"""What each change to a fleet would gain: the neighbourhoods that local search looks through.

A change turns one VM of each of some contents (`sources`) into VMs of other contents (`targets`),
as many times as there are such VMs. What adding, removing or replacing one replica does to the
cost of a content never changes, so it is worked out once for each content and kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from placer.interference.tables import Floats, Groups
from placer.problem import TOLERANCE
from placer.solvers.fleet import SLACK, Fleet, Ints, sort_padded
from placer.solvers.run import State, rows_of

CELLS = 4_000_000
"""Content x kind cells worked on at once, to bound memory."""

PAIRS = 60_000
"""Pairs of contents looked at for merges before they are sampled."""

CELLS_A_ROW = 100
"""Cells looked through in the time that the cost of one group takes to work out."""

PARTS = 128
"""Parts of one content looked at for splits before they are sampled."""


@dataclass(frozen=True)
class Change:
    """One VM of each source row becomes that of each target state; `gain` is what it saves."""

    gain: float
    sources: tuple[int, ...]
    targets: tuple[State, ...]


class Deltas:
    """Cost of adding, removing and replacing one replica, for the rows of one fleet.

    add (S, K); the others by entries, one for each distinct kind on each row: entry_row,
    entry_kind, rem (E,), sub (E, K). Infinite where a change may not be made.
    """

    def __init__(self, fleet: Fleet, *, replacing: bool = True) -> None:
        self.fleet = fleet
        self.replacing = replacing
        kinds = fleet.batch.kinds
        self.add = np.zeros((0, kinds))
        self._takes_more = np.zeros(0, dtype=bool)
        self._place = np.zeros(0, dtype=np.int64)
        self._length = 0
        self.entry_row = np.zeros(0, dtype=np.int64)
        self.entry_kind = np.zeros(0, dtype=np.int64)
        self.rem = np.zeros(0)
        self.sub = np.zeros((0, kinds))
        self._entries = 0

    @property
    def cells(self) -> int:
        """How many costs are kept."""
        return self.add.size + self.sub.size

    def additions(self, rows: Ints) -> tuple[Ints, Floats]:
        """Return those of `rows` that can take any replica at all, and their part of `add`."""
        places = self._places(rows)
        able = self._takes_more[places]
        return rows[able], self.add[places[able]]

    def _places(self, rows: Ints) -> Ints:
        """Return where in `add` the fleet's `rows` are kept, worked out if need be."""
        size = self.fleet.size
        if len(self._place) < size:
            self._place = np.append(self._place, np.full(2 * size - len(self._place), -1))
        fresh = rows[self._place[rows] < 0]
        step = max(1, CELLS // (self.fleet.batch.kinds * (8 if self.replacing else 2)))
        for start in range(0, len(fresh), step):
            self._work_out(fresh[start : start + step])
        return self._place[rows]

    def entries(self, rows: Ints) -> Ints:
        """Return which entries belong to `rows`."""
        self._places(rows)
        wanted = np.zeros(self.fleet.size, dtype=bool)
        wanted[rows] = True
        return np.flatnonzero(wanted[self.entry_row[: self._entries]])

    def _work_out(self, rows: Ints) -> None:
        first, last = self._length, self._length + len(rows)
        self.add, self._takes_more = _longer(self.add, last), _longer(self._takes_more, last)
        self._place[rows] = np.arange(first, last)
        self._length = last
        fleet, width = self.fleet, max(1, int(self.fleet.degree[rows].max()))
        groups = fleet.groups[rows, :width]
        before = fleet.cost[rows]
        types = fleet.type_of[rows]
        self.add[first:last] = self._with_each(types, groups, fleet.used[rows]) - before[:, None]
        self._takes_more[first:last] = np.isfinite(self.add[first:last]).any(axis=1)
        owner, position = _distinct_members(groups)
        if not len(owner):
            return
        kinds = groups[owner, position]
        rest = groups[owner].copy()
        rest[np.arange(len(owner)), position] = -1
        rest = sort_padded(rest)
        first, last = self._entries, self._entries + len(owner)
        for name in ("entry_row", "entry_kind", "rem"):
            setattr(self, name, _longer(getattr(self, name), last))
        self.entry_row[first:last], self.entry_kind[first:last] = rows[owner], kinds
        self.rem[first:last] = self._costs(types[owner], rest) - before[owner]
        self._entries = last
        if self.replacing:
            used = fleet.used[rows][owner] - fleet.batch.demand[types[owner], kinds]
            replaced = self._with_each(types[owner], rest, used) - before[owner][:, None]
            replaced[np.arange(len(owner)), kinds] = np.inf
            self.sub = _longer(self.sub, last)
            self.sub[first:last] = replaced

    def _with_each(self, types: Ints, groups: Groups, used: Floats) -> Floats:
        """Return the cost of each group with one replica of each kind added (n, K)."""
        batch = self.fleet.batch
        room = batch.capacity[types] - used + TOLERANCE + SLACK
        fits = (batch.demand[types] <= room[:, None, :]).all(axis=2)
        fits &= batch.allowed[types] & (batch.replicas > 0)
        degree = (groups >= 0).sum(axis=1)
        fits &= (degree < batch.max_models[types])[:, None]
        row, kind = np.nonzero(fits)
        result = np.full(fits.shape, np.inf)
        if len(row):
            grown = np.column_stack([groups[row], kind.astype(np.int32)])
            result[row, kind] = self._costs(types[row], sort_padded(grown))
        return result

    def _costs(self, types: Ints, groups: Groups) -> Floats:
        result = np.full(len(groups), np.inf)
        for t in np.unique(types):
            mine = types == t
            result[mine] = self.fleet.memo.cost(int(t), groups[mine])
        return result


def _longer(array: NDArray[Any], length: int) -> NDArray[Any]:
    if len(array) >= length:
        return array
    grown = np.zeros((max(64, length, 2 * len(array)), *array.shape[1:]), dtype=array.dtype)
    grown[: len(array)] = array
    return grown


def _distinct_members(groups: Groups) -> tuple[Ints, Ints]:
    """Return row and position of the first replica of each kind in each group."""
    first = groups >= 0
    first[:, 1:] &= groups[:, 1:] != groups[:, :-1]
    row, position = np.nonzero(first)
    return row, position


@dataclass(frozen=True)
class Ends:
    """The two best rows to take each kind from, or to give it to, and what that costs (2, K).

    Row -1 is the bench of replicas that no VM holds.
    """

    row: Ints
    cost: Floats


def least_takes(deltas: Deltas, entries: Ints, bench: Floats) -> Ends:
    """Return the two least costs of taking each kind from a row, or from the bench (K,)."""
    kinds = np.arange(len(bench))
    kind = np.concatenate([deltas.entry_kind[entries], kinds])
    cost = np.concatenate([deltas.rem[entries], bench])
    row = np.concatenate([deltas.entry_row[entries], np.full(len(bench), -1)])
    order = np.lexsort((row, cost, kind))
    first = np.searchsorted(kind[order], kinds)
    second = np.minimum(first + 1, len(order) - 1)
    two = order[np.stack([first, second])]
    costs = np.where(kind[two] == kinds, cost[two], np.inf)
    return Ends(row[two], costs)


def least_gives(table: Floats, rows: Ints, bench: Floats) -> Ends:
    """Return the two least costs of giving each kind to `rows` (n, K), or to the bench (K,)."""
    costs = np.vstack([table, bench])
    rows, kinds = np.append(rows, -1), np.arange(len(bench))
    first = costs.argmin(axis=0)
    least = costs[first, kinds]
    costs[first, kinds] = np.inf
    second = costs.argmin(axis=0)
    return Ends(rows[np.stack([first, second])], np.stack([least, costs[second, kinds]]))


class Moves:
    """The changes by single replicas: move, place, leave out, swap, and replace with ejection."""

    def __init__(self, fleet: Fleet, deltas: Deltas, bench: Floats, barred: Ints) -> None:
        """`bench` is what one replica left out costs (K,), `barred` the kinds not to be placed."""
        self.fleet = fleet
        self._deltas = deltas
        self._entries = deltas.entries(fleet.alive())
        waiting = np.where(fleet.remaining > 0, -bench, np.inf)
        self.take = least_takes(deltas, self._entries, waiting)
        hosts, additions = deltas.additions(fleet.hosts())
        self.give = least_gives(additions, hosts, bench)
        fleet.memo.rows += (additions.size + len(self._entries)) // CELLS_A_ROW
        self.give.cost[:, barred] = np.where(
            self.give.row[:, barred] == -1, self.give.cost[:, barred], np.inf
        )

    def moves(self, least: float) -> Iterator[Change]:
        """Yield the best move of each kind that gains more than `least`, best first."""
        found = []
        for i, j in product((0, 1), (0, 1)):
            gain = -(self.take.cost[i] + self.give.cost[j])
            for kind in np.flatnonzero(gain > least).tolist():
                source, target = int(self.take.row[i, kind]), int(self.give.row[j, kind])
                if source != target or (source >= 0 and self.fleet.count[source] > 1):
                    found.append((float(gain[kind]), kind, source, target))
        for value, kind, source, target in sorted(found, reverse=True):
            yield self._change(value, [(source, kind, -1), (target, -1, kind)])

    def exchanges(self, least: float, most: int = 256) -> Iterator[Change]:
        """Yield swaps, and replacements that eject a replica to its best host, best first."""
        if not len(self._entries):
            return
        cost, owner = self._best_replacements()
        self.fleet.memo.rows += 10 * cost.size // CELLS_A_ROW
        kinds = np.arange(cost.shape[1])
        found: list[tuple[float, int, int, int, int]] = []
        upper = np.triu(np.ones(cost.shape[1:], dtype=bool), 1)
        for i, j in ((0, 0), (0, 1), (1, 0))[: 1 if len(cost) == 1 else 3]:
            gain = np.where(upper, -(cost[i] + cost[j].T), -np.inf)
            a, b = np.nonzero(gain > least)
            best = np.argsort(-gain[a, b], kind="stable")[:most]
            found += [
                (float(gain[x, y]), int(owner[i, x, y]), int(owner[j, y, x]), int(x), int(y))
                for x, y in zip(a[best], b[best], strict=True)
            ]
        swaps = [
            self._change(g, [(s, x, y), (d, y, x)])
            for g, s, d, x, y in sorted(found, reverse=True)
            if s != d or self.fleet.count[s] > 1
        ]
        yield from swaps
        gain = -(self.take.cost[0][None, :] + cost[0] + self.give.cost[0][:, None])
        gain[kinds, kinds] = -np.inf
        out, new = np.nonzero(gain > least)
        for i in np.argsort(-gain[out, new], kind="stable")[:most]:
            x, y = int(out[i]), int(new[i])
            rows = int(self.take.row[0, y]), int(owner[0, x, y]), int(self.give.row[0, x])
            if len(set(rows)) == 3:
                steps = [(rows[0], y, -1), (rows[1], x, y), (rows[2], -1, x)]
                yield self._change(float(gain[x, y]), steps)

    def _best_replacements(self) -> tuple[Floats, Ints]:
        """Return the least costs of putting kind y in x's place (n, K, K), and their rows.

        n is 2, or 1 where every kind is on one row alone.
        """
        deltas, kinds = self._deltas, self.fleet.batch.kinds
        order = self._entries[np.argsort(deltas.entry_kind[self._entries], kind="stable")]
        of_kind = deltas.entry_kind[order]
        starts = np.flatnonzero(np.append(True, of_kind[1:] != of_kind[:-1]))
        present, segment = of_kind[starts], np.cumsum(np.isin(np.arange(len(order)), starts)) - 1
        block, rows = deltas.sub[order], deltas.entry_row[order]
        ranks = 1 if len(starts) == len(order) else 2
        cost, owner = np.full((ranks, kinds, kinds), np.inf), np.full((ranks, kinds, kinds), -1)
        for rank in range(ranks):
            least = np.minimum.reduceat(block, starts, axis=0)
            where = np.where(block <= least[segment], np.arange(len(order))[:, None], len(order))
            first = np.minimum.reduceat(where, starts, axis=0)
            cost[rank, present], owner[rank, present] = least, rows[first]
            block[first, np.arange(kinds)] = np.inf
        return cost, owner

    def _change(self, gain: float, steps: list[tuple[int, int, int]]) -> Change:
        """Return the change of steps (row, kind out or -1, kind in or -1), row -1 the bench."""
        sources, targets = [], []
        for row, out, new in steps:
            if row < 0:
                continue
            t, group = self.fleet.states[row]
            members = list(group)
            if out >= 0:
                members.remove(out)
            if new >= 0:
                members.append(new)
            sources.append(row)
            targets.append((t, tuple(sorted(members))))
        return Change(gain, tuple(sources), tuple(targets))


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
