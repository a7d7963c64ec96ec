"""Columns of negative reduced cost near those in use, where costs are sums over pairs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from placer.solvers.columns import Columns, Prices, join, no_columns
from placer.solvers.pair_search import PairSearch, TypeClass
from placer.solvers.pair_types import Found
from placer.solvers.run import Run

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

STARTS = 32
"""Groups to descend from between two looks at the clock."""

WIDE_SECONDS = 3.0
"""The most that exchanges of two take, where time is limited: an exact search is next."""

STEPS = 8
"""Steps kept of each descent, over all of them."""


def descend(
    run: Run,
    classes: list[TypeClass],
    prices: Prices,
    near: Columns,
    *,
    wide: bool,
    free: bool = False,
) -> Columns:
    """Return groups of negative reduced cost that descents from `near` come by.

    With `wide` two members may be exchanged at once; else descents begin at lone replicas too.
    Cuts are not looked at. With `free`, groups cost nothing.
    """
    workers, hurry = run.options.workers, bool(np.isfinite(run.time_left()))
    parts: list[tuple[PairSearch, Floats, Ints]] = []
    for types in classes:
        search = PairSearch(run, types, prices, free=free)
        company = 0.5 * search.task.pair.min(axis=1, initial=np.inf)
        starts = _starts(run.batch.kinds, search, near, alone=not wide)
        for begin in range(0, len(starts), STARTS):
            parts.append((search, company, starts[begin : begin + STARTS]))
    if wide and hurry:  # what there is no time for should not always be the same
        np.random.default_rng(len(near)).shuffle(parts)

    def work(job: tuple[PairSearch, Floats, Ints]) -> Columns:
        return no_columns() if run.should_stop() else _descend(*job, wide)

    most = WIDE_SECONDS if wide and hurry else np.inf
    with run.at_most(most), ThreadPoolExecutor(workers) as pool:
        return join(list(pool.map(work, parts)))


def _starts(kinds: int, search: PairSearch, near: Columns, *, alone: bool) -> Ints:
    """Return the groups of `near` that these types could hold by places, and each kind `alone`."""
    place = np.full(kinds + 1, -1)
    place[search.kinds] = np.arange(len(search.kinds))
    width = max(1, int(search.task.most.max(initial=0)))
    sizes = (near.groups >= 0).sum(axis=1)
    groups = np.unique(near.groups[sizes <= width], axis=0)[:, :width]
    known = ((groups < 0) | (place[groups] >= 0)).all(axis=1)
    starts = np.full((int(known.sum()) + alone * len(search.kinds), width), -1)
    starts[: known.sum(), : groups.shape[1]] = place[groups[known]]
    starts[known.sum() :, 0] = np.arange(alone * len(search.kinds))
    return starts


def _descend(search: PairSearch, company: Floats, starts: Ints, wide: bool) -> Columns:
    """Return what comes of these starts; company (K,) as in the kernel's `add_two`."""
    from placer.solvers import descent_kernel as kernel

    task, limit = search.task, STEPS * len(starts)
    found = Found(
        vm_type=np.zeros(limit, np.int64),
        groups=np.full((limit, starts.shape[1]), -1),
        reduced=np.zeros(limit),
        size=np.zeros(1, np.int64),
        least=np.array([np.inf]),
    )
    kernel.descend(task, starts, wide, company, search.rounding, found)
    return search.columns(found)
