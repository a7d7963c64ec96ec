"""A proven bound from the linear master, in parts, and groups that better placements may use."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from placer.solvers.columns import Columns, Prices, distinct_columns, join
from placer.solvers.master import Rows
from placer.solvers.pricing import Pricing

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Leaf:
    """A part of all placements: between these numbers of VMs, by type and in all (T + 1,).

    bound, and the prices that prove it; used (T + 1,): how many VMs its linear master uses;
    cut: whether cuts were looked for here.
    """

    bound: float
    prices: Prices
    lower: Floats
    upper: Floats
    used: Floats
    cut: bool = False

    def limited(self) -> bool:
        """Return whether this is less than the whole."""
        return bool((self.lower > 0).any() or np.isfinite(self.upper).any())

    def rows(self, whole: Rows) -> Rows:
        """Return the master's rows that keep placements in this part."""
        return whole.counting(self.lower, self.upper) if self.limited() else whole


Parts = list[tuple[Leaf, Columns]]


@dataclass(frozen=True)
class LinearBound:
    """What column generation found: bound, the prices that prove it, columns, and LP values.

    guide: the master's own last prices without cuts, which say what is good better than those of a
    weak bound. leaves: the parts of a tree over counts, where there is one, each with its bound.
    """

    bound: float
    prices: Prices
    guide: Prices
    columns: Columns
    values: Floats
    converged: bool
    infeasible: bool = False
    leaves: tuple[Leaf, ...] = ()

    def parts(self) -> list[Leaf]:
        """Return the parts that make up all placements, those of the least bound first."""
        if self.leaves:
            return sorted(self.leaves, key=lambda leaf: leaf.bound)
        size = len(self.prices.vm_type) + 1
        none, any_number = np.zeros(size), np.full(size, np.inf)
        return [Leaf(self.bound, self.prices, none, any_number, none)]

    def within_each(self, pricing: Pricing, ceiling: float, limit: int) -> Parts | None:
        """Return parts with the groups that their placements of at most `ceiling` may use.

        Parts that have no such placement are left out; None where a part has over `limit` groups.
        """
        found = []
        for leaf in self.parts():
            if leaf.bound <= ceiling:
                groups = pricing.within(leaf.prices, ceiling - leaf.bound, limit)
                if groups is None:
                    return None
                found.append((leaf, groups))
        return found

    def within(self, pricing: Pricing, ceiling: float, limit: int) -> Columns | None:
        """Return all groups that a placement of at most `ceiling` may use, None if over `limit`."""
        found = self.within_each(pricing, ceiling, limit)
        if found is None:
            return None
        every = join([groups for _, groups in found])
        every = every if len(found) == 1 else distinct_columns(every)
        return every if len(every) <= limit else None
