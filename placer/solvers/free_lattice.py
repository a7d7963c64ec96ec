"""The lattice of the columns that are free near a linear point, and points of it near that one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lu_factor, lu_solve, qr

from placer.solvers.characters import Characters, characters_of, vanishing
from placer.solvers.congruences import Congruences
from placer.solvers.group_relaxation import cheapest_sum
from placer.solvers.linear_points import Equalities
from placer.solvers.run import Run

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FREE = 0.3
"""From which value on a column counts as free."""

MOST_REST = 150
"""The most free columns beyond a basis: those of the largest values."""

SMALLEST = 0.5
"""Columns of smaller values are told from 0 as badly as those of this one."""

DEPENDENT = 1e-9
"""Relative to the largest pivot: columns with smaller ones are no basis."""

STEPS = 300
"""Moves along short vectors from one point."""

DEEP = 1e3
"""What a value of -1 costs, relative to the dearest column, while a point is mended."""


@dataclass(frozen=True)
class FreeLattice:
    """What the free columns near `place` (n,) add up to.

    first (m,), rest (q,): free columns that are a basis, and the others. shift (m, q): by how much
    fewer of the first there are with one more of each of the rest. others (p,): columns that are
    not free. whole: the characters of the basis; group: those of all free columns. near: which
    numbers of the rest leave whole numbers of the first.
    """

    equal: Equalities
    place: Floats
    first: Ints
    rest: Ints
    others: Ints
    shift: Floats
    whole: Characters
    group: Characters
    near: Congruences

    @classmethod
    def of(
        cls, equal: Equalities, place: Floats, far: float, rng: np.random.Generator
    ) -> FreeLattice | None:
        """Return the lattice at `place`, None where the free columns span too little.

        Columns whose values are above `far` are as free as can be. Raises ArithmeticError where
        floating point does not tell them apart.
        """
        free = np.flatnonzero(place > FREE)
        if len(free) > len(equal.right) + MOST_REST:
            free = np.sort(np.argsort(-place)[: len(equal.right) + MOST_REST])
        split = basis_of(equal.whole(free).astype(float), np.minimum(place[free], far))
        if split is None:
            return None
        first, rest = free[split[0]], free[split[1]]
        basis, further = equal.whole(first), equal.whole(rest)
        whole = characters_of(basis, rng)
        if whole is None:
            return None
        shift = np.linalg.solve(basis.astype(float), further.astype(float))
        weight = importance(place[np.append(first, rest)])
        metric = np.hstack([-shift.T, np.eye(len(rest))]) * weight
        near = Congruences(metric, whole.values(further), whole.orders)
        others = np.setdiff1d(np.arange(len(place)), free)
        group = vanishing(whole, further)
        return cls(equal, place, first, rest, others, shift, whole, group, near)

    def others_needed(self, run: Run, cost: Floats) -> Ints | None:
        """Return other columns that leave something in the lattice, at the least cost (n,) found.

        None where there are none, or none were found.
        """
        right = self.equal.right.astype(np.int64)
        lacking = np.array(self.group.of_one(right), dtype=np.int64)
        codes = self.group.values(self.equal.whole(self.others)).astype(np.int64)
        kinds = np.unique(codes, axis=1, return_index=True)[1]
        if any(vanishing(self.group, self.equal.whole(self.others[kinds])).of_one(right)):
            return None
        chosen = cheapest_sum(run, self.group.orders, codes, cost[self.others], lacking)
        return None if chosen is None else self.others[chosen]

    def points(
        self, others: Ints, reduced: Floats, tries: int, rng: np.random.Generator
    ) -> Iterator[Ints]:
        """Yield points (n,) with these `others`, none below 0, from so many near ones.

        They are mended where values are below 0, and made cheaper, by moves along short vectors.
        """
        right = self.equal.right.astype(np.int64) - self.equal.whole(others).sum(axis=1)
        basis, further = self.equal.whole(self.first), self.equal.whole(self.rest)
        point = self.near.point(self.whole.of_one(right))
        if point is None:
            return
        free, moves = np.append(self.first, self.rest), self._moves()
        factors = lu_factor(basis.astype(float))
        start = lu_solve(factors, right.astype(float))
        away = self.place[free] - np.append(start, np.zeros(len(self.rest)))
        aim = away * importance(self.place[free])
        point = self.near.near(point, aim)
        for number in range(tries):
            rest = (self.near.near(point, aim, rng) if number else point).astype(np.int64)
            left = right - further @ rest
            first = np.rint(lu_solve(factors, left.astype(float))).astype(np.int64)
            if not np.array_equal(basis @ first, left):
                continue
            values = mended(np.append(first, rest), moves, reduced[free])
            if values.min(initial=0) >= 0:
                result = np.zeros(len(self.place), dtype=np.int64)
                np.add.at(result, others, 1)
                result[free] += values
                yield result

    def _moves(self) -> Ints:
        """Return short changes of the free columns that add up to nothing, both ways."""
        rest = self.near.basis
        first = -np.rint(rest @ self.shift.T).astype(np.int64)
        both = np.hstack([first, rest])
        return np.vstack([both, -both])


def importance(place: Floats) -> Floats:
    """Return how much it matters that columns stay at these values: the smaller they are, more."""
    result: Floats = 1.0 / np.maximum(place, SMALLEST)
    return result


def mended(values: Ints, moves: Ints, cost: Floats) -> Ints:
    """Return `values` after moves that make up for values below 0, or lower the cost."""
    price = DEEP * max(1e-9, float(cost.max(initial=0.0)))
    change = moves @ cost
    now = price * -np.minimum(values, 0).sum()
    for _ in range(STEPS):
        after = -price * np.minimum(values + moves, 0).sum(axis=1) + change
        best = int(after.argmin()) if len(after) else 0
        if not len(after) or after[best] >= now - 1e-9 * price / DEEP:
            break
        values = values + moves[best]
        now = after[best] - change[best]
    return values


def basis_of(columns: Floats, weight: Floats) -> tuple[Ints, Ints] | None:
    """Return which of `columns` (m, n) are a basis, and which are left; None where none are.

    Columns of a large weight (n,) come first.
    """
    m, n = columns.shape
    if n < m:
        return None
    _, triangle, order = qr(columns * weight, mode="economic", pivoting=True)
    diagonal = np.abs(np.diag(triangle))
    if diagonal.min(initial=np.inf) <= DEPENDENT * diagonal.max(initial=0.0):
        return None
    return order[:m].astype(np.int64), order[m:].astype(np.int64)
