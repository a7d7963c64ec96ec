"""Columns: groups with their VM type and cost, and the prices that they are held against."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from placer.solvers.batch import Batch
from placer.solvers.group_costs import GroupCosts
from placer.solvers.run import Assignment, State, rows_of, state_costs

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CELLS = 20_000_000
"""Group x kind cells worked on at once, to bound memory."""


@dataclass(frozen=True)
class Columns:
    """n groups: vm_type (n,), groups (n, width) padded with -1, cost (n,)."""

    vm_type: NDArray[np.int32]
    groups: NDArray[np.int32]
    cost: Floats

    def __len__(self) -> int:
        return len(self.cost)

    def take(self, rows: NDArray[np.int_] | NDArray[np.bool_]) -> Columns:
        """Return the columns at `rows`."""
        return Columns(self.vm_type[rows], self.groups[rows], self.cost[rows])

    def states(self) -> list[State]:
        """Return each column as a state."""
        return [
            (t, tuple(k for k in row if k >= 0))
            for t, row in zip(self.vm_type.tolist(), self.groups.tolist(), strict=True)
        ]


def no_columns() -> Columns:
    """Return zero columns."""
    return Columns(np.zeros(0, np.int32), np.full((0, 1), -1, np.int32), np.zeros(0))


def join(parts: Sequence[Columns]) -> Columns:
    """Return the columns of all `parts`, in order."""
    if not parts:
        return no_columns()
    width = max(part.groups.shape[1] for part in parts)
    padded = [
        np.pad(p.groups, ((0, 0), (0, width - p.groups.shape[1])), constant_values=-1)
        for p in parts
    ]
    return Columns(
        np.concatenate([p.vm_type for p in parts]),
        np.concatenate(padded),
        np.concatenate([p.cost for p in parts]),
    )


def distinct_columns(columns: Columns) -> Columns:
    """Return each of `columns` once."""
    if len(columns) == 0:
        return columns
    rows = np.column_stack([columns.vm_type, columns.groups])
    _, first = np.unique(rows, axis=0, return_index=True)
    return columns.take(np.sort(first))


def columns_of(costs: GroupCosts, states: Sequence[State]) -> Columns:
    """Return `states` as columns, leaving out those whose group may not be formed."""
    if not states:
        return no_columns()
    cost = state_costs(costs, list(states))
    columns = Columns(
        np.array([t for t, _ in states], dtype=np.int32),
        rows_of([group for _, group in states]),
        cost,
    )
    return columns.take(np.isfinite(cost))


def including(costs: GroupCosts, columns: Columns, states: Iterable[State]) -> Columns:
    """Return `columns`, each once, and those of `states`."""
    every = list(dict.fromkeys([*columns.states(), *states]))
    return columns if len(every) == len(columns) else columns_of(costs, every)


def numbers_of_vms(vm_type: NDArray[np.int32], values: Floats | Ints, types: int) -> Floats:
    """Return how many VMs of each type, and in all, `values` of columns (n,) use (T + 1,)."""
    used = np.bincount(vm_type, weights=values, minlength=types)
    return np.append(used, used.sum())


def holds_two(groups: NDArray[np.int32], triples: Ints) -> NDArray[np.bool_]:
    """Return whether each group holds two or more of the kinds of each triple (n, M)."""
    result = np.zeros((len(groups), len(triples)), dtype=bool)
    if not len(triples) or not len(groups):
        return result
    kinds = int(max(groups.max(), triples.max())) + 1
    step = max(1, CELLS // (kinds + len(triples)))
    for begin in range(0, len(groups), step):
        part = groups[begin : begin + step]
        member = np.zeros((len(part), kinds + 1), dtype=np.int8)
        member[np.arange(len(part))[:, None], part] = 1
        member[:, kinds] = 0
        held = sum(member[:, column] for column in triples.T)
        result[begin : begin + step] = held >= 2
    return result


@dataclass(frozen=True)
class Prices:
    """What the master's duals say a group is worth: duals of its rows, with the signs they need.

    kind (K,): worth of covering one replica. vm_type (T,): worth (at most 0) of the scarce VM.
    together (number of rules,): worth of a VM that holds a rule. constant: what the bound is
    when no group has a negative reduced cost. triples (M, 3), cut (M,): kinds of subset-row cuts,
    and what a group is worth (at most 0) that holds two or more of them.
    """

    kind: Floats
    vm_type: Floats
    together: Floats
    constant: float
    triples: Ints = field(default_factory=lambda: np.zeros((0, 3), dtype=np.int64))
    cut: Floats = field(default_factory=lambda: np.zeros(0))

    def worth(self, columns: Columns) -> Floats:
        """Return what each group is worth (n,), together rules left out."""
        members = np.append(self.kind, 0.0)[columns.groups].sum(axis=1)
        result: Floats = members + self.vm_type[columns.vm_type]
        if len(self.cut):
            result += holds_two(columns.groups, self.triples) @ self.cut
        return result

    def bound(self, batch: Batch, least: Floats) -> float:
        """Return the lower bound (Lagrange) at the least reduced cost of each VM type (T,)."""
        slack = np.minimum(least, 0.0) * batch.vms_possible()
        return self.constant + float(slack.sum())


class TogetherIndex:
    """Which groups hold which together rules."""

    def __init__(self, batch: Batch) -> None:
        self.rules = batch.together

    def held(self, groups: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Return whether each group holds each rule (n, number of rules)."""
        result = np.ones((len(groups), len(self.rules)), dtype=bool)
        for r, rule in enumerate(self.rules):
            for kind in np.flatnonzero(rule):
                result[:, r] &= (groups == kind).sum(axis=1) >= rule[kind]
        return result


def reduced_costs(columns: Columns, prices: Prices, together: TogetherIndex) -> Floats:
    """Return what each group costs beyond what it is worth (n,)."""
    held: Floats = together.held(columns.groups) @ prices.together
    return columns.cost - prices.worth(columns) - held


def assignment_of(columns: Columns, counts: Ints) -> Assignment:
    """Return the assignment in which column i is used counts[i] times."""
    used = np.flatnonzero(counts > 0)
    result: dict[State, int] = {}
    for state, count in zip(columns.take(used).states(), counts[used].tolist(), strict=True):
        result[state] = result.get(state, 0) + count
    return result
