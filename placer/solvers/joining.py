"""What one more replica costs each of many groups at the least: the bound that growth cuts by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from placer.interference.tables import Floats, Groups
from placer.solvers.group_costs import GroupCosts


class JoiningCosts:
    """Lower bounds of what a replica of each of `kinds` (k,) adds to groups on VM type `t`.

    Two bounds for each group and kind: `first`, when it joins, and `later`, which may be summed
    over all that join. They hold in every group made by adding at most so many replicas.
    """

    def __init__(self, costs: GroupCosts, t: int, kinds: NDArray[np.int32], least: Floats) -> None:
        """`least` (K,): what a replica of each kind costs on `t` whatever the company."""
        self._costs, self._t, self._kinds = costs, t, kinds
        self._least = least[kinds]
        self._interference = costs.batch.interference
        self._price = np.append(costs.slowdown_price(t), 0.0)
        pairs = None if costs.has_slo else costs.pair_costs(t)
        self._pairs = None
        if pairs is not None:
            by_pair, base, most_help = pairs
            self._pairs = np.ascontiguousarray(by_pair[:, kinds]), base[kinds], most_help[kinds]

    def of(
        self, groups: Groups, floors: Floats, places: int, begin: int = 0
    ) -> tuple[Floats, Floats]:
        """Return `first` and `later` (n, k) for `groups` (n, d) with `places` still free.

        floors (n, d): a floor of each member's slowdown. Of the kinds, those from `begin` on.
        """
        shape = (len(groups), len(self._kinds) - begin)
        if not groups.shape[1] or not self._costs.company_matters:
            same = np.broadcast_to(self._least[begin:], shape)
            return same, same
        if self._pairs is not None:
            by_pair, base, most_help = (part[..., begin:] for part in self._pairs)
            total = by_pair[groups[:, 0]]
            for member in groups.T[1:]:
                total += by_pair[member]
            total += base + most_help * max(places - 1, 0)
            return total, total
        return self._by_slowdown(groups, floors, places, self._kinds[begin:])

    def _by_slowdown(
        self, groups: Groups, floors: Floats, places: int, kinds: NDArray[np.int32]
    ) -> tuple[Floats, Floats]:
        t = self._t
        slowdown = self._interference.joining(t, groups, places)[:, kinds]
        joins = np.broadcast_to(kinds, slowdown.shape)
        own = self._costs.member_cost(t, joins, slowdown, slowdown)
        first = own + self._interference.rise(t, groups, floors, self._price[groups])[:, kinds]
        return first, (first if self._interference.rises_add else own)
