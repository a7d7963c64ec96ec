"""Integer points near a linear optimum whose values are large, by the lattice of its columns.

Columns whose values are far from 0 at the linear optimum, or a little above it, may be used more
often or less: what they add up to is a lattice. What the right-hand side lacks of it is an element
of a finite group, to which other columns must add up at the least cost: Gomory's group relaxation
(1965), with more columns free than a basis has. The rest is to find a point of the lattice near
the linear one, by a reduced basis (Babai 1986).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from placer.solvers.free_lattice import FreeLattice
from placer.solvers.integer_program import IntegerProgram
from placer.solvers.linear_points import (
    Equalities,
    cheapest_alike,
    interior_point,
    reduced_costs,
)
from placer.solvers.run import Run

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LADDER = ((2.0, 8.0), (1.5, 16.0), (2.0, 4.0), (1.5, 4.0), (2.0, 2.0), (16.0, 0.0))
"""Attempts: which value is far enough from 0, and what that may cost, in units of the reduced cost
of the column that as many are cheaper than as there are rows."""

FAR, DEARER = (1.2, 2.2), (3.0, 9.0)
"""The same for attempts at random."""

NOISE = 0.3
"""How far these change costs, so that others of the columns lead to the lattice."""

SECONDS = 5.0
"""The most that looking for other columns takes in one attempt."""

VAIN = 2
"""After so many attempts that led to nothing there are no more."""

TRIES = 30
"""How many points near the linear one are looked at in one attempt."""


class LatticeRounding:
    """Integer points near the linear optimum of a program, within one run's clock."""

    def __init__(self, run: Run, program: IntegerProgram, rng: np.random.Generator) -> None:
        self._run, self._program, self._rng = run, program, rng
        self._best = np.inf

    def points(self, *, quick: bool = False, again: bool = False) -> Iterator[Ints]:
        """Yield values of the program's columns that keep all rows, each cheaper than the last.

        With `quick` those of the first attempt that leads to some; where this was done before,
        `again` makes attempts at random, until time is over.
        """
        every = Equalities.of(self._program)
        if every is None:
            return
        kept = cheapest_alike(every)
        equal = every.take(kept)
        reduced = reduced_costs(equal, self._run.time_left())
        if reduced is None:
            return
        rank = np.sort(reduced[reduced > 0.0])[: len(equal.right)]
        unit = float(rank.max(initial=0.0))
        for number, (far, dearer) in enumerate(self._at_random(unit) if again else LADDER):
            found = np.isfinite(self._best)
            if self._run.should_stop() or (quick and found) or (number >= VAIN and not found):
                return
            if dearer * unit >= self._best:
                continue
            with suppress(ArithmeticError, np.linalg.LinAlgError):  # too near to tell, or too far
                for point in self._attempt(equal, reduced, far, dearer * unit, again):
                    values = np.zeros(len(every.cost), dtype=np.int64)
                    values[kept] = point
                    if (values <= every.upper).all():
                        yield values[: len(self._program.cost)]

    def _at_random(self, unit: float) -> Iterator[tuple[float, float]]:
        """Yield attempts like those of the ladder, as long as one may lead to a better point."""
        while DEARER[0] * unit < self._best:
            yield float(self._rng.uniform(*FAR)), float(self._rng.uniform(*DEARER))

    def _attempt(
        self, equal: Equalities, reduced: Floats, far: float, dearer: float, again: bool
    ) -> Iterator[Ints]:
        """Yield points (n,) of one lattice that are cheaper than any before."""
        run = self._run
        place = interior_point(equal, reduced, far, dearer, run.time_left())
        if place is None or run.should_stop():
            return
        lattice = FreeLattice.of(equal, place, far, self._rng)
        if lattice is None or run.should_stop():
            return
        noise = self._rng.exponential(NOISE, len(reduced)) if again else 0.0
        with run.at_most(SECONDS):
            others = lattice.others_needed(run, reduced * (1.0 + noise))
        if others is None or run.should_stop():
            return
        for point in lattice.points(others, reduced, TRIES, self._rng):
            cost = float(reduced @ point)
            if cost < self._best * (1.0 - 1e-9):
                self._best = cost
                yield point
