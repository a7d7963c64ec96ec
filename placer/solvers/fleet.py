"""The working state of the heuristics: how many VMs hold each content, and what is left to place.

VMs of the same type and content are counted, not listed, so that a batch of a million replicas
costs what its distinct contents cost. Contents are rows of arrays; row `t` is the empty VM of
type `t`, of which `available(t)` may still be opened.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from placer.interference.tables import Floats, Groups
from placer.problem import TOLERANCE
from placer.solvers.batch import UNLIMITED, Batch
from placer.solvers.group_costs import GroupCosts
from placer.solvers.run import Assignment, State, holds, rows_of

Ints = NDArray[np.int64]

SLACK = 1e-9
"""What sums of demands kept from move to move may be off; the costs themselves decide."""

CALL_ROWS = 100
"""Rows that one call takes as long as, whatever it asks for."""

MEMO_LIMIT = 2_000_000
"""Costs remembered before the memory is emptied."""


class CostMemo:
    """Group costs in batches, remembered where a predictor makes them dear.

    `rows` counts the rows asked for, a call as CALL_ROWS more: a measure of work that, unlike
    time, repeats exactly.
    """

    def __init__(self, costs: GroupCosts) -> None:
        self._costs = costs
        self._known: dict[tuple[int, bytes], float] | None = (
            {} if costs.batch.instance.interference.kind == "predictor" else None
        )
        self.rows = 0

    def cost(self, t: int, groups: Groups) -> Floats:
        """Return the cost (n,) of sorted, padded `groups` (n, width) on VM type `t`."""
        self.rows += CALL_ROWS + len(groups)
        degrees = (groups >= 0).sum(axis=1)
        groups = groups[:, : max(1, int(degrees.max(initial=0)))]
        if self._known is None:
            result = self._costs.cost(t, groups)
        else:
            result = self._remembered(t, np.ascontiguousarray(groups), degrees, self._known)
        result[degrees == 0] = 0.0  # a VM that holds nothing is not in use
        return result

    def _remembered(
        self, t: int, groups: Groups, degrees: Ints, known: dict[tuple[int, bytes], float]
    ) -> Floats:
        keys = [(t, row[:d].tobytes()) for row, d in zip(groups, degrees, strict=True)]
        fresh = {key: i for i, key in enumerate(keys) if key not in known}
        if len(known) + len(fresh) > MEMO_LIMIT:
            known.clear()
            fresh = {key: i for i, key in enumerate(keys)}
        if fresh:
            costs = self._costs.cost(t, groups[list(fresh.values())])
            known.update(zip(fresh, costs.tolist(), strict=True))
        return np.array([known[key] for key in keys])


def extended(groups: Groups, unit: Sequence[int]) -> Groups:
    """Return sorted, padded `groups` (n, width) with the kinds of `unit` added to each."""
    added = np.broadcast_to(np.array(unit, dtype=np.int32), (len(groups), len(unit)))
    return sort_padded(np.concatenate([groups, added], axis=1))


def sort_padded(groups: Groups) -> Groups:
    """Return `groups` with each row ascending and its padding behind."""
    top = np.iinfo(np.int32).max
    rows = np.where(groups < 0, top, groups)
    rows.sort(axis=1)
    rows[rows == top] = -1
    return rows.astype(np.int32, copy=False)


class Fleet:
    """VMs in use by content, replicas left to place (K,), and the limits over several VMs."""

    def __init__(self, batch: Batch, memo: CostMemo) -> None:
        self.batch = batch
        self.memo = memo
        self.remaining = batch.replicas.copy()
        self.in_use = np.zeros(batch.types, dtype=np.int64)
        self.states: list[State] = []
        self.index: dict[State, int] = {}
        resources = batch.demand.shape[2]
        self._groups = np.full((64, 4), -1, dtype=np.int32)
        self._type = np.zeros(64, dtype=np.int64)
        self._degree = np.zeros(64, dtype=np.int64)
        self._count = np.zeros(64, dtype=np.int64)
        self._cost = np.zeros(64)
        self._used = np.zeros((64, resources))
        self._holds = np.zeros((64, len(batch.together)), dtype=bool)
        for t in range(batch.types):
            self.row((t, ()), 0.0)

    # Rows, all of length (S,) or (S, ...)

    @property
    def size(self) -> int:
        """How many rows there are, those of empty VMs and of contents no longer used included."""
        return len(self.states)

    @property
    def groups(self) -> Groups:
        """The kinds of each row, padded with -1 (S, width)."""
        return self._groups[: self.size]

    @property
    def type_of(self) -> Ints:
        """The VM type of each row (S,)."""
        return self._type[: self.size]

    @property
    def degree(self) -> Ints:
        """The replicas on one VM of each row (S,)."""
        return self._degree[: self.size]

    @property
    def count(self) -> Ints:
        """The VMs in use of each row (S,), 0 for empty VMs."""
        return self._count[: self.size]

    @property
    def cost(self) -> Floats:
        """The cost of one VM of each row (S,)."""
        return self._cost[: self.size]

    @property
    def used(self) -> Floats:
        """The resources taken on one VM of each row (S, R)."""
        return self._used[: self.size]

    def row(self, state: State, cost: float) -> int:
        """Return the row of `state`, made on first use; `cost` is that of one such VM."""
        found = self.index.get(state)
        if found is not None:
            return found
        row, (t, group) = len(self.states), state
        self._make_room(row, len(group))
        self.states.append(state)
        self.index[state] = row
        self._groups[row, :] = -1
        self._groups[row, : len(group)] = group
        self._type[row], self._degree[row], self._count[row] = t, len(group), 0
        self._cost[row] = cost
        self._used[row] = self.batch.demand[t][list(group)].sum(axis=0)
        if self.batch.together:
            self._holds[row] = [bool(group) and holds(group, r) for r in self.batch.together]
        return row

    def rows(self, states: Sequence[State]) -> Ints:
        """Return the rows of `states`, the costs of those not yet known asked for in one batch."""
        fresh = list(dict.fromkeys(s for s in states if s not in self.index))
        costs = self.costs_of(fresh)
        for state, cost in zip(fresh, costs.tolist(), strict=True):
            self.row(state, cost)
        return np.array([self.index[state] for state in states], dtype=np.int64)

    def costs_of(self, states: Sequence[State]) -> Floats:
        """Return the cost of one VM of each of `states` (n,)."""
        result = np.zeros(len(states))
        types = np.array([t for t, _ in states], dtype=np.int64)
        for t in np.unique(types):
            mine = np.flatnonzero(types == t)
            groups = [states[i][1] for i in mine.tolist()]
            result[mine] = self.memo.cost(int(t), rows_of(groups))
        return result

    def _make_room(self, row: int, degree: int) -> None:
        length, width = self._groups.shape
        if row >= length or degree > width:
            longer = 2 * row if row >= length else length
            shape = (longer, max(width, degree + degree // 2))
            groups = np.full(shape, -1, dtype=np.int32)
            groups[:length, :width] = self._groups
            self._groups = groups
        if row >= length:
            for name in ("_type", "_degree", "_count", "_cost", "_used", "_holds"):
                old = getattr(self, name)
                new = np.zeros((2 * row, *old.shape[1:]), dtype=old.dtype)
                new[:length] = old
                setattr(self, name, new)

    # Limits over several VMs

    def available(self, t: int) -> int:
        """Return how many more VMs of type `t` may be opened."""
        batch = self.batch
        free = min(int(batch.count[t] - self.in_use[t]), int(batch.max_vms - self.in_use.sum()))
        if free <= 0 or not np.isfinite(batch.max_price) or batch.price[t] <= 0:
            return max(0, free)
        left = batch.max_price + TOLERANCE - float(self.in_use @ batch.price)
        free = min(free, max(0, int(left / batch.price[t] + SLACK)))
        while free > 0 and not self.within_price(t, free):
            free -= 1
        return free

    def within_price(self, t: int, more: int) -> bool:
        """Return whether `more` VMs of type `t` keep the summed price within its limit."""
        in_use = self.in_use.copy()
        in_use[t] += more
        return bool(float(in_use @ self.batch.price) <= self.batch.max_price + TOLERANCE)

    def alive(self) -> Ints:
        """Return the rows of VMs in use."""
        return np.flatnonzero(self.count > 0)

    def hosts(self) -> Ints:
        """Return the rows that could take a replica: VMs in use, and empty VMs of types left."""
        empty = [t for t in range(self.batch.types) if self.available(t) > 0]
        return np.concatenate([np.array(empty, dtype=np.int64), self.alive()])

    def vms_of(self, row: int) -> int:
        """Return how many VMs of `row` there are: in use, or yet to be opened if it is empty."""
        return int(self._count[row]) if self._degree[row] else self.available(int(self._type[row]))

    # Growth

    def room(self, rows: Ints, unit: Sequence[int]) -> NDArray[np.bool_]:
        """Return which `rows` have capacity, degree and admission for `unit` (n,)."""
        batch, types = self.batch, self.type_of[rows]
        need = batch.demand[:, list(unit)].sum(axis=1)
        room = batch.capacity[types] + TOLERANCE + SLACK
        fits = np.asarray(np.all(self.used[rows] + need[types] <= room, axis=1))
        slots = self.degree[rows] + len(unit) <= batch.max_models[types]
        allowed = np.asarray(batch.allowed[:, list(unit)].all(axis=1))
        return np.asarray(fits & slots & allowed[types])

    def cost_with(self, rows: Ints, unit: Sequence[int]) -> Floats:
        """Return the cost of one VM of each of `rows` after `unit` is added (n,)."""
        result = np.full(len(rows), np.inf)
        fitting = np.flatnonzero(self.room(rows, unit))
        if not len(fitting):
            return result
        types = self.type_of[rows]
        width = int(self.degree[rows[fitting]].max())
        for t in np.unique(types[fitting]):
            mine = fitting[types[fitting] == t]
            groups = extended(self.groups[rows[mine], :width], unit)
            result[mine] = self.memo.cost(int(t), groups)
        return result

    def most(self, row: int, kind: int) -> int:
        """Return how many replicas of `kind` the capacity and degree of a VM of `row` can add."""
        batch, t = self.batch, int(self._type[row])
        limit = int(batch.max_models[t] - self._degree[row])
        need = batch.demand[t, kind]
        asked = need > 0
        if asked.any():
            free = batch.capacity[t][asked] + TOLERANCE + SLACK - self._used[row][asked]
            per_resource = np.minimum(free / need[asked], UNLIMITED)
            limit = min(limit, int(per_resource.min()))
        return max(0, limit)

    def chain(self, row: int, kind: int, first: int, last: int) -> Floats:
        """Return the costs of a VM of `row` with first, ..., last replicas of `kind` added."""
        t, degree = int(self._type[row]), int(self._degree[row])
        groups = np.full((last - first + 1, degree + last), -1, dtype=np.int32)
        groups[:, :degree] = self._groups[row, :degree]
        for i, added in enumerate(range(first, last + 1)):
            groups[i, degree : degree + added] = kind
        return self.memo.cost(t, sort_padded(groups))

    def grown(self, row: int, unit: Iterable[int]) -> State:
        """Return the content of a VM of `row` after `unit` is added."""
        t, group = self.states[row]
        return t, tuple(sorted((*group, *unit)))

    # Changes

    def shift(self, source: int, target: int, vms: int) -> None:
        """Turn `vms` VMs of row `source` into VMs of row `target`.

        Empty rows stand for VMs that are opened or closed; what a VM gains leaves `remaining`.
        """
        for row, sign in ((source, -1), (target, 1)):
            if self._degree[row]:
                self._count[row] += sign * vms
                self.in_use[self._type[row]] += sign * vms
        before, after = Counter(self.states[source][1]), Counter(self.states[target][1])
        for kind in before.keys() | after.keys():
            self.remaining[kind] += vms * (before[kind] - after[kind])

    def most_times(self, sources: Sequence[int], targets: Sequence[int]) -> int:
        """Return how often one VM of each of `sources` can become that of `targets`, by all limits.

        Limits are the VMs there are, counts, max_vms, max_price, replicas left and kept rules.
        """
        taken = Counter(row for row in sources if self._degree[row])
        times = min((int(self._count[row]) // n for row, n in taken.items()), default=UNLIMITED)
        change = np.zeros(self.batch.types, dtype=np.int64)
        for row, sign in [*((r, -1) for r in sources), *((r, 1) for r in targets)]:
            if self._degree[row]:
                change[self._type[row]] += sign
        needs = Counter(kind for row in targets for kind in self.states[row][1])
        needs.subtract(kind for row in sources for kind in self.states[row][1])
        for kind, need in needs.items():
            if need > 0:
                times = min(times, int(self.remaining[kind]) // need)
        times = min(times, self._times_within_limits(change))
        if times > 0 and self.breaks_together(sources, targets, times):
            times -= 1  # the last VM that keeps a rule stays
            if times > 0 and self.breaks_together(sources, targets, times):
                return 0
        return max(0, times)

    def _times_within_limits(self, change: Ints) -> int:
        """Return how often VMs may change by `change` (T,) within counts, max_vms and max_price."""
        batch, times = self.batch, UNLIMITED
        for t in np.flatnonzero(change > 0):
            times = min(times, int(batch.count[t] - self.in_use[t]) // int(change[t]))
        if change.sum() > 0:
            times = min(times, int(batch.max_vms - self.in_use.sum()) // int(change.sum()))
        dearer = float(change @ batch.price)
        if dearer > 0 and np.isfinite(batch.max_price):
            left = batch.max_price + TOLERANCE - float(self.in_use @ batch.price)
            times = min(times, int(left / dearer + SLACK))
            limit = batch.max_price + TOLERANCE
            while times > 0 and float((self.in_use + times * change) @ batch.price) > limit:
                times -= 1
        return times

    def snapshot(self) -> tuple[Ints, Ints, Ints]:
        """Return what `restore` needs to come back to the VMs in use now."""
        return self.count.copy(), self.in_use.copy(), self.remaining.copy()

    def restore(self, snapshot: tuple[Ints, Ints, Ints]) -> None:
        """Come back to the VMs in use when `snapshot` was taken."""
        count, self.in_use[:], self.remaining[:] = snapshot
        self._count[:] = 0
        self._count[: len(count)] = count

    def load(self, assignment: Assignment) -> None:
        """Take over the VMs of `assignment` in place of all those in use."""
        self._count[:] = 0
        self.in_use[:] = 0
        self.remaining[:] = self.batch.replicas
        states = [state for state, vms in assignment.items() if vms > 0 and state[1]]
        for row, state in zip(self.rows(states).tolist(), states, strict=True):
            self.shift(state[0], row, assignment[state])

    def assignment(self) -> dict[State, int]:
        """Return the VMs in use by content."""
        return {self.states[row]: int(self._count[row]) for row in self.alive().tolist()}

    def held(self) -> Ints:
        """Return how many VMs hold each together rule's models."""
        return np.asarray(self.count @ self._holds[: self.size], dtype=np.int64)

    def breaks_together(self, sources: Sequence[int], targets: Sequence[int], vms: int) -> bool:
        """Return whether turning VMs of `sources` into `targets` leaves a kept rule without VM."""
        if not self.batch.together:
            return False
        held = self.held()
        change = self._holds[list(targets)].sum(axis=0) - self._holds[list(sources)].sum(axis=0)
        return bool(((held > 0) & (held + vms * change <= 0)).any())

    def total(self) -> float:
        """Return the summed cost of the VMs in use, unplaced replicas not counted."""
        return float(self.cost @ self.count)
