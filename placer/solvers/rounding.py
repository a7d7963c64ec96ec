"""Placements near the values of a linear bound, where these are large.

Then most VMs are settled, and what is left is a puzzle with whole numbers: which few groups that
the bound does not use make the rest come out even. The fewer groups an integer program chooses
from, the farther it comes; how few is best differs, so several are solved one after another.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from placer.solvers.columns import Columns, assignment_of, distinct_columns, including, join
from placer.solvers.compiled import may_compile
from placer.solvers.frontier import Ground
from placer.solvers.integer_program import Backend
from placer.solvers.linear_bound import LinearBound
from placer.solvers.master import Rows, integer_master, solve_and_offer
from placer.solvers.pricing import lowest
from placer.solvers.refilling import likely_groups
from placer.solvers.run import Run

Ints = NDArray[np.int64]

KEPT_OPEN = 4
"""How many VMs of each column rounding down leaves for the integer program to decide."""

FEW, MANY = 2.2, 3.2
"""How many groups an integer program chooses from, for each row of the master."""

OTHERS = 20
"""How many groups the rest may be evened out by, for each row of the master."""

FEW_ROWS, MOST_ROWS = 60, 1_000
"""With fewer rows in the master integer programs alone are sooner; with more a lattice takes too
long, and too much memory."""

SETTLED = 0.5
"""The part of all VMs that must be settled for this to be worth it."""

TRY_SECONDS = 20.0
"""About as long an integer program is solved before others are: what is found differs much."""

WINDOW = 0.2
"""A group is dearer than it is worth by at most this share of the gap."""


@dataclass(frozen=True)
class Rounding:
    """The values of a linear bound rounded down: `settled` (n,) VMs of each of its `columns`."""

    run: Run
    rows: Rows
    backend: Backend
    linear: LinearBound
    settled: Ints

    @classmethod
    def of(cls, run: Run, rows: Rows, backend: Backend, linear: LinearBound) -> Rounding | None:
        """Return the rounded values, None where they are so small that little would be settled."""
        settled = rounded_down(linear)
        return None if settled is None else cls(run, rows, backend, linear, settled)

    def even_out(
        self, rng: np.random.Generator, *, quick: bool = False, again: bool = False
    ) -> bool:
        """Offer what the lattice of the groups in use leads to; return whether that is better.

        With `quick` the linear master's own columns do, and the first placement that is found;
        `again` is for another time, as long as there is time.
        """
        run, before, prices = self.run, self.run.objective, self.linear.guide
        if not FEW_ROWS <= self.rows.count <= MOST_ROWS:
            return False
        from placer.solvers import lattice_kernel
        from placer.solvers.lattice_rounding import LatticeRounding

        if not may_compile(run, lattice_kernel.reduce_basis):
            return False
        columns, most = self.linear.columns, OTHERS * self.rows.count
        if not quick:
            columns = distinct_columns(join([columns, self._groups(most)]))
        columns = columns.take(lowest(columns.cost - prices.worth(columns), most))
        program = integer_master(self.rows, columns)
        lattice = LatticeRounding(run, program, rng)
        for values in lattice.points(quick=quick, again=again):
            run.offer(assignment_of(columns, values[: len(columns)]))
        return run.objective != before

    def search(self, seconds: float, rng: np.random.Generator) -> None:
        """Offer what integer programs find within these seconds, one after another."""
        run = self.run
        with run.at_most(seconds):
            groups = self._groups(int(MANY * self.rows.count))
            for others in reversed(range(max(1, round(seconds / TRY_SECONDS)))):
                most = int(self.rows.count * rng.uniform(FEW, MANY))
                with run.at_most(run.time_left() / (1 + others)):
                    self._solve(groups, most)
                if run.should_stop():
                    break

    def _groups(self, most: int) -> Columns:
        """Return groups that the linear bound does not use, those first that cost it least."""
        run, prices = self.run, self.linear.guide
        gap = 1e-3 * abs(self.linear.bound)
        if run.objective is not None:
            gap = run.objective - self.linear.bound
        found = likely_groups(Ground.of(run), prices, WINDOW * gap, most)
        return found.take(np.argsort(found.cost - prices.worth(found), kind="stable"))

    def _solve(self, others: Columns, most: int) -> None:
        """Offer what the integer program finds over these many groups and those in use."""
        run = self.run
        used = self.linear.columns.take(np.flatnonzero(self.linear.values > 0.0))
        cheapest = others.take(np.arange(min(most, len(others))))
        columns = including(run.costs, join([used, cheapest]), run.best or {})
        settled = dict(zip(self.linear.columns.states(), self.settled.tolist(), strict=True))
        fixed = np.array([settled.get(state, 0) for state in columns.states()], dtype=np.int64)
        program = replace(integer_master(self.rows, columns), cutoff=run.objective)
        solve_and_offer(self.backend, program, run, columns, fixed)


def rounded_down(linear: LinearBound) -> Ints | None:
    """Return how many VMs of each column are settled, a few less than the linear values.

    None where these are not large.
    """
    values = linear.values
    base = np.maximum(np.floor(values + 1e-7) - KEPT_OPEN, 0.0)
    if len(values) != len(linear.columns) or base.sum() < SETTLED * values.sum():
        return None
    return base.astype(np.int64)
