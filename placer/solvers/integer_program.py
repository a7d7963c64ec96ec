"""An integer program as arrays: what the formulations build and the backends solve.

Formulations (the group master, the direct assignment model) do not know which library solves
them, and backends (HiGHS, CP-SAT, any solver that PuLP finds) do not know what they solve.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from placer.solvers.run import Run

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class IntegerProgram:
    """Minimise cost @ x with row_lower <= matrix @ x <= row_upper, 0 <= x <= upper, x integer.

    cost, upper (n,); matrix (m, n) in compressed rows; row_lower, row_upper (m,), infinite for
    no limit; start (n,) a feasible point to begin from, or None. continuous (n,): variables that
    need not be integer, which only the HiGHS backend takes. cutoff: solutions above it are of no
    use, so a backend may call a program infeasible that has only such ones.
    """

    cost: Floats
    upper: Floats
    matrix: csr_array
    row_lower: Floats
    row_upper: Floats
    start: Floats | None = None
    continuous: NDArray[np.bool_] | None = None
    cutoff: float | None = None


@dataclass(frozen=True)
class IntegerResult:
    """What a backend found: values (n,) or None, a proven lower bound or None, and whether it
    proved that there is no solution. `complete` says that it ended by itself, not by a limit."""

    values: NDArray[np.int64] | None
    bound: float | None
    infeasible: bool
    complete: bool


class Backend(Protocol):
    """A library that solves integer programs."""

    def __call__(
        self,
        program: IntegerProgram,
        run: Run,
        on_values: Callable[[NDArray[np.int64]], None] | None = None,
    ) -> IntegerResult:
        """Solve `program` within the run's clock, gap, workers and seed.

        `on_values`, where the library can, is called with each better solution found on the way.
        The bound is a proven lower bound of the program's optimum.
        """


def moved(program: IntegerProgram, by: NDArray[np.int64]) -> IntegerProgram:
    """Return the program in terms of how far each variable is above `by` (n,)."""
    used, cost = program.matrix @ by, float(program.cost @ by)
    return replace(
        program,
        upper=program.upper - by,
        row_lower=program.row_lower - used,
        row_upper=program.row_upper - used,
        start=None if program.start is None else program.start - by,
        cutoff=None if program.cutoff is None else program.cutoff - cost,
    )
