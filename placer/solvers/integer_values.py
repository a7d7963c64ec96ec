"""What every backend needs to know of an integer program's points and limits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from placer.solvers.integer_program import IntegerProgram, IntegerResult
from placer.solvers.run import Run

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ROW_TOLERANCE = 1e-9
"""How far a row's sum may lie outside its limits, relative to the larger of 1 and the limit."""

NOISE = 1e-12
"""Numbers that differ by less, relatively, differ by rounding: 0.1 + 0.2 is 0.3."""

STOP_ROWS = 1000
"""After so many rows a backend that builds its model looks whether the run was stopped."""

PASSES = 4
"""How often limits found for some variables are used to find limits for others."""


def stopped(run: Run) -> bool:
    """Return whether the time is up, or the user has had enough."""
    return run.interrupted or run.time_left() <= 0.0


def keeps_rows(program: IntegerProgram, values: Ints) -> bool:
    """Return whether `values` (n,) lie within the variables' and the rows' limits."""
    if (values < 0).any() or (values > program.upper + ROW_TOLERANCE).any():
        return False
    sums = program.matrix @ values
    return bool(
        (sums >= program.row_lower - _slack(program.row_lower)).all()
        and (sums <= program.row_upper + _slack(program.row_upper)).all()
    )


def _slack(limit: Floats) -> Floats:
    return ROW_TOLERANCE * np.maximum(1.0, np.abs(np.where(np.isfinite(limit), limit, 0.0)))


def trivial_result(program: IntegerProgram) -> IntegerResult | None:
    """Return the result of a program that needs no solver: no variables, or an empty row broken."""
    empty = np.diff(program.matrix.indptr) == 0
    broken = (program.row_lower > _slack(program.row_lower)) | (
        program.row_upper < -_slack(program.row_upper)
    )
    if (empty & broken).any():
        return IntegerResult(None, None, infeasible=True, complete=True)
    if not len(program.cost):
        return IntegerResult(np.zeros(0, dtype=np.int64), 0.0, infeasible=False, complete=True)
    return None


def least_cost(program: IntegerProgram) -> float:
    """Return the cost of taking all of what is negative: below it no point lies; may be -inf."""
    negative = program.cost < 0
    return float(program.cost[negative] @ implied_upper(program)[negative])


def settled_bound(objective: float, bound: float) -> float:
    """Return the bound, or `objective` where the two differ by the rounding of a sum alone."""
    return objective if abs(objective - bound) <= NOISE * abs(objective) else bound


def implied_upper(program: IntegerProgram) -> Floats:
    """Return the variables' upper limits (n,), those that are infinite tightened by the rows."""
    upper = np.floor(program.upper + ROW_TOLERANCE)
    if np.isfinite(upper).all():
        return upper
    matrix = program.matrix.tocoo()
    row, column = (index.astype(np.int64) for index in matrix.coords)
    value = matrix.data
    for _ in range(PASSES):
        before = int(np.isinf(upper).sum())
        for limit, sign in ((program.row_upper, 1.0), (-program.row_lower, -1.0)):
            _tighten(upper, row, column, sign * value, limit)
        after = int(np.isinf(upper).sum())
        if after in (0, before):
            break
    return upper


def _tighten(upper: Floats, row: Ints, column: Ints, value: Floats, limit: Floats) -> None:
    """Lower infinite limits by rows value @ x <= limit, given what negative terms can take off."""
    negative = value < 0
    relief = np.zeros(len(limit))
    np.add.at(relief, row[negative], -value[negative] * upper[column[negative]])
    with np.errstate(invalid="ignore"):
        room = limit + relief
    use = (value > 0) & np.isfinite(room[row]) & np.isinf(upper[column])
    found = np.floor(room[row[use]] / value[use] + ROW_TOLERANCE)
    np.minimum.at(upper, column[use], np.maximum(found, 0.0))
