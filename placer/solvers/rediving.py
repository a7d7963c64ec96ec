"""A part of a placement dived for anew, around the VMs that the linear bound would not use.

Where a repair by the exact group master is too large, this still comes somewhere: the part's own
linear master tells at once whether it could be cheaper at all, which few parts can, and where.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from placer.solvers.column_generation import ColumnGeneration
from placer.solvers.columns import Columns
from placer.solvers.diving import dive
from placer.solvers.group_costs import GroupCosts
from placer.solvers.growth import GrowthPricing
from placer.solvers.master import Rows
from placer.solvers.refilling import Hole, left_of
from placer.solvers.run import PartRun, Run

WORTH = 1e-7
"""A linear optimum that is lower by less than this, relative to it, is not dived from."""


def redive(run: Run, hole: Hole, columns: Columns) -> bool:
    """Fill a hole in the best placement by a dive of its own; return whether that gained.

    `columns` are those of the whole's linear bound. No VM of the hole may be there for a together
    rule.
    """
    rest = Counter(run.best or {})
    rest.subtract(hole.vms)
    batch = left_of(run.batch, hole.replicas, rest)
    options = replace(run.options, time_limit=None)
    part = PartRun(batch, GroupCosts(batch), options, whole=run)
    part.offer(hole.vms)
    inside = np.append(hole.replicas > 0, True)[columns.groups].all(axis=1)
    part.promising = dict.fromkeys(columns.take(np.flatnonzero(inside)).states())
    rows, pricing = Rows(batch), GrowthPricing(part)
    linear = ColumnGeneration(part, rows, pricing, bounding=False).solve()
    if linear is None or part.objective is None or part.should_stop():
        return False
    value = float(linear.columns.cost @ linear.values)
    if value >= part.objective - WORTH * abs(part.objective):
        return False
    dive(part, rows, linear.columns)
    for state, count in (part.best or {}).items():
        rest[state] += count
    return run.offer(rest)
