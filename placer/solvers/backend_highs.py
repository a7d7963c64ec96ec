"""HiGHS: integer programs, and the linear master that grows by columns."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from placer.errors import ConsistencyError
from placer.solvers.integer_program import IntegerProgram, IntegerResult, moved
from placer.solvers.run import Run

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TARGET_COST = 100.0
"""Costs are scaled so that the largest is about this: HiGHS's tolerances are absolute."""

UNSOUND = 1 << 15 | 1 << 16
"""The bits of two presolve rules of HiGHS, probing and enumeration.

With them it calls about one in a thousand small assignment models infeasible that are not, or ends
above their optimum (1.16.0; 1.12 to 1.14, which have no enumeration, one in ten thousand).
"""

ENDLESS = 2**31 - 1
PIVOTS, APART = 2_000, 4
"""Simplex iterations from which on a linear master is solved anew by an interior point, which takes
about as long, and how often that is done before simplex is tried again."""

LARGE, BELOW = 50, 4
"""From which need of a row on values count as large, and how far below them a program begins."""


def cost_scale(cost: Floats) -> float:
    """Return the power of two that brings the largest of `cost` near TARGET_COST."""
    largest = float(np.abs(cost).max(initial=0.0))
    return 2.0 ** round(math.log2(TARGET_COST / largest)) if largest > 0 else 1.0


def solve_with_highs(
    program: IntegerProgram,
    run: Run,
    on_values: Callable[[Ints], None] | None = None,
    seconds: float = math.inf,
) -> IntegerResult:
    """Solve `program` with HiGHS within these seconds and the run's clock and gap; see Backend.

    Of the start only its objective is used, as a cutoff: given the point itself, HiGHS 1.16 has
    ended with it as the optimum of programs that had a better one.
    """
    if not len(program.cost):
        return _without_variables(program)
    end = run.seconds() + seconds
    centre = _centre(program, run, end)
    if centre is None:
        return _solve(program, run, on_values, end)
    listen = None if on_values is None else lambda values: on_values(values + centre)
    result = _solve(moved(program, centre), run, listen, end, lower=-centre)
    cost = float(program.cost @ centre)
    return replace(
        result,
        values=None if result.values is None else result.values + centre,
        bound=None if result.bound is None else result.bound + cost,
    )


def _solve(
    program: IntegerProgram,
    run: Run,
    on_values: Callable[[Ints], None] | None,
    end: float,
    lower: Ints | None = None,
) -> IntegerResult:
    """Solve `program`, whose variables are at least `lower` (n,), 0 where there is none."""
    scale = cost_scale(program.cost)
    highs = _configured(program, run, scale, end, lower)
    limit = program.cutoff
    if limit is None and program.start is not None:
        limit = float(program.cost @ program.start)
    if limit is not None:
        margin = max(run.options.gap, 1e-7) * max(abs(limit), 1e-6)
        highs.setOptionValue("objective_bound", (limit + margin) * scale)
    _listen(highs, run, end, on_values)
    run.call(lambda: highs.run(), lambda: None)
    result = _outcome(highs, program, scale)
    if limit is not None and result.bound is not None and result.bound > limit:
        result = replace(result, bound=limit)  # what costs more was not looked at
    if result.infeasible and program.cutoff is None and program.start is not None:
        return _solve(replace(program, start=None), run, on_values, end, lower)
    return result


def _centre(program: IntegerProgram, run: Run, end: float) -> Ints | None:
    """Return values (n,) a little below those of the linear relaxation, None where few are large.

    In terms of what is above them an integer program of large values is one of small ones, which
    HiGHS solves far sooner.
    """
    if program.continuous is not None or program.row_lower.max(initial=0.0) < LARGE:
        return None
    relaxed = replace(program, continuous=np.ones(len(program.cost), dtype=bool))
    highs = _configured(relaxed, run, cost_scale(program.cost), end, None)
    _listen(highs, run, end, None)
    run.call(lambda: highs.run(), lambda: None)
    values = np.array(highs.getSolution().col_value)
    if len(values) != len(program.cost):
        return None
    centre = np.maximum(np.floor(values) - BELOW, 0.0).astype(np.int64)
    return centre if centre.any() else None


