"""The linear relaxation of an integer program: its optimum, and points far from all limits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import csc_array, csr_array, eye_array, hstack, vstack

from placer.solvers.integer_program import IntegerProgram

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NOTHING = 1e-9
"""Relative to the largest cost: reduced costs below are 0."""


@dataclass(frozen=True)
class Equalities:
    """Minimise cost @ x with matrix @ x == right, 0 <= x <= upper; all of them whole numbers.

    The first columns are a program's own, the rest is what its rows leave of their limits.
    """

    matrix: csc_array
    right: Floats
    cost: Floats
    upper: Floats

    @classmethod
    def of(cls, program: IntegerProgram) -> Equalities | None:
        """Return `program` with equalities, None where its rows do not have whole numbers."""
        lower, upper = program.row_lower, program.row_upper
        right = np.where(np.isfinite(upper), upper, lower)
        numbers = np.concatenate([program.matrix.data, right])
        if not np.isfinite(numbers).all() or (numbers != np.rint(numbers)).any():
            return None
        loose = np.flatnonzero(lower < upper)
        sign = np.where(np.isfinite(upper[loose]), 1.0, -1.0)
        left = csc_array((sign, (loose, np.arange(len(loose)))), shape=(len(right), len(loose)))
        matrix = hstack([program.matrix.tocsc(), left]).tocsc()
        room = np.concatenate([program.upper, upper[loose] - lower[loose]])
        room[room >= implied_limits(matrix, right)] = np.inf
        return cls(matrix, right, np.append(program.cost, np.zeros(len(loose))), room)

    def whole(self, columns: Ints) -> Ints:
        """Return what these columns are in whole numbers (m, k)."""
        result: Ints = np.rint(self.matrix[:, columns].toarray()).astype(np.int64)
        return result

    def take(self, columns: Ints) -> Equalities:
        """Return the same with these columns alone."""
        kept = self.matrix[:, columns]
        return Equalities(kept, self.right, self.cost[columns], self.upper[columns])

    def limits(self) -> Floats:
        """Return the lower and the upper limit of each column (n, 2)."""
        return np.column_stack([np.zeros(len(self.upper)), self.upper])


def implied_limits(matrix: csc_array, right: Floats) -> Floats:
    """Return how large a whole number each column (n,) can be, by rows without negatives."""
    entries = matrix.tocoo()
    row, column = entries.coords
    below = np.zeros(len(right), dtype=bool)
    below[row[entries.data < 0]] = True
    sure = ~below[row]
    result: Floats = np.full(matrix.shape[1], np.inf)
    np.minimum.at(result, column[sure], np.floor(right[row[sure]] / entries.data[sure]))
    return result


def cheapest_alike(equal: Equalities) -> Ints:
    """Return one of all columns that are alike but for the cost, the cheapest, in order."""
    order = np.argsort(equal.cost, kind="stable")
    _, first = np.unique(equal.matrix[:, order].toarray(), axis=1, return_index=True)
    return np.sort(order[first])


def within(seconds: float) -> dict[str, float]:
    """Return what tells a linear program how long it may take."""
    return {"time_limit": max(0.01, seconds)} if np.isfinite(seconds) else {}


def reduced_costs(equal: Equalities, seconds: float) -> Floats | None:
    """Return the reduced costs (n,) at the linear optimum, None where there is none in time.

    Columns at upper limits that hold by themselves, which gain something there, cost nothing.
    """
    solved = linprog(
        equal.cost,
        A_eq=equal.matrix,
        b_eq=equal.right,
        bounds=equal.limits(),
        method="highs",
        options=within(seconds),
    )
    if solved.status != 0:
        return None
    reduced: Floats = np.maximum(equal.cost - equal.matrix.T @ solved.eqlin.marginals, 0.0)
    reduced[reduced < NOTHING * np.abs(equal.cost).max(initial=0.0)] = 0.0
    return reduced


def interior_point(
    equal: Equalities, reduced: Floats, far: float, dearer: float, seconds: float
) -> Floats | None:
    """Return a linear solution (n,) with as much as possible of each column up to `far`.

    It is dearer than the optimum, by reduced costs, by at most `dearer`. None where there is none
    in time.
    """
    n, m = len(reduced), len(equal.right)
    some = np.flatnonzero(reduced <= dearer)
    k = len(some)
    chosen = csr_array((np.ones(k), (np.arange(k), some)), shape=(k, n))
    rows = vstack(
        [
            hstack([-chosen, eye_array(k)]),
            hstack([csr_array(reduced[None, :]), csr_array((1, k))]),
        ]
    )
    limits = equal.limits()
    limits[reduced > dearer] = 0.0
    solved = linprog(
        np.append(np.zeros(n), -np.ones(k)),
        A_ub=rows.tocsr(),
        b_ub=np.append(np.zeros(k), max(dearer, NOTHING)),
        A_eq=hstack([equal.matrix, csr_array((m, k))]).tocsr(),
        b_eq=equal.right,
        bounds=np.vstack([limits, np.tile([0.0, far], (k, 1))]),
        method="highs",
        options=within(seconds),
    )
    return solved.x[:n] if solved.status == 0 else None
