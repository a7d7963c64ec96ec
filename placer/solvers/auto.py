"""The default: heuristics for a placement at once, the exact method, and what time is left."""

from __future__ import annotations

import math

from placer.solvers.exact import Groups, first_placement
from placer.solvers.local import Local
from placer.solvers.run import Run


class Auto:
    """Greedy, a descent, the group formulation as far as it gets, then local search.

    The last step runs only where the exact method ended with a gap and a time limit says how
    long to go on.
    """

    name = "auto"
    exact = True

    def solve(self, run: Run) -> None:
        """Offer ever better placements to `run` and prove how good they can be."""
        first_placement(run)
        if not run.should_stop():
            Groups().solve(run)
        if not run.should_stop() and run.best is not None and math.isfinite(run.time_left()):
            run.enter("local search")
            Local().solve(run)