def _configured(
    program: IntegerProgram, run: Run, scale: float, end: float, lower: Ints | None
) -> Any:
    highs = quiet_highs()
    _pass_program(highs, program, scale, lower)
    highs.setOptionValue("mip_rel_gap", run.options.gap / 2)
    highs.setOptionValue("mip_abs_gap", 1e-9)
    highs.setOptionValue("mip_feasibility_tolerance", 1e-9)
    highs.setOptionValue("primal_feasibility_tolerance", 1e-9)
    highs.setOptionValue("random_seed", run.options.seed % 2**31)
    highs.setOptionValue("threads", run.options.workers)
    left = min(run.time_left(), end - run.seconds())
    if math.isfinite(left):
        highs.setOptionValue("time_limit", max(0.01, left))
    return highs


def quiet_highs() -> Any:
    """Return a HiGHS that prints nothing, not even the banner of its constructor.

    It does without the presolve rules that are UNSOUND.
    """
    import highspy

    class QuietHighs(highspy.Highs):
        def enableCallbacks(self) -> None:
            self.setOptionValue("output_flag", False)
            super().enableCallbacks()

    highs = QuietHighs()
    highs.setOptionValue("presolve_rule_off", UNSOUND)
    return highs


def _without_variables(program: IntegerProgram) -> IntegerResult:
    feasible = bool((program.row_lower <= 0).all() and (program.row_upper >= 0).all())
    values = np.zeros(0, dtype=np.int64)
    return IntegerResult(
        values if feasible else None, 0.0 if feasible else None, not feasible, True
    )


def _pass_program(highs: Any, program: IntegerProgram, scale: float, lower: Ints | None) -> None:
    import highspy

    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = len(program.cost), len(program.row_lower)
    model.col_cost_ = program.cost * scale
    model.col_lower_ = np.zeros(len(program.cost)) if lower is None else lower.astype(float)
    model.col_upper_ = program.upper
    model.row_lower_, model.row_upper_ = program.row_lower, program.row_upper
    model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    model.a_matrix_.start_ = program.matrix.indptr
    model.a_matrix_.index_ = program.matrix.indices
    model.a_matrix_.value_ = program.matrix.data
    free = np.zeros(len(program.cost), bool) if program.continuous is None else program.continuous
    kinds = (highspy.HighsVarType.kInteger, highspy.HighsVarType.kContinuous)
    model.integrality_ = [kinds[int(value)] for value in free]
    highs.passModel(model)


def _listen(highs: Any, run: Run, end: float, on_values: Callable[[Ints], None] | None) -> None:
    """Let HiGHS ask whether to go on, and hand over better solutions as it finds them."""

    def interrupt(event: Any) -> None:
        if run.interrupted or run.time_left() <= 0.0 or run.seconds() >= end:
            event.interrupt()

    highs.cbMipInterrupt += interrupt
    highs.cbSimplexInterrupt += interrupt
    if on_values is not None:
        listener = on_values

        def improve(event: Any) -> None:
            listener(np.rint(np.array(event.data_out.mip_solution)).astype(np.int64))

        highs.cbMipImprovingSolution += improve


def _outcome(highs: Any, program: IntegerProgram, scale: float) -> IntegerResult:
    import highspy

    status, info = highs.getModelStatus(), highs.getInfo()
    infeasible = status == highspy.HighsModelStatus.kInfeasible
    complete = infeasible or status == highspy.HighsModelStatus.kOptimal
    values = None
    if info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible:
        values = np.rint(np.array(highs.getSolution().col_value)).astype(np.int64)
    bound = info.mip_dual_bound / scale
    if not math.isfinite(bound) or infeasible:
        bound = math.nan
    return IntegerResult(values, None if math.isnan(bound) else bound, infeasible, complete)


