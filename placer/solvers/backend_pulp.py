"""PuLP: integer programs by any MILP solver that it finds, HiGHS where none is named."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from placer.errors import PlacerError, UsageError, near_name
from placer.solvers.backend_highs import cost_scale, quiet_highs
from placer.solvers.integer_program import IntegerProgram, IntegerResult
from placer.solvers.integer_values import (
    STOP_ROWS,
    keeps_rows,
    least_cost,
    settled_bound,
    stopped,
    trivial_result,
)
from placer.solvers.run import Run

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Listener = Callable[[Ints], None]

ALIASES = {
    "highs": ("HiGHS", "HiGHS_CMD"),
    "cbc": ("PULP_CBC_CMD", "COIN_CMD"),
    "scip": ("SCIP_PY", "SCIP_CMD", "FSCIP_CMD"),
    "gurobi": ("GUROBI", "GUROBI_CMD"),
    "cplex": ("CPLEX_PY", "CPLEX_CMD"),
    "glpk": ("GLPK_CMD", "PYGLPK"),
    "xpress": ("XPRESS_PY", "XPRESS"),
    "copt": ("COPT", "COPT_CMD"),
}
"""Names by which solvers are known, and PuLP's names for the ways to reach them."""

ABSOLUTE_GAP = 1e-9
"""Where an absolute gap can be set, of costs that `cost_scale` has scaled."""

EXACT_BY_DEFAULT = ("GLPK_CMD", "PYGLPK")
"""Solvers that take no gap from PuLP and stop at none of their own."""


def solve_with_pulp(
    program: IntegerProgram, run: Run, on_values: Listener | None = None
) -> IntegerResult:
    """Solve `program` with the MILP solver that `run.options.milp_solver` names; see Backend.

    Raises UsageError where that solver is not there, PlacerError where it fails.
    """
    name = solver_name(run.options.milp_solver)
    known = trivial_result(program)
    if known is not None:
        return known
    scale = cost_scale(program.cost)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of what PuLP 4 will change
        built = _problem(program, scale, run)
        if built is None:
            return IntegerResult(None, None, infeasible=False, complete=False)
        problem, variables = built
        solver = _solver(name, program, run, variables, on_values)
        try:
            run.call(lambda: problem.solve(solver), cancel=lambda: _cancel(name, problem))
        except Exception as error:
            if name in ALIASES["cbc"]:  # which falls over on some programs without a solution
                run.notes.append(f"CBC failed, so it proved nothing: {error}")
                return IntegerResult(None, None, infeasible=False, complete=False)
            raise PlacerError(f"the MILP solver {name} failed: {error}") from error
    listener_error = getattr(solver, "listener_error", None)
    if listener_error is not None:
        raise listener_error
    return _outcome(Attempt(name, solver, problem, variables, scale), program, run)


def _cancel(name: str, problem: Any) -> None:
    """Ask a library to end early; HiGHS asks for itself, programs of their own have the clock."""
    model = getattr(problem, "solverModel", None)
    if name == "GUROBI" and model is not None:
        model.terminate()


@dataclass(frozen=True)
class Attempt:
    """A solve by PuLP that has ended: its name of the solver, its objects, the scale of costs."""

    name: str
    solver: Any
    problem: Any
    variables: list[Any]
    scale: float


def solver_name(wanted: str) -> str:
    """Return PuLP's name of the solver called `wanted`. Raises UsageError with those there are."""
    import pulp

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        available = list(dict.fromkeys(pulp.listSolvers(onlyAvailable=True)))
    lower = wanted.strip().lower()
    for name in ALIASES.get(lower, ()):
        if name in available:
            return name
    for name in available:
        if name.lower() == lower:
            return name
    friendly = [alias for alias, names in ALIASES.items() if set(names) & set(available)]
    every = {name.lower() for name in pulp.listSolvers()} | set(ALIASES)
    what = "is not installed here" if lower in every else "is not known to PuLP"
    raise UsageError(
        f"MILP solver {wanted!r} {what}{near_name(lower, friendly)}, expected one of "
        + ", ".join(dict.fromkeys([*friendly, *available]))
    )


