"""The groups that better placements may use, listed once and taken for lower ceilings too.

By its reduced cost in a part of all placements, a group says what each placement that uses it costs
at the least.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from placer.solvers.columns import Columns, TogetherIndex, reduced_costs
from placer.solvers.linear_bound import Leaf, LinearBound, Parts
from placer.solvers.pricing import Pricing
from placer.solvers.run import Run

Floats = NDArray[np.float64]

FIRST_SHARE, WIDER = 0.03, 1.6
"""Where the whole gap takes too many groups: the first part of it, and how that grows."""

TRIES = 4
"""How often a first part that takes too many groups is halved."""

GROWTH = 2.0
"""By how much the groups grow from one cutoff to the next."""


@dataclass(frozen=True)
class Listing:
    """Every group that a placement of at most `ceiling` may use.

    parts: of each part of all placements its groups and, for each, the least that placements with
    it cost (n,).
    """

    ceiling: float
    parts: tuple[tuple[Leaf, Columns, Floats], ...]

    def below(self, cutoff: float) -> Parts:
        """Return the parts with the groups that their placements of at most `cutoff` may use."""
        limit = cutoff + 1e-9 * (1.0 + abs(cutoff))
        return [
            (leaf, groups.take(least <= limit))
            for leaf, groups, least in self.parts
            if leaf.bound <= limit
        ]

    def cutoffs(self, few: int) -> list[float]:
        """Return ascending cutoffs, from `few` groups on and up to the ceiling."""
        least = np.sort(np.concatenate([np.zeros(0), *(part[2] for part in self.parts)]))
        found, number = [], float(max(few, 1))
        while number < len(least):
            found.append(min(float(least[int(number)]), self.ceiling))
            number *= GROWTH
        return [*found, self.ceiling]


def list_groups(
    run: Run, pricing: Pricing, linear: LinearBound, ceiling: float, limit: int
) -> Listing | None:
    """Return the groups of placements of at most `ceiling`; None for over `limit` in a part."""
    parts = linear.within_each(pricing, ceiling, limit)
    if parts is None:
        return None
    index = TogetherIndex(run.batch)
    return Listing(
        ceiling,
        tuple(
            (leaf, groups, leaf.bound + reduced_costs(groups, leaf.prices, index))
            for leaf, groups in parts
        ),
    )


def list_lower_part(
    run: Run, pricing: Pricing, linear: LinearBound, ceiling: float, limit: int
) -> Listing | None:
    """Return the groups of the lower part of the gap below `ceiling`, as wide as `limit` lets it.

    That many groups each part of all placements may have; None where even little takes more.
    """
    share, found = FIRST_SHARE, None
    for _ in range(TRIES):
        found = _share(run, pricing, linear, ceiling, limit, share)
        if found is not None or run.should_stop():
            break
        share /= 2.0
    while found is not None and share * WIDER < 1.0 and not run.should_stop():
        share *= WIDER
        wider = _share(run, pricing, linear, ceiling, limit, share)
        if wider is None:
            break
        found = wider
    return found


def too_wide(run: Run, pricing: Pricing, linear: LinearBound, ceiling: float, limit: int) -> bool:
    """Return whether a small part of the gap below `ceiling` says that all of it is over `limit`.

    Groups grow with the gap, and faster than it.
    """
    return _share(run, pricing, linear, ceiling, int(FIRST_SHARE * limit), FIRST_SHARE) is None


def _share(
    run: Run, pricing: Pricing, linear: LinearBound, ceiling: float, limit: int, share: float
) -> Listing | None:
    cutoff = linear.bound + share * (ceiling - linear.bound)
    return list_groups(run, pricing, linear, cutoff, limit)


def settled(cutoff: float) -> float:
    """Return the bound there is once no placement costs less than `cutoff`, rounding included."""
    return cutoff - 1e-9 * abs(cutoff)


def groups_in(parts: Parts) -> int:
    """Return how many groups the parts have, one that is in two of them counted twice."""
    return sum(len(groups) for _, groups in parts)
