"""The best groups of a few replicas where costs are sums over pairs: compiled, none overlooked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from placer.solvers.batch import Batch
from placer.solvers.columns import Columns, Prices, join
from placer.solvers.compiled import may_compile
from placer.solvers.pair_search import PairSearch, TypeClass
from placer.solvers.pricing import lowest
from placer.solvers.run import PartRun, Run

NODES = 200_000
"""After so many nodes a search of one class is given up: growth with a limit comes further."""


def list_best(
    run: Run, classes: list[TypeClass], batch: Batch, prices: Prices, window: float, most: int
) -> Columns | None:
    """Return the groups of reduced cost at most `window`, of too many the `most` best.

    classes: of the whole run's VM types; batch: the replicas and VMs that are left to choose from.
    None where there are no classes, or the search is not compiled, or takes too long.
    """
    from placer.solvers import pair_kernel

    if not classes or not may_compile(run, pair_kernel.search):
        return None
    part = PartRun(batch, run.costs, run.options, whole=run)
    left, found = batch.vms_possible() > 0, []
    for one in classes:
        types = one.types[left[one.types]]
        if len(types):
            lone = np.where(batch.replicas > 0, one.lone, np.inf)
            search = PairSearch(part, replace(one, types=types, lone=lone), prices)
            result = search.share(window, 2 * most, thinning=True, most_nodes=NODES)
            if result is None or np.isneginf(result[0]):
                return None
            found.append(result[1])
    every = join(found)
    return every.take(lowest(every.cost - prices.worth(every), most))
