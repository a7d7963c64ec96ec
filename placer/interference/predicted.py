"""Interference by a trained predictor, as the arrays that every solver sees."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from placer.interference.asked_once import AskedOnce
from placer.interference.tables import Floats, Groups

if TYPE_CHECKING:
    from placer.interference.predictor import BoundPredictor


class Predicted:
    """Slowdown by a trained predictor, which never falls when a co-runner is added.

    The predictor is asked for each group once, however often a solver looks at it.
    """

    rises_add = False  # the pairs of two that join may be all that a member's slowdown shows

    def __init__(self, bound: BoundPredictor, quantile: float | None, kinds: int) -> None:
        self._bound = bound
        self._quantile = quantile
        self._kinds = kinds
        self._pair_slowdown: dict[int, tuple[Floats, Floats]] = {}
        self._known = AskedOnce(kinds, self._bound.slowdown)

    def slowdown(self, t: int, groups: Groups) -> Floats:
        return self._known.values(t, groups)

    def upper(self, t: int, groups: Groups, now: Floats | None = None) -> Floats:
        mean = self.slowdown(t, groups) if now is None else now
        if self._quantile is None:
            return mean
        return self._bound.upper_of(t, groups, mean, self._quantile)

    def floor(
        self, t: int, groups: Groups, more: NDArray[np.int_], now: Floats | None = None
    ) -> Floats:
        return self.slowdown(t, groups) if now is None else now

    def upper_floor(
        self, t: int, groups: Groups, more: NDArray[np.int_], now: Floats | None = None
    ) -> Floats:
        return self.upper(t, groups) if now is None else now

    def joining(self, t: int, groups: Groups, more: int) -> Floats:
        """The worst of the pairs with those already there: more company never makes it better."""
        _, newcomer = self._pairs(t)
        worst = np.ones((len(groups), self._kinds))
        for member in groups.T:
            np.maximum(worst, newcomer[member], out=worst)
        return worst

    def rise(self, t: int, groups: Groups, floors: Floats, price: Floats) -> Floats:
        """A member is slowed at least as in the pair that it makes with the one that joins."""
        host, _ = self._pairs(t)
        result = np.zeros((len(groups), self._kinds))
        for member, floor, cost in zip(groups.T, floors.T, price.T, strict=True):
            now = np.where(np.isfinite(floor), floor, np.inf)[:, None]
            result += cost[:, None] * np.maximum(host[member] - now, 0.0)
        return result

    def pair_sum(self, t: int) -> tuple[Floats, Floats] | None:
        return None

    def _pairs(self, t: int) -> tuple[Floats, Floats]:
        """Return pairs' slowdowns (K + 1, K), row who is there: of that one, of who joins."""
        if t not in self._pair_slowdown:
            there, joins = np.triu_indices(self._kinds)
            slowdown = self.slowdown(t, np.column_stack([there, joins]).astype(np.int32))
            host = np.ones((self._kinds + 1, self._kinds))
            newcomer = host.copy()
            host[there, joins], newcomer[there, joins] = slowdown[:, 0], slowdown[:, 1]
            host[joins, there], newcomer[joins, there] = slowdown[:, 1], slowdown[:, 0]
            self._pair_slowdown[t] = np.nan_to_num(host, nan=1.0), np.nan_to_num(newcomer, nan=1.0)
        return self._pair_slowdown[t]

    def listed(self, t: int) -> Groups | None:
        return None

    def only_listed(self) -> bool:
        return False