def _problem(program: IntegerProgram, scale: float, run: Run) -> tuple[Any, list[Any]] | None:
    """Return the program in PuLP's form, costs scaled, and its variables in order.

    None where the run was stopped on the way.
    """
    import pulp

    problem = pulp.LpProblem("placer", pulp.LpMinimize)
    variables = [
        pulp.LpVariable(f"x{j}", 0, limit if math.isfinite(limit) else None, pulp.LpInteger)
        for j, limit in enumerate(np.floor(program.upper + 1e-9).tolist())
    ]
    costs = (program.cost * scale).tolist()
    problem.setObjective(
        pulp.LpAffineExpression({variables[j]: cost for j, cost in enumerate(costs) if cost})
    )
    start = program.matrix.indptr.tolist()
    column, value = program.matrix.indices.tolist(), program.matrix.data.tolist()
    limits = zip(program.row_lower.tolist(), program.row_upper.tolist(), strict=True)
    for i, (lower, upper) in enumerate(limits):
        if i % STOP_ROWS == 0 and stopped(run):
            return None
        part = range(start[i], start[i + 1])
        terms = {variables[column[p]]: value[p] for p in part if value[p]}
        for sense, limit in _senses(lower, upper) if terms else ():
            row = pulp.LpConstraint(pulp.LpAffineExpression(terms), sense, rhs=limit)
            problem.addConstraint(row, f"r{len(problem.constraints)}")
    return problem, variables


def _senses(lower: float, upper: float) -> list[tuple[int, float]]:
    """Return PuLP's sense (-1, 0, 1) and limit of each constraint that makes up a row."""
    if lower == upper:
        return [(0, lower)]
    senses = [(1, lower)] if math.isfinite(lower) else []
    return [*senses, (-1, upper)] if math.isfinite(upper) else senses


def _solver(
    name: str,
    program: IntegerProgram,
    run: Run,
    variables: list[Any],
    on_values: Listener | None,
) -> Any:
    """Return PuLP's solver with the run's options, as far as it takes them."""
    import pulp

    if name == "HiGHS":
        return _highs(program, run, variables, on_values)
    options: dict[str, Any] = {"msg": False, "gapRel": _relative_gap(run), "gapAbs": ABSOLUTE_GAP}
    options["threads"] = run.options.workers
    if math.isfinite(run.time_left()):
        options["timeLimit"] = max(0.01, run.time_left())
    if name in ALIASES["cbc"]:
        seed = run.options.seed % 2**31
        # CBC by itself looks for nothing that is better by less than 1e-5, and preprocessing in
        # CBC 2.10, the one in PuLP, at times cuts off the optimum.
        options["options"] = [
            f"randomSeed {seed}",
            f"randomCbcSeed {seed}",
            f"increment {ABSOLUTE_GAP:g}",
            "preprocess off",
        ]
        if run.options.workers == 1:
            del options["threads"]  # a single thread beside its own makes it wait, at times 10 s
    if name in ALIASES["scip"]:
        del options["threads"]  # it has one, and PuLP warns of more
    if program.start is not None:
        for variable, value in zip(variables, program.start.tolist(), strict=True):
            variable.setInitialValue(round(value), check=False)
        options["warmStart"] = True
    kind = type(pulp.getSolver(name, msg=False))
    taken = inspect.signature(kind.__init__).parameters
    return kind(**{option: value for option, value in options.items() if option in taken})


def _relative_gap(run: Run) -> float:
    """Return the gap to ask for: half is left for what the solver's tolerances take."""
    return run.options.gap / 2


def _highs(
    program: IntegerProgram,
    run: Run,
    variables: list[Any],
    on_values: Listener | None,
) -> Any:
    """Return PuLP's HiGHS, which tells of better points and can be stopped.

    It is given no start; see backend_highs.
    """
    import pulp

    class Highs(pulp.HiGHS):
        listener_error: Exception | None = None

        def createAndConfigureSolver(self, lp: Any) -> None:
            lp.solverModel = quiet_highs()
            for option, value in _highs_options(run).items():
                lp.solverModel.setOptionValue(option, value)

        def callSolver(self, lp: Any) -> None:
            highs = lp.solverModel
            order = np.array([getattr(v, "index", -1) for v in variables])
            highs.cbMipInterrupt += self.interrupt
            highs.cbSimplexInterrupt += self.interrupt
            if on_values is not None:
                highs.cbMipImprovingSolution += lambda event: self.improve(event, order)
            # PuLP takes seconds to pass on a large model, so the clock is read here.
            highs.setOptionValue("time_limit", min(max(0.01, run.time_left()), 1e20))
            highs.run()

        def interrupt(self, event: Any) -> None:
            if stopped(run) or self.listener_error is not None:
                event.interrupt()

        def improve(self, event: Any, order: Ints) -> None:
            point = np.append(np.array(event.data_out.mip_solution), 0.0)
            values = np.rint(point[order]).astype(np.int64)
            try:
                if on_values is not None and keeps_rows(program, values):
                    on_values(values)
            except Exception as error:  # must not pass through the library's threads
                self.listener_error = error

    return Highs(msg=False)


