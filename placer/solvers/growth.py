"""Pricing beyond enumeration: groups are grown, not listed, and cut by proven bounds."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from placer.solvers.columns import (
    Columns,
    Prices,
    distinct_columns,
    join,
    no_columns,
    reduced_costs,
)
from placer.solvers.compiled import may_compile
from placer.solvers.frontier import Ground
from placer.solvers.group_search import NEGATIVE, GroupSearch
from placer.solvers.pair_descent import descend
from placer.solvers.pair_search import (
    KEPT,
    PairPrices,
    classes_of,
    search_classes,
    searchable,
)
from placer.solvers.pricing import EFFORTS, diverse
from placer.solvers.run import Run

Floats = NDArray[np.float64]

ENOUGH = 30
"""With so many columns at hand no wider beam is tried."""

WIDTHS = (2, 8, 40)
"""Groups grown from each kind at each effort below the full one."""

FEW_TYPES = 10
"""Of more VM types only those that promise most are looked at with little effort."""

BEAMS = (6_000, 60_000, 4_000_000)

EVERY = 1e100
"""More than any group's reduced cost, less than that of a pair which may not share a VM."""


class GrowthPricing:
    """Prices groups of one run without listing them all."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.batch = run.batch
        self._ground = Ground.of(run)
        self._recent: list[Columns] = []
        self._growing = [int(t) for t in np.flatnonzero(run.batch.vms_possible() > 0)]
        self._listed = self._listed_columns()
        self._classes = classes_of(run) if searchable(run) else []

    def least(
        self,
        prices: Prices,
        *,
        free: bool = False,
        effort: int = EFFORTS,
        near: Columns | None = None,
    ) -> tuple[Floats, Columns]:
        """Return a lower bound of each type's least reduced cost (T,), and promising columns.

        Where none is below 0 the bound may be anything above; below the full effort it may be
        minus infinity.
        """
        least = np.full(self.batch.types, np.inf)
        listed = self._reduced(self._listed, prices, free)
        np.minimum.at(least, self._listed.vm_type, listed)
        found = [self._listed.take(diverse(self._listed.groups, listed, self.batch.kinds))]
        compiled = self._compiled()
        if compiled and effort < EFFORTS - 1:
            around = near if near is not None else no_columns()
            found += [self._descended(prices, free, around, effort)]
        if effort == EFFORTS - 1 or not compiled:
            width = WIDTHS[min(effort, EFFORTS - 1)]
            types = self._likely(prices) if effort < EFFORTS - 1 else None
            found += [columns for _, columns in self._searched(prices, free, types, width=width)]
        if effort >= EFFORTS:
            self._deepen(prices, free, least, found, patient=effort > EFFORTS)
        else:
            least[self._growing] = -np.inf
        columns = join(found)
        if len(prices.cut):  # which heuristics do not look at
            columns = columns.take(self._reduced(columns, prices, free) < NEGATIVE)
        self._recent = [*self._recent[-20:], columns]
        return least, columns

    def _deepen(
        self, prices: Prices, free: bool, least: Floats, found: list[Columns], *, patient: bool
    ) -> None:
        """Bound what grows on each type in `least`, and add to what is `found`.

        What a beam drops might hide a column, so it widens until there are some, or none is left.
        """
        if self._compiled():
            self._search_pairs(prices, free, least, found, patient=patient)
            return
        open_types, listed_least = self._growing, least.copy()
        for beam in BEAMS:
            searched = self._searched(prices, free, open_types, beam=beam)
            for t, (bound, columns) in zip(open_types, searched, strict=True):
                least[t] = min(listed_least[t], bound)
                found.append(columns)
            open_types = [t for t in open_types if least[t] < NEGATIVE]
            enough = sum(map(len, found)) >= ENOUGH
            if enough or not open_types or self.run.should_stop():
                return

    def by_member(self, prices: Prices) -> float:
        if not self._compiled():
            return -np.inf
        return min(PairPrices(self.run, types, prices).by_member() for types in self._classes)

    def takes_cuts(self) -> bool:
        return self._compiled()

    def _compiled(self) -> bool:
        """Return whether costs are sums over pairs, and the search for that is compiled."""
        if not self._classes:
            return False
        from placer.solvers import descent_kernel, pair_kernel

        functions = (pair_kernel.search, descent_kernel.descend)
        return all(may_compile(self.run, function) for function in functions)

    def _search_pairs(
        self, prices: Prices, free: bool, least: Floats, found: list[Columns], *, patient: bool
    ) -> None:
        """Bound each type in `least` exactly, and add to what is `found`."""
        result = search_classes(
            self.run, self._classes, prices, NEGATIVE, KEPT, free=free, patient=patient
        )
        assert result is not None
        for types, bound in zip(self._classes, result[0], strict=True):
            least[types.types] = bound
        reduced = self._reduced(result[1], prices, free)
        found.append(result[1].take(diverse(result[1].groups, reduced, self.batch.kinds)))

    def _descended(self, prices: Prices, free: bool, near: Columns, effort: int) -> Columns:
        """Return columns around those in use, two members exchanged at once with some effort."""
        columns = descend(self.run, self._classes, prices, near, wide=effort > 0, free=free)
        columns = distinct_columns(columns)
        reduced = self._reduced(columns, prices, free)
        return columns.take(diverse(columns.groups, reduced, self.batch.kinds))

    def _likely(self, prices: Prices) -> list[int]:
        """Return the types to look at first where there are many that differ in capacity alone."""
        if len(self._growing) <= FEW_TYPES or not self._classes or not self._compiled():
            return self._growing
        found: list[tuple[float, int]] = []
        for types in self._classes:
            worth = PairPrices(self.run, types, prices)
            found += zip(worth.room(worth.rates).tolist(), types.types.tolist(), strict=True)
        return sorted(t for _, t in sorted(found)[:FEW_TYPES])

    def _searched(
        self,
        prices: Prices,
        free: bool,
        types: list[int] | None = None,
        *,
        beam: int | None = None,
        width: int = 1,
    ) -> list[tuple[float, Columns]]:
        """Return for each of `types` a bound of the least reduced cost, and columns.

        Without a beam, `width` groups are grown from each kind, and nothing is bounded.
        """
        types = self._growing if types is None else types

        def search(t: int) -> tuple[float, Columns]:
            if self.run.should_stop():
                return -np.inf, no_columns()
            found = GroupSearch(self._ground, t, prices, free=free)
            if beam is None:
                found.seed(width)
                return -np.inf, found.columns()
            return found.run(0.0, beam), found.columns()

        workers = min(self.run.options.workers, len(types))
        if workers <= 1:
            return [search(t) for t in types]
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(search, types))

    def _listed_columns(self) -> Columns:
        """Return the groups that a table lists: their cost may lie below what growth bounds."""
        parts = []
        for t in self._growing:
            listed = self.batch.interference.listed(t)
            if listed is not None and len(listed):
                enough = np.ones(len(listed), dtype=bool)
                for kind in range(self.batch.kinds):
                    enough &= (listed == kind).sum(axis=1) <= self.batch.replicas[kind]
                rows = listed[enough]
                cost = self.run.costs.cost(t, rows)
                vm_type = np.full(len(rows), t, dtype=np.int32)
                parts.append(Columns(vm_type, rows, cost).take(np.isfinite(cost)))
        return join(parts)

    def _reduced(self, columns: Columns, prices: Prices, free: bool = False) -> Floats:
        reduced = reduced_costs(columns, prices, self._ground.together)
        return reduced - columns.cost if free else reduced

    def quick(self, prices: Prices) -> Columns:
        """Return columns of negative reduced cost among those found of late."""
        recent = join(self._recent)
        reduced = self._reduced(recent, prices)
        return recent.take(diverse(recent.groups, reduced, self.batch.kinds))

    def within(self, prices: Prices, window: float, limit: int) -> Columns | None:
        """Return every group whose reduced cost is at most `window`; None for over `limit`."""
        window = min(window, EVERY)
        if self._compiled():
            result = search_classes(self.run, self._classes, prices, window, limit, thinning=False)
            return None if result is None else result[1]
        found = [self._listed.take(self._reduced(self._listed, prices) <= window)]
        for t in self._growing:
            search = GroupSearch(self._ground, t, prices)
            complete = search.collect(window, limit - sum(map(len, found)))
            if not complete or self.run.should_stop():
                return None
            found.append(search.columns(limited=False))
        return join(found)
