"""Where columns come from: a list of all groups."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from placer.solvers.batch import Batch
from placer.solvers.columns import Columns, Prices, TogetherIndex, holds_two

Floats = NDArray[np.float64]

EFFORTS = 3
"""The effort from which on what is returned bounds the least reduced cost.

With one more, a search is not left unfinished because it has found something.
"""

PER_ROUND = 400
PER_KIND = 12
HOT = 40_000


class Pricing(Protocol):
    """Finds groups of negative reduced cost, and proves how negative the least is."""

    def least(
        self,
        prices: Prices,
        *,
        free: bool = False,
        effort: int = EFFORTS,
        near: Columns | None = None,
    ) -> tuple[Floats, Columns]:
        """Return a lower bound of each VM type's least reduced cost (T,), and promising columns.

        Others may be looked for around those of `near`, which are in use. Where none is below 0
        the bound may be anything above; below the full effort it may be minus infinity. With
        `free`, groups cost nothing: that is how infeasibility is proved.
        """

    def quick(self, prices: Prices) -> Columns:
        """Return columns of negative reduced cost among those that were promising before."""

    def within(self, prices: Prices, window: float, limit: int) -> Columns | None:
        """Return every group whose reduced cost is at most `window`; None for over `limit`."""

    def by_member(self, prices: Prices) -> float:
        """Return a quick lower bound of any group's reduced cost per member, weak as it may be."""

    def takes_cuts(self) -> bool:
        """Return whether what subset-row cuts say of groups is looked at."""


class PoolPricing:
    """Prices every group of a list that holds them all, so what it finds is exact."""

    def by_member(self, prices: Prices) -> float:
        return float(min(self._reduced(prices).min(initial=np.inf), 0.0))

    def takes_cuts(self) -> bool:
        return True

    def __init__(self, batch: Batch, pool: Columns) -> None:
        self.batch = batch
        self.pool = pool
        self._cut_rows: dict[tuple[int, ...], NDArray[np.intp]] = {}
        index = TogetherIndex(batch)
        self._held = index.held(pool.groups) if index.rules else None
        self._start = np.searchsorted(pool.vm_type, np.arange(batch.types + 1))
        self._members = [np.ascontiguousarray(m, dtype=np.intp) for m in pool.groups.T]
        self._hot = np.zeros(0, dtype=np.intp)

    def least(
        self,
        prices: Prices,
        *,
        free: bool = False,
        effort: int = EFFORTS,
        near: Columns | None = None,
    ) -> tuple[Floats, Columns]:
        reduced = self._reduced(prices)
        if free:
            reduced -= self.pool.cost
        least = np.full(self.batch.types, np.inf)
        for t in range(self.batch.types):
            part = reduced[self._start[t] : self._start[t + 1]]
            if len(part):
                least[t] = part.min()
        self._hot = lowest(reduced, HOT)
        return least, self._chosen(self._hot, reduced[self._hot])

    def quick(self, prices: Prices) -> Columns:
        return self._chosen(self._hot, self._reduced(prices, self._hot))

    def within(self, prices: Prices, window: float, limit: int) -> Columns | None:
        rows = np.flatnonzero(self._reduced(prices) <= window)
        return self.pool.take(rows) if len(rows) <= limit else None

    def _reduced(self, prices: Prices, rows: NDArray[np.intp] | None = None) -> Floats:
        worth = np.append(prices.kind, 0.0)
        everything = slice(None) if rows is None else rows
        result: Floats = self.pool.cost[everything] - prices.vm_type[self.pool.vm_type[everything]]
        for members in self._members:
            result -= worth[members[everything]]
        if self._held is not None:
            result -= self._held[everything] @ prices.together
        if len(prices.cut) and rows is not None:
            result -= holds_two(self.pool.groups[rows], prices.triples) @ prices.cut
        elif len(prices.cut):
            for triple, worth in zip(prices.triples.tolist(), prices.cut.tolist(), strict=True):
                result[self._holding(tuple(triple))] -= worth
        return result

    def _holding(self, triple: tuple[int, ...]) -> NDArray[np.intp]:
        """Return the rows of the pool that hold two or more of the kinds of `triple`."""
        if triple not in self._cut_rows:
            held = holds_two(self.pool.groups, np.array([triple]))[:, 0]
            self._cut_rows[triple] = np.flatnonzero(held)
        return self._cut_rows[triple]

    def _chosen(self, rows: NDArray[np.intp], reduced: Floats) -> Columns:
        chosen = diverse(self.pool.groups[rows], reduced, self.batch.kinds)
        return self.pool.take(rows[chosen])


def lowest(values: Floats, most: int) -> NDArray[np.intp]:
    """Return the indices of the `most` lowest values."""
    if len(values) <= most:
        return np.arange(len(values))
    return np.argpartition(values, most)[:most]


def diverse(groups: NDArray[np.int32], reduced: Floats, kinds: int) -> NDArray[np.intp]:
    """Return rows of negative reduced cost, lowest first, no kind in too many of them."""
    order = lowest(reduced, 8 * PER_ROUND)
    order = order[reduced[order] < 0]
    order = order[np.argsort(reduced[order], kind="stable")]
    used = np.zeros(kinds, dtype=np.int64)
    chosen = []
    for row, members in zip(order.tolist(), groups[order].tolist(), strict=True):
        distinct = {k for k in members if k >= 0}
        if all(used[k] < PER_KIND for k in distinct):
            chosen.append(row)
            for k in distinct:
                used[k] += 1
            if len(chosen) >= PER_ROUND:
                break
    return np.array(chosen, dtype=np.intp)