class LinearMaster:
    """A linear program that is solved again and again as columns are added.

    `add` brings columns, `add_rows` cuts, `solve` returns the objective and the rows' duals, both
    unscaled. Each row that must hold has an artificial variable at a price that `charge` sets,
    so that there is always a solution.
    """

    def __init__(self, row_lower: Floats, row_upper: Floats, scale: float) -> None:
        self._highs = quiet_highs()
        self._scale = scale
        self._rows = len(row_lower)
        for lower, upper in zip(row_lower.tolist(), row_upper.tolist(), strict=True):
            self._highs.addRow(lower, upper, 0, np.zeros(0, np.int32), np.zeros(0))
        must = np.flatnonzero(row_lower > 0)
        self._artificial = np.arange(len(must))
        self._highs.setOptionValue("threads", 1)
        self._apart = 0  # solves for which simplex is not tried
        self.add(
            np.zeros(len(must)),
            np.full(len(must), np.inf),
            must,
            self._artificial,
            np.ones(len(must)),
        )

    def add(self, cost: Floats, upper: Floats, row: Ints, column: Ints, value: Floats) -> None:
        """Add columns with their non-zeros, `column` counting from 0 for the first that is new.

        Values for one row and column are summed. Raises ConsistencyError where HiGHS refuses.
        """
        import highspy
        from scipy.sparse import coo_array

        matrix = coo_array((value, (row, column)), shape=(self._rows, len(cost))).tocsc()
        status = self._highs.addCols(
            len(cost),
            cost * self._scale,
            np.zeros(len(cost)),
            upper,
            matrix.nnz,
            matrix.indptr[:-1].astype(np.int32),
            matrix.indices.astype(np.int32),
            matrix.data,
        )
        if status == highspy.HighsStatus.kError:
            raise ConsistencyError("the linear master refused new columns")

    def add_rows(self, upper: Floats, row: Ints, column: Ints) -> None:
        """Add rows whose sum over some columns, counted after the artificials, is at most `upper`.

        `row` counts from 0 for the first that is new.
        """
        order = np.argsort(row, kind="stable")
        number = (column[order] + len(self._artificial)).astype(np.int32)
        begin = np.searchsorted(row[order], np.arange(len(upper) + 1))
        for r, limit in enumerate(upper.tolist()):
            part = number[begin[r] : begin[r + 1]]
            self._highs.addRow(-np.inf, limit, len(part), part, np.ones(len(part)))
        self._rows += len(upper)

    def charge(self, price: float) -> None:
        """Set what one unit of an artificial variable costs."""
        for column in self._artificial.tolist():
            self._highs.changeColCost(column, price * self._scale)

    def change_rows(self, lower: Floats, upper: Floats, first: int = 0) -> None:
        """Set the limits of rows from `first` on."""
        number = np.arange(first, first + len(lower), dtype=np.int32)
        self._highs.changeRowsBounds(len(number), number, lower, upper)

    def change_uppers(self, column: Ints, upper: Floats) -> None:
        """Set the upper limits of columns, counted from 0 for the first after the artificials."""
        number = (column + len(self._artificial)).astype(np.int32)
        self._highs.changeColsBounds(len(number), number, np.zeros(len(number)), upper)

    def solve(self, run: Run) -> tuple[float, Floats, float] | None:
        """Return objective, duals (rows,) and the sum of artificials; None where stopped."""
        if not self._optimal(run):
            return None
        solution = self._highs.getSolution()
        duals = np.array(solution.row_dual) / self._scale
        lacking = float(np.array(solution.col_value)[self._artificial].sum())
        return self._highs.getInfo().objective_function_value / self._scale, duals, lacking

    def _optimal(self, run: Run) -> bool:
        """Bring the program to a basic optimum, from the last basis where that is near."""
        self._apart -= 1
        if self._apart < 0:
            if self._ended(run, "simplex", PIVOTS):
                return True
            self._apart = APART
        return self._ended(run, "ipx") or self._ended(run, "simplex")

    def _ended(self, run: Run, solver: str, pivots: int = ENDLESS) -> bool:
        """Return whether a method comes to the optimum in time, and with so many pivots."""
        import highspy

        highs, left = self._highs, run.time_left()
        if left <= 0.0:
            return False
        if math.isfinite(left):
            highs.setOptionValue("time_limit", highs.getRunTime() + left)
        highs.setOptionValue("solver", solver)
        highs.setOptionValue("simplex_iteration_limit", pivots)
        highs.run()
        return bool(highs.getModelStatus() == highspy.HighsModelStatus.kOptimal)

    def values(self) -> Floats:
        """Return the last solution's values, artificials left out."""
        return np.array(self._highs.getSolution().col_value)[len(self._artificial) :]
