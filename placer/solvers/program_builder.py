"""Builds an integer program piece by piece, each piece as arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from placer.solvers.integer_program import IntegerProgram

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class ProgramBuilder:
    """Variables and rows in the order in which they were added."""

    def __init__(self) -> None:
        self.variables = 0
        self._rows = 0
        self._cost: list[Floats] = []
        self._upper: list[Floats] = []
        self._entries: list[tuple[Ints, Ints, Floats]] = []
        self._limits: list[tuple[Floats, Floats]] = []

    def add_variables(self, cost: ArrayLike, upper: float | Floats = 1.0) -> Ints:
        """Add variables, 0-1 unless `upper` says more; return their numbers, shaped as `cost`."""
        costs = np.asarray(cost, dtype=float)
        numbers = self.variables + np.arange(costs.size, dtype=np.int64).reshape(costs.shape)
        self.variables += costs.size
        self._cost.append(costs.reshape(-1))
        self._upper.append(np.broadcast_to(upper, costs.shape).reshape(-1).astype(float))
        return numbers

    def add_rows(
        self,
        variables: Ints,
        coefficients: ArrayLike,
        lower: ArrayLike = -np.inf,
        upper: ArrayLike = np.inf,
    ) -> None:
        """Add a row for each line of `variables` (m, width), -1 where a line has fewer terms.

        coefficients broadcast to (m, width), lower and upper to (m,).
        """
        m = len(variables)
        values = np.broadcast_to(np.asarray(coefficients, dtype=float), variables.shape)
        there = (variables >= 0) & (values != 0)
        row = np.broadcast_to(self._rows + np.arange(m)[:, None], variables.shape)
        self._entries.append((row[there], variables[there], values[there]))
        low, high = (np.broadcast_to(np.asarray(x, dtype=float), (m,)) for x in (lower, upper))
        self._limits.append((low, high))
        self._rows += m

    def build(self, start: Floats | None = None) -> IntegerProgram:
        """Return the program, to be begun from `start` (variables,) where there is one."""
        from scipy.sparse import coo_array

        row = np.concatenate([np.zeros(0, dtype=np.int64), *(e[0] for e in self._entries)])
        column = np.concatenate([np.zeros(0, dtype=np.int64), *(e[1] for e in self._entries)])
        value = _joined([e[2] for e in self._entries])
        shape = (self._rows, self.variables)
        matrix = coo_array((value, (row, column)), shape=shape)
        return IntegerProgram(
            cost=_joined(self._cost),
            upper=_joined(self._upper),
            matrix=matrix.tocsr(),
            row_lower=_joined([low for low, _ in self._limits]),
            row_upper=_joined([high for _, high in self._limits]),
            start=start,
        )


def _joined(parts: list[Floats]) -> Floats:
    return np.concatenate([np.zeros(0), *parts])
