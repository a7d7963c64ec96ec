"""The solvers by name, imported when asked for."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

from placer.errors import UsageError, near_name
from placer.solvers.run import Solver


@dataclass(frozen=True)
class Entry:
    """Where a solver lives, and what it is in one line."""

    home: str
    summary: str
    exact: bool


SOLVERS = {
    "auto": Entry("auto:Auto", "greedy, local search, then the exact method: the default", True),
    "groups": Entry("exact:Groups", "group formulation, columns and integer master, HiGHS", True),
    "cp-sat": Entry("exact:GroupsCpSat", "group formulation, integer master by CP-SAT", True),
    "milp": Entry("exact:GroupsMilp", "group formulation, integer master by --milp-solver", True),
    "cp-sat-direct": Entry("direct:DirectCpSat", "assignment model with pair products", True),
    "milp-direct": Entry("direct:DirectMilp", "the same model by --milp-solver", True),
    "greedy": Entry("greedy:Greedy", "one replica at a time, least added cost", False),
    "local": Entry("local:Local", "greedy, then move, swap, merge and split", False),
    "least-loaded": Entry("baselines:LeastLoaded", "blind to interference: emptiest VM", False),
    "round-robin": Entry("baselines:RoundRobin", "blind to interference: each VM in turn", False),
    "random": Entry("baselines:Random", "blind to interference: any VM that fits", False),
    "first-fit-decreasing": Entry(
        "baselines:FirstFitDecreasing", "blind to interference: largest first, first VM", False
    ),
    "best-fit-decreasing": Entry(
        "baselines:BestFitDecreasing", "blind to interference: largest first, tightest VM", False
    ),
}


def get_solver(name: str) -> Solver:
    """Return the solver called `name`. Raises UsageError with the names there are."""
    entry = SOLVERS.get(name)
    if entry is None:
        raise UsageError(
            f"unknown solver {name!r}{near_name(name, SOLVERS)}, expected one of "
            + ", ".join(SOLVERS)
        )
    module, attribute = entry.home.split(":")
    solver: Solver = getattr(import_module(f"placer.solvers.{module}"), attribute)()
    return solver
