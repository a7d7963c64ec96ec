"""The direct assignment model: an independent second opinion on small batches.

It says where each replica goes, VM by VM, in one integer program. Its relaxation is weak, so it is
the group formulation that solves large batches.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from placer.errors import ConsistencyError
from placer.solvers.batch import Batch
from placer.solvers.exact import common_step
from placer.solvers.integer_program import Backend
from placer.solvers.run import Run
from placer.solvers.slot_groups import SlotGroups
from placer.solvers.slot_pairs import SlotPairs

NEARLY = 0.5
"""Seconds: a library that keeps the time limit ends a little before it."""


class DirectCpSat:
    """The direct assignment model solved by CP-SAT."""

    name = "cp-sat-direct"
    exact = True

    def solve(self, run: Run) -> None:
        """Prove the optimum, or come near. Raises UsageError for batches that are too large."""
        from placer.solvers.backend_cpsat import solve_with_cpsat

        _solve(run, solve_with_cpsat)


class DirectMilp:
    """The direct assignment model solved by the MILP solver that the run's options name."""

    name = "milp-direct"
    exact = True

    def solve(self, run: Run) -> None:
        """Prove the optimum, or come near. Raises UsageError for batches that are too large."""
        from placer.solvers.backend_pulp import solve_with_pulp

        _solve(run, solve_with_pulp)


def _solve(run: Run, backend: Backend) -> None:
    run.enter("model")
    model = SlotPairs(run) if sums_over_pairs(run.batch) else SlotGroups(run)

    def offer(values: NDArray[np.int64]) -> None:
        run.offer(model.assignment(values))

    program = model.program(run.best)
    run.step = common_step(program.cost)
    run.enter("search")
    result = backend(program, run, offer)
    if result.infeasible and run.best is not None:
        raise ConsistencyError(
            "the direct model is called infeasible, yet a placement is known: please report this "
            "instance"
        )
    run.proved_infeasible = result.infeasible
    if result.values is not None:
        offer(result.values)
    if result.bound is not None:
        # No rounding here: backends round costs down, and ask for half of the gap to make up for
        # that, so a proof at their end closes the run's gap by itself.
        run.raise_bound(result.bound)
    if not result.complete and not run.should_stop() and run.time_left() < NEARLY:
        run.timed_out = True


def sums_over_pairs(batch: Batch) -> bool:
    """Return whether every slowdown is 1 + a sum over co-runners, so that products of pairs do."""
    interference = batch.instance.interference
    if interference.kind == "pairwise":
        return interference.combine == "sum"
    return interference.kind == "none"
