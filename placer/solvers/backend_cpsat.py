"""OR-Tools CP-SAT: integer programs scaled to whole numbers, so that its bound stays a proof."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from placer.errors import ConsistencyError
from placer.solvers.integer_program import IntegerProgram, IntegerResult
from placer.solvers.integer_values import (
    NOISE,
    STOP_ROWS,
    implied_upper,
    keeps_rows,
    settled_bound,
    stopped,
    trivial_result,
)
from placer.solvers.run import Run

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LARGEST_SUM = 2.0**52
"""No sum of coefficient x upper limit exceeds this, so that int64 and double hold it exactly."""

LARGEST_COEFFICIENT = 2.0**30
"""Coefficients of a row that is no decimal are rounded to about nine digits."""

LARGEST_VALUE = 10**6
"""The most that a variable may take for which neither program nor rows give a limit."""

DECIMALS = 9


@dataclass(frozen=True)
class WholeCosts:
    """Costs as whole numbers: cost ~ coefficient / scale, none rounded up by more than noise.

    coefficient (n,). For each feasible x, cost @ x >= coefficient @ x / scale - error.
    """

    coefficient: Ints
    scale: float
    error: float


@dataclass(frozen=True)
class WholeRow:
    """One row in whole numbers: lower <= coefficient @ x[column] <= upper, None for no limit."""

    column: Ints
    coefficient: Ints
    lower: int | None
    upper: int | None


def solve_with_cpsat(
    program: IntegerProgram,
    run: Run,
    on_values: Callable[[Ints], None] | None = None,
) -> IntegerResult:
    """Solve `program` with CP-SAT within the run's clock and gap; see Backend.

    Raises ConsistencyError where CP-SAT refuses the model, and what `on_values` raises.
    """
    known = trivial_result(program)
    if known is not None:
        return known
    implied = implied_upper(program)
    limited = bool(np.isfinite(implied).all())
    upper = np.where(np.isfinite(implied), implied, LARGEST_VALUE)
    costs = whole_costs(program.cost, upper)
    built = _model(program, costs, upper, run)
    if built is None:
        return IntegerResult(None, None, infeasible=False, complete=False)
    model, variables = built
    solver = _solver(run)
    listener = _listener(variables, program, on_values)
    status = run.call(lambda: solver.solve(model, listener), cancel=solver.stop_search)
    if listener is not None and listener.error is not None:
        raise listener.error
    return _outcome(program, solver, status, costs, upper, limited)


def whole_costs(cost: Floats, upper: Floats) -> WholeCosts:
    """Return `cost` (n,) in whole numbers: exact decimals where they are, else rounded down.

    The scale is as large as LARGEST_SUM allows. Rounding down keeps a bound a bound, for x >= 0.
    """
    largest = float(np.abs(cost) @ np.maximum(upper, 1.0))
    if largest == 0.0:
        return WholeCosts(np.zeros(len(cost), dtype=np.int64), 1.0, 0.0)
    for digits in range(DECIMALS + 4):
        scale = 10.0**digits
        if largest * scale > LARGEST_SUM:
            break
        scaled = cost * scale
        if _near_whole(scaled).all():
            whole = np.rint(scaled)
            error = float(np.maximum(whole - scaled, 0.0) @ upper) / scale
            return WholeCosts(whole.astype(np.int64), scale, error)
    # A power of two, so that multiplying by it rounds nothing.
    scale = 2.0 ** math.floor(math.log2(LARGEST_SUM / largest))
    return WholeCosts(np.floor(cost * scale).astype(np.int64), scale, 0.0)


def _near_whole(scaled: Floats) -> NDArray[np.bool_]:
    slack = np.minimum(NOISE * np.abs(scaled), 1e-3)
    near: NDArray[np.bool_] = np.abs(scaled - np.rint(scaled)) <= slack
    return near


def whole_rows(program: IntegerProgram, upper: Floats) -> Iterator[WholeRow]:
    """Yield rows in whole numbers that no feasible point of `program` breaks.

    A row of decimals becomes one exact row; any other becomes a row for each of its limits, with
    coefficients rounded to the side that admits more.
    """
    matrix = program.matrix
    columns, values = matrix.indices.astype(np.int64), matrix.data
    start = matrix.indptr.tolist()
    whole = _whole_already(program, upper)
    limits = zip(program.row_lower.tolist(), program.row_upper.tolist(), strict=True)
    for index, (lower, limit) in enumerate(limits):
        part = slice(start[index], start[index + 1])
        column, value = columns[part], values[part]
        if part.start == part.stop or not (math.isfinite(lower) or math.isfinite(limit)):
            continue
        if whole[index]:
            whole_value = value.astype(np.int64)
            yield WholeRow(column, whole_value, _whole_lower(lower), _whole_upper(limit))
        else:
            yield from _whole_row(column, value, lower, limit, upper[column])


def _whole_already(program: IntegerProgram, upper: Floats) -> NDArray[np.bool_]:
    """Return which rows (m,) have whole coefficients as they are: most, so this must be quick."""
    value, m = program.matrix.data, len(program.row_lower)
    row = np.repeat(np.arange(m), np.diff(program.matrix.indptr))
    broken = np.bincount(row, weights=value != np.rint(value), minlength=m)
    largest = np.abs(value) * np.maximum(upper[program.matrix.indices], 1.0)
    sums = np.bincount(row, weights=largest, minlength=m)
    whole: NDArray[np.bool_] = (broken == 0) & (sums <= LARGEST_SUM)
    return whole


def _whole_row(
    column: Ints, value: Floats, lower: float, limit: float, upper: Floats
) -> Iterator[WholeRow]:
    largest = float(np.abs(value) @ np.maximum(upper, 1.0))
    for digits in range(DECIMALS + 1):
        scale = 10.0**digits
        if largest * scale > LARGEST_SUM:
            break
        scaled = value * scale
        if _near_whole(scaled).all():
            whole = np.rint(scaled)
            drift = float(np.abs(whole - scaled) @ upper)
            yield WholeRow(
                column,
                whole.astype(np.int64),
                _whole_lower(lower * scale - drift),
                _whole_upper(limit * scale + drift),
            )
            return
    biggest = float(np.abs(value).max())
    scale = 2.0 ** math.floor(math.log2(min(LARGEST_COEFFICIENT / biggest, LARGEST_SUM / largest)))
    if math.isfinite(limit):
        floor = np.floor(value * scale).astype(np.int64)
        yield WholeRow(column, floor, None, _whole_upper(limit * scale))
    if math.isfinite(lower):
        ceiling = np.ceil(value * scale).astype(np.int64)
        yield WholeRow(column, ceiling, _whole_lower(lower * scale), None)


def _whole_upper(limit: float) -> int | None:
    return math.floor(limit + 1e-9 * max(1.0, abs(limit))) if math.isfinite(limit) else None


def _whole_lower(limit: float) -> int | None:
    return math.ceil(limit - 1e-9 * max(1.0, abs(limit))) if math.isfinite(limit) else None


def _model(
    program: IntegerProgram, costs: WholeCosts, upper: Floats, run: Run
) -> tuple[Any, list[Any]] | None:
    """Return CP-SAT's model and variables, None where the run was stopped on the way."""
    from ortools.sat.python import cp_model

    model = cp_model.CpModel()
    variables = [model.new_int_var(0, int(limit), "") for limit in upper.tolist()]
    weighted_sum = cp_model.LinearExpr.weighted_sum
    for number, row in enumerate(whole_rows(program, upper)):
        if number % STOP_ROWS == 0 and stopped(run):
            return None
        terms = [variables[j] for j in row.column.tolist()]
        model.add_linear_constraint(
            weighted_sum(terms, row.coefficient.tolist()),
            cp_model.INT_MIN if row.lower is None else row.lower,
            cp_model.INT_MAX if row.upper is None else row.upper,
        )
    priced = np.flatnonzero(costs.coefficient)
    total = weighted_sum(
        [variables[j] for j in priced.tolist()], costs.coefficient[priced].tolist()
    )
    model.minimize(total)
    if program.cutoff is not None and len(priced):
        most = _whole_upper((program.cutoff + costs.error) * costs.scale)
        assert most is not None
        model.add_linear_constraint(total, cp_model.INT_MIN, most)
    if program.start is not None:
        hint = np.clip(np.rint(program.start), 0, upper).astype(np.int64).tolist()
        for variable, value in zip(variables, hint, strict=True):
            model.add_hint(variable, value)
    return model, variables


