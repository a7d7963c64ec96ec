"""Covers found by a beam search along the linear relaxation: each row by one column.

Rows are covered in a fixed order, those with the fewest promising columns first. Of all partial
covers up to a row those of the least loss go on, the sum of their columns' reduced costs: what
they are dearer than the linear optimum at the least (beam search, Ow and Morton 1988). Where a
branching search is lost in a gap of one per cent of a hundred rows, this looks at millions of
partial covers in a second; it proves nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import csr_array

from placer.solvers.compiled import may_compile
from placer.solvers.integer_program import IntegerProgram
from placer.solvers.run import Run

if TYPE_CHECKING:
    from placer.solvers.cover_kernel import Beam, Choices

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CELLS = 12_000_000
"""The most words of all partial covers that are kept at one time."""

LIMITS = 8
"""The most rows that limit a sum."""

PROMISING = 0.5
"""Which share of the columns count as promising, those of the least reduced costs."""

STIRRED = 0.15
"""How much the order of rows differs from try to try: standard deviation of a logarithm."""


@dataclass(frozen=True)
class Beams:
    """How many beams are sent, each along another order of rows, and how many covers each keeps."""

    tries: int
    width: int


NARROW, WIDE = Beams(1, 3_000), Beams(4, 20_000)
"""For one of many programs, of which more narrow beams come further than fewer wide ones; and for
one that is met once."""


class Covering:
    """A program whose rows each ask for one column, or limit a sum; and its linear optimum."""

    def __init__(
        self, program: IntegerProgram, limits: Ints, bound: float, reduced: Floats
    ) -> None:
        """`bound`, `reduced` (n,): the linear optimum, and reduced costs there.

        limits: the rows that limit a sum and that a cover could exceed.
        """
        self._program, self.bound, self._reduced = program, bound, reduced
        asked = np.isfinite(program.row_lower)
        matrix = csr_array(program.matrix)
        entries = matrix[asked].tocoo()
        self._row, self._column = entries.coords
        self._rows = int(asked.sum())
        self._use = np.ascontiguousarray(matrix[limits].toarray().T)
        self._limit = program.row_upper[limits]

    @staticmethod
    def of(program: IntegerProgram, run: Run) -> Covering | None:
        """Return the covering that a program is, None where it is another kind of program.

        None, too, where its linear relaxation is not solved in time.
        """
        from placer.solvers import cover_kernel

        asked = np.isfinite(program.row_lower)
        alike = (program.row_lower[asked] == 1.0) & (program.row_upper[asked] == 1.0)
        if not asked.any() or not alike.all() or program.continuous is not None:
            return None
        data = csr_array(program.matrix)
        if data.data.min(initial=0.0) < 0.0 or (data[asked].data != 1.0).any():
            return None
        limits = np.flatnonzero(~asked)[_binding(program, asked)]
        if len(limits) > LIMITS:
            return None
        if run.should_stop() or not may_compile(run, cover_kernel.cover_row):
            return None
        left = run.time_left()
        solved = linprog(
            program.cost,
            A_eq=data[asked],
            b_eq=program.row_upper[asked],
            A_ub=data[~asked],
            b_ub=program.row_upper[~asked],
            method="highs",
            options={"time_limit": max(0.01, left)} if math.isfinite(left) else {},
        )
        if solved.status != 0:
            return None
        duals = np.zeros(len(asked))
        duals[asked], duals[~asked] = solved.eqlin.marginals, solved.ineqlin.marginals
        return Covering(program, limits, float(solved.fun), program.cost - data.T @ duals)

    def search(self, run: Run, below: float, beams: Beams, rng: np.random.Generator) -> Ints | None:
        """Return the columns (n,) of the cheapest cover found that costs less than `below`.

        The first beam goes along the order of rows that promises most.
        """
        found: Ints | None = None
        for x in range(beams.tries):
            if run.should_stop():
                break
            noise = STIRRED * rng.normal(size=self._rows) * (x > 0)
            better = self._tried(run, np.exp(noise), below, beams.width)
            if better is not None and self._program.cost @ better < below:
                found, below = better, float(self._program.cost @ better)
        return found

    def _tried(self, run: Run, stirred: Floats, below: float, width: int) -> Ints | None:
        """Return the cheapest cover found with one order of rows, None where there is none."""
        from placer.solvers import cover_kernel as kernel

        place = np.empty(self._rows, np.int64)
        place[np.argsort(self._options() * stirred, kind="stable")] = np.arange(self._rows)
        choices, order = self._choices(place)
        words = choices.rows.shape[1]
        width = max(1, min(width, CELLS // ((self._rows + 1) * words)))
        shape = (self._rows + 1, width)
        beam = kernel.Beam(
            rows=np.zeros((*shape, words), np.uint64),
            used=np.zeros((*shape, len(self._limit))),
            loss=np.full(shape, np.inf),
            column=np.zeros(shape, np.int64),
            before=np.zeros(shape, np.int64),
        )
        beam.loss[0, 0] = 0.0
        for row in range(self._rows):
            if run.should_stop():
                return None
            kernel.cover_row(choices, beam, row, below - self.bound)
        return self._best(beam, order)

    def _options(self) -> Floats:
        """Return how many promising columns each row has."""
        promising = self._reduced <= np.quantile(self._reduced, PROMISING)
        options = np.bincount(self._row[promising[self._column]], minlength=self._rows)
        return options.astype(np.float64)

    def _choices(self, place: Ints) -> tuple[Choices, Ints]:
        """Return the columns for rows in these places, and which one is which."""
        from placer.solvers import cover_kernel as kernel

        n = len(self._reduced)
        at = place[self._row]
        first = np.full(n, self._rows)
        np.minimum.at(first, self._column, at)
        words = np.zeros((n, -(-self._rows // 64)), np.uint64)
        bits = np.left_shift(np.uint64(1), (at & 63).astype(np.uint64))
        np.bitwise_or.at(words, (self._column, at >> 6), bits)
        order = np.lexsort((self._reduced, first))
        order = order[first[order] < self._rows]
        begins = np.searchsorted(first[order], np.arange(self._rows + 1))
        loss = np.maximum(self._reduced[order], 0.0)
        return kernel.Choices(words[order], loss, self._use[order], self._limit, begins), order

    def _best(self, beam: Beam, order: Ints) -> Ints | None:
        """Return the columns of the cover of the least loss, None where none is whole."""
        width = beam.loss.shape[1]
        at = int(np.argmin(beam.loss[self._rows]))
        if not np.isfinite(beam.loss[self._rows, at]):
            return None
        values = np.zeros(len(self._reduced), np.int64)
        row = self._rows
        while row > 0:
            values[order[beam.column[row, at]]] += 1
            row, at = divmod(int(beam.before[row, at]), width)
        return values


def _binding(program: IntegerProgram, asked: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which of the rows that limit a sum could be exceeded by a cover."""
    largest = csr_array(program.matrix)[~asked].max(axis=1).toarray().ravel()
    exceeded: NDArray[np.bool_] = largest * asked.sum() > program.row_upper[~asked]
    return exceeded