def _highs_options(run: Run) -> dict[str, Any]:
    return {
        "mip_rel_gap": _relative_gap(run),
        "mip_abs_gap": ABSOLUTE_GAP,
        "mip_feasibility_tolerance": 1e-9,
        "primal_feasibility_tolerance": 1e-9,
        "random_seed": run.options.seed % 2**31,
        "threads": run.options.workers,
    }


def _outcome(attempt: Attempt, program: IntegerProgram, run: Run) -> IntegerResult:
    """Return what the solver found; PuLP's status alone tells an optimum from nothing else."""
    import pulp

    problem = attempt.problem
    if problem.status == pulp.LpStatusInfeasible:
        # Some say so where the objective has no limit, or where time ran out.
        in_time = not stopped(run)
        proved = math.isfinite(least_cost(program)) and (in_time or attempt.name == "HiGHS")
        return IntegerResult(None, None, infeasible=proved, complete=proved)
    optimal = problem.sol_status == pulp.LpSolutionOptimal
    # Taken whatever the status: some say "not solved" of a solution at the time limit, and what
    # is no solution breaks a row.
    point = _point(attempt)
    bound = _own_bound(attempt)
    if bound is None and optimal and point is not None:
        bound = _bound_by_gap(attempt, float(program.cost @ point), least_cost(program), run)
    values = None if point is None else np.rint(point).astype(np.int64)
    if values is not None and not keeps_rows(program, values):
        values = None
    if values is not None and bound is not None:
        objective = float(program.cost @ values)
        bound = settled_bound(objective, min(bound, objective))
    return IntegerResult(values, bound, infeasible=False, complete=optimal)


def _point(attempt: Attempt) -> Floats | None:
    """Return the solution as the solver gives it (n,), None where there is none."""
    if attempt.name == "HiGHS":
        import highspy

        found = attempt.problem.solverModel.getInfo().primal_solution_status
        if found != highspy.SolutionStatus.kSolutionStatusFeasible:
            return None
    return np.array([variable.varValue or 0.0 for variable in attempt.variables])


def _own_bound(attempt: Attempt) -> float | None:
    """Return the bound that the solver itself states, where it does."""
    model: Any = getattr(attempt.problem, "solverModel", None)
    try:
        if attempt.name == "HiGHS":
            bound = model.getInfo().mip_dual_bound
        elif attempt.name == "GUROBI":
            bound = model.ObjBound
        elif attempt.name == "SCIP_PY":
            bound = model.getDualbound()
        elif attempt.name == "CPLEX_PY":
            bound = model.solution.MIP.get_best_objective()
        else:
            return None
    except Exception:  # a solver that stopped early may have none
        return None
    return float(bound) / attempt.scale if abs(bound) < 1e20 else None


def _bound_by_gap(attempt: Attempt, found: float, least: float, run: Run) -> float | None:
    """Return the least optimum beside which the solver may call a point of cost `found` optimal.

    None where it may stop at a gap that nobody told it. `least` is below every point's cost.
    """
    taken = inspect.signature(type(attempt.solver).__init__).parameters
    if attempt.name in EXACT_BY_DEFAULT:
        relative = 0.0
    elif "gapRel" in taken:
        relative = _relative_gap(run)
    else:
        return None
    # The gap is relative to the larger of solution and bound in some solvers.
    slack = abs(found) * (relative / max(1.0 - relative, 1e-3) + 1e-9)
    return max(least, found - slack - 2 * ABSOLUTE_GAP / attempt.scale)
