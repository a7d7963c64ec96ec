"""What moving, swapping and replacing single replicas gains: local search looks through this.

A change turns one VM of each of some contents (`sources`) into VMs of other contents (`targets`),
as many times as there are such VMs. What adding, removing or replacing one replica does to the
cost of a content never changes, so it is worked out once for each content and kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from placer.interference.tables import Floats, Groups
from placer.problem import TOLERANCE
from placer.solvers.fleet import SLACK, Fleet, Ints, sort_padded
from placer.solvers.run import State

CELLS = 4_000_000
"""Content x kind cells worked on at once, to bound memory."""

CELLS_A_ROW = 100
"""Cells looked through in the time that the cost of one group takes to work out."""


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
        if ranks == 1:
            cost[0, present], owner[0, present] = block, rows[:, None]
            return cost, owner
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