def _solver(run: Run) -> Any:
    from ortools.sat.python import cp_model

    solver = cp_model.CpSolver()
    parameters = solver.parameters
    parameters.catch_sigint_signal = False
    parameters.num_workers = run.options.workers
    parameters.random_seed = run.options.seed % 2**31
    # Half of the gap is left for the rounding of costs. Whole costs are large, so the absolute
    # limit of CP-SAT would say nothing of the objective.
    parameters.relative_gap_limit = run.options.gap / 2
    parameters.absolute_gap_limit = 0.0
    # OR-Tools 9.15 adds coefficients in 32 bits in this presolve step, and cuts off solutions.
    parameters.presolve_inclusion_work_limit = 0
    if math.isfinite(run.time_left()):
        parameters.max_time_in_seconds = run.time_left()
    return solver


def _listener(
    variables: list[Any], program: IntegerProgram, on_values: Callable[[Ints], None] | None
) -> Any:
    """Return a CP-SAT callback that hands solutions on, and keeps what goes wrong in `error`."""
    from ortools.sat.python import cp_model

    if on_values is None:
        return None
    tell = on_values

    class Listener(cp_model.CpSolverSolutionCallback):
        error: Exception | None = None

        def on_solution_callback(self) -> None:
            values = np.array([self.value(variable) for variable in variables], dtype=np.int64)
            try:
                if self.error is None and keeps_rows(program, values):
                    tell(values)
            except Exception as error:  # must not pass through the library's threads
                self.error = error
                self.stop_search()

    return Listener()


def _outcome(
    program: IntegerProgram,
    solver: Any,
    status: Any,
    costs: WholeCosts,
    upper: Floats,
    limited: bool,
) -> IntegerResult:
    """Return what CP-SAT found; nothing is proved where a variable's limit was made up."""
    from ortools.sat.python import cp_model

    if status == cp_model.MODEL_INVALID:
        raise ConsistencyError("CP-SAT refused the model: numbers too large to add up")
    if status == cp_model.INFEASIBLE:
        return IntegerResult(None, None, infeasible=limited, complete=limited)
    whole_bound, values = solver.best_objective_bound, None
    if status in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        values = np.array(list(solver.response_proto.solution), dtype=np.int64)
    elif whole_bound == 0.0:  # which is also what CP-SAT says before it has any bound
        whole_bound = float(np.minimum(costs.coefficient, 0) @ upper)
    bound = whole_bound / costs.scale - costs.error if limited else None
    if values is not None and bound is not None:
        bound = settled_bound(float(program.cost @ values), bound)
    if values is not None and not keeps_rows(program, values):
        values = None
    return IntegerResult(values, bound, infeasible=False, complete=status == cp_model.OPTIMAL)
