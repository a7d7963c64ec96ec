"""The master: choose how many VMs of each type hold each group.

Minimise the cost of the groups used, cover each kind's replicas exactly (or leave them out at
their penalty), keep each type's count, the limits on VMs and price, and give each together rule
its VM. After the set-partitioning formulation of bin packing (Gilmore and Gomory 1961).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from placer.problem import TOLERANCE
from placer.solvers.batch import UNLIMITED, Batch
from placer.solvers.columns import Columns, Prices, TogetherIndex, assignment_of
from placer.solvers.integer_program import Backend, IntegerProgram, IntegerResult, moved
from placer.solvers.run import Assignment, Run, holds

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Entries:
    """The non-zeros of a part of the matrix: row, column and value, each (nnz,)."""

    row: Ints
    column: Ints
    value: Floats


class Rows:
    """The master's rows and its variables other than groups, for one batch.

    Rows: one a kind with replicas, one a scarce VM type, max_vms and max_price where given, one
    a together rule, and one for each kind of a rule that may go unplaced. With `counts`, between
    which the numbers of VMs by type and in all must be (T + 1,), one for each of these. Variables:
    unplaced replicas of each kind where that is allowed (integer), and whether a rule is in force
    (0-1).
    """

    def __init__(self, batch: Batch, counts: tuple[Floats, Floats] | None = None) -> None:
        self.batch, self.counted = batch, counts is not None
        any_number = np.zeros(batch.types + 1), np.full(batch.types + 1, np.inf)
        self.counts = any_number if counts is None else counts
        possible = batch.vms_possible()
        self.kinds = np.flatnonzero(batch.replicas > 0)
        self._kind_row = np.full(batch.kinds + 1, -1, dtype=np.int64)
        self._kind_row[self.kinds] = np.arange(len(self.kinds))
        scarce = np.flatnonzero(batch.count < batch.total_replicas)
        self._type_row = np.full(batch.types, -1, dtype=np.int64)
        self._type_row[scarce] = len(self.kinds) + np.arange(len(scarce))
        self.scarce = scarce
        rows = len(self.kinds) + len(scarce)
        self._vms_row = self._price_row = -1
        if batch.max_vms < UNLIMITED:
            self._vms_row, rows = rows, rows + 1
        if np.isfinite(batch.max_price):
            self._price_row, rows = rows, rows + 1
        self._index = TogetherIndex(batch)
        self.together_row = rows + np.arange(len(batch.together))
        rows += len(batch.together)
        self._unplaced = batch.unplaced_cost
        self._link_row: dict[tuple[int, int], int] = {}
        for r, rule in enumerate(batch.together):
            for kind in np.flatnonzero(rule).tolist() if self._unplaced is not None else ():
                self._link_row[r, kind] = rows
                rows += 1
        self._counts_row = rows
        self.count = rows + (0 if counts is None else batch.types + 1)
        self.lower, self.upper = self._limits(possible)

    def _limits(self, possible: Ints) -> tuple[Floats, Floats]:
        batch = self.batch
        lower, upper = np.full(self.count, -np.inf), np.full(self.count, np.inf)
        covered = slice(0, len(self.kinds))
        lower[covered] = upper[covered] = batch.replicas[self.kinds]
        upper[self._type_row[self.scarce]] = batch.count[self.scarce]
        if self._vms_row >= 0:
            upper[self._vms_row] = batch.max_vms
        if self._price_row >= 0:
            upper[self._price_row] = batch.max_price + TOLERANCE
        for r, rule in enumerate(batch.together):
            optional = self._unplaced is not None
            needed = bool(batch.replicas[rule > 0].any())
            lower[self.together_row[r]] = 1.0 if needed and not optional else 0.0
        for (_, kind), row in self._link_row.items():
            lower[row] = batch.replicas[kind]
        if self.counted:
            fewest, most = self.counts
            lower[self._counts_row :] = np.where(fewest > 0, fewest, -np.inf)
            upper[self._counts_row :] = most
        return lower, upper

    def counting(self, lower: Floats | None = None, upper: Floats | None = None) -> Rows:
        """Return these rows and those that keep the numbers of VMs between these (T + 1,).

        Without limits they keep to those that there are, if any.
        """
        fewest, most = self.counts
        return Rows(
            self.batch, (fewest if lower is None else lower, most if upper is None else upper)
        )

    def group_entries(self, columns: Columns) -> Entries:
        """Return the matrix of group variables, one column a group."""
        n, width = columns.groups.shape
        number = np.repeat(np.arange(n), width)
        row = self._kind_row[columns.groups.reshape(-1)]
        member = row >= 0
        parts = [(row[member], number[member])]
        each = np.arange(n)
        type_row = self._type_row[columns.vm_type]
        parts.append((type_row[type_row >= 0], each[type_row >= 0]))
        if self._vms_row >= 0:
            parts.append((np.full(n, self._vms_row), each))
        if self.counted:
            parts.append((self._counts_row + columns.vm_type.astype(np.int64), each))
            parts.append((np.full(n, self.count - 1), each))
        held = self._index.held(columns.groups)
        for r in range(held.shape[1]):
            rows = each[held[:, r]]
            parts.append((np.full(len(rows), self.together_row[r]), rows))
        row = np.concatenate([p[0] for p in parts])
        column = np.concatenate([p[1] for p in parts])
        value = np.ones(len(row))
        if self._price_row >= 0:
            row = np.concatenate([row, np.full(n, self._price_row)])
            column = np.concatenate([column, each])
            value = np.concatenate([value, self.batch.price[columns.vm_type]])
        return Entries(row.astype(np.int64), column.astype(np.int64), value)

    def other_entries(self) -> tuple[Entries, Floats, Floats]:
        """Return the matrix, cost and upper limit of the variables that are no groups."""
        row: list[int] = []
        column: list[int] = []
        value: list[float] = []
        cost: list[float] = []
        upper: list[float] = []
        if self._unplaced is not None:
            for number, kind in enumerate(self.kinds):
                row.append(number)
                column.append(number)
                value.append(1.0)
                cost.append(float(self._unplaced[kind]))
                upper.append(float(self.batch.replicas[kind]))
            for r in range(len(self.batch.together)):
                row.append(int(self.together_row[r]))
                column.append(len(cost))
                value.append(-1.0)
                for (rule, member), link in self._link_row.items():
                    if rule == r and self._kind_row[member] >= 0:
                        row += [link, link]
                        column += [int(self._kind_row[member]), len(cost)]
                        value += [1.0, float(self.batch.replicas[member])]
                cost.append(0.0)
                upper.append(1.0)
        entries = Entries(
            np.array(row, dtype=np.int64), np.array(column, dtype=np.int64), np.array(value)
        )
        return entries, np.array(cost), np.array(upper)

    def group_upper(self, columns: Columns) -> Floats:
        """Return how often each group could be used at the most (n,)."""
        limit = self.batch.vms_possible()[columns.vm_type].astype(float)
        replicas = np.append(self.batch.replicas, UNLIMITED)
        for member in columns.groups.T:
            times = (columns.groups == member[:, None]).sum(axis=1)
            share = replicas[member] // np.maximum(times, 1)
            limit = np.where(member >= 0, np.minimum(limit, share), limit)
        return limit

    def prices(self, duals: Floats) -> Prices:
        """Return what `duals` (rows,) say, each clipped to the sign that makes the bound valid."""
        batch = self.batch
        duals = duals.copy()
        at_most = ~np.isfinite(self.lower)
        at_least = ~np.isfinite(self.upper)
        duals[at_most] = np.minimum(duals[at_most], 0.0)
        duals[at_least] = np.maximum(duals[at_least], 0.0)
        kind = np.zeros(batch.kinds)
        kind[self.kinds] = duals[: len(self.kinds)]
        vm_type = np.zeros(batch.types)
        vm_type[self.scarce] = duals[self._type_row[self.scarce]]
        if self._vms_row >= 0:
            vm_type += duals[self._vms_row]
        if self._price_row >= 0:
            vm_type += duals[self._price_row] * batch.price
        if self.counted:
            vm_type += duals[self._counts_row : -1] + duals[-1]
        limit = np.where(duals > 0, self.lower, np.where(duals < 0, self.upper, 0.0))
        entries, cost, upper = self.other_entries()
        reduced = cost.copy()
        np.subtract.at(reduced, entries.column, entries.value * duals[entries.row])
        constant = float(duals @ limit) + float(np.minimum(reduced, 0.0) @ upper)
        return Prices(kind, vm_type, duals[self.together_row], constant)


def integer_master(rows: Rows, columns: Columns, start: Assignment | None = None) -> IntegerProgram:
    """Return the master over `columns` as an integer program, groups first."""
    from scipy.sparse import coo_array

    groups = rows.group_entries(columns)
    others, cost, upper = rows.other_entries()
    n = len(columns)
    matrix = coo_array(
        (
            np.concatenate([groups.value, others.value]),
            (
                np.concatenate([groups.row, others.row]),
                np.concatenate([groups.column, others.column + n]),
            ),
        ),
        shape=(rows.count, n + len(cost)),
    ).tocsr()
    return IntegerProgram(
        cost=np.concatenate([columns.cost, cost]),
        upper=np.concatenate([rows.group_upper(columns), upper]),
        matrix=matrix,
        row_lower=rows.lower,
        row_upper=rows.upper,
        start=None if start is None else _start_values(rows, columns, start, len(cost)),
    )


def solve_and_offer(
    backend: Backend,
    program: IntegerProgram,
    run: Run,
    columns: Columns,
    settled: Ints | None = None,
    improved: Callable[[], None] | None = None,
) -> IntegerResult:
    """Solve `program`, a master over `columns`, and offer what it finds.

    With `settled` (n,) it is solved in terms of how many more VMs there are of each column than
    that, and so is the result. `improved` is called after each better placement.
    """
    n = len(columns)
    known = np.zeros(n, dtype=np.int64) if settled is None else settled
    if settled is not None:
        program = moved(program, np.append(settled, np.zeros(len(program.cost) - n, np.int64)))

    def offer(values: Ints) -> None:
        if run.offer(assignment_of(columns, known + values[:n])) and improved is not None:
            improved()

    result = backend(program, run, offer)
    if result.values is not None:
        offer(result.values)
    return result


def _start_values(rows: Rows, columns: Columns, start: Assignment, others: int) -> Floats | None:
    """Return `start` as values of the master's variables, None where a group is lacking."""
    number = {state: i for i, state in enumerate(columns.states())}
    values = np.zeros(len(columns) + others)
    missing = rows.batch.replicas.astype(float)
    for state, count in start.items():
        if state not in number:
            return None
        values[number[state]] = count
        for kind in state[1]:
            missing[kind] -= count
    if others:
        kinds = len(rows.kinds)
        values[len(columns) : len(columns) + kinds] = missing[rows.kinds]
        for r, rule in enumerate(rows.batch.together):
            values[len(columns) + kinds + r] = any(holds(group, rule) for _, group in start)
    return values
