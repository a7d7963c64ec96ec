"""Upper bounds on slowdown by cross-conformal calibration, by co-location degree."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from placer.errors import InputError

MOST_KEPT = 2000
FEW = 40  # with fewer held-out residuals a degree's own tail is not trusted alone
# Relative error grows with the share of the latency that interference makes up; this is what is
# left where there is none.
BASE_SCALE = 0.1


@dataclass(frozen=True)
class Calibration:
    """Sorted held-out scores by degree: log(measured / predicted) over the error's usual scale.

    `counts` is how many there were before they were thinned to at most 2000.
    """

    scores: dict[int, np.ndarray]
    counts: dict[int, int]

    @staticmethod
    def fit(measured: np.ndarray, predicted: np.ndarray, degree: np.ndarray) -> Calibration:
        """Build from held-out slowdowns and their predictions, each (n,)."""
        score = np.log(measured / predicted) / scale(predicted)
        scores, counts = {}, {}
        for one in np.unique(degree):
            values = np.sort(score[degree == one])
            counts[int(one)] = len(values)
            if len(values) > MOST_KEPT:
                place = np.ceil(np.linspace(0, len(values) - 1, MOST_KEPT)).astype(int)
                values = values[place]
            scores[int(one)] = values
        return Calibration(scores, counts)

    def factors(self, quantile: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the calibrated degrees, ascending, and the score bound of each, never falling.

        Raises InputError where `quantile` is not between 0 and 1 (both excluded).
        """
        if not 0.0 < quantile < 1.0:
            raise InputError(f"found quantile {quantile!r}; expected a number between 0 and 1")
        degrees = np.array(sorted(self.scores), dtype=int)
        if not len(degrees):
            return np.array([2]), np.array([0.0])
        pooled = self._bound(list(self.scores), quantile)
        bounds = []
        for one in degrees:
            own = self._bound([int(one)], quantile)
            bounds.append(max(own, pooled) if self.counts[int(one)] < FEW else own)
        return degrees, np.maximum.accumulate(np.maximum(bounds, 0.0))

    def _bound(self, degrees: list[int], quantile: float) -> float:
        """Return the conformal bound: the ceil((n + 1) q)-th smallest of n scores."""
        values = np.concatenate([self.scores[one] for one in degrees])
        count = sum(self.counts[one] for one in degrees)
        weight = np.concatenate(
            [np.full(len(self.scores[d]), self.counts[d] / len(self.scores[d])) for d in degrees]
        )
        order = np.argsort(values, kind="stable")
        rank = min(math.ceil((count + 1) * quantile), count)
        reached = np.cumsum(weight[order])
        place = min(int(np.searchsorted(reached, rank - 1e-6)), len(values) - 1)
        return float(values[order][place])

    def upper(self, mean: np.ndarray, degree: np.ndarray, quantile: float) -> np.ndarray:
        """Return the bound for predicted slowdowns `mean` at `degree`, of the same shape.

        It never falls as either grows, is never below the mean, and is the mean where the degree
        is 1. Beyond the largest degree calibrated the factor of that one is used.
        """
        degrees, bounds = self.factors(quantile)
        place = np.clip(np.searchsorted(degrees, degree, side="right") - 1, 0, len(degrees) - 1)
        return np.where(degree > 1, mean * np.exp(bounds[place] * scale(mean)), mean)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            str(degree): {"count": self.counts[degree], "scores": values.tolist()}
            for degree, values in self.scores.items()
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Calibration:
        """Build from `to_json` data; raises KeyError, TypeError or ValueError."""
        scores = {int(d): np.asarray(one["scores"], dtype=float) for d, one in data.items()}
        if any(v.ndim != 1 or not len(v) or not np.isfinite(v).all() for v in scores.values()):
            raise ValueError("scores are not lists of finite numbers")
        return Calibration(scores, {int(d): int(one["count"]) for d, one in data.items()})


def scale(predicted: np.ndarray) -> np.ndarray:
    """Return the usual size of the relative error at predicted slowdowns of 1 or more."""
    return BASE_SCALE + 1.0 - 1.0 / np.maximum(predicted, 1.0)
