"""Upper bounds on slowdown by cross-conformal calibration: by degree, and wider for strangers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from placer.errors import InputError

MOST_KEPT = 2000
FEW = 40  # with fewer held-out residuals a degree's own tail is not trusted alone
BIN, MOST_BINS, SHRINKAGE = 50, 8, 20.0  # held-out rows a bin of the usual error, at least
LEAST_ERROR = 1e-3
# How much wider a bound is where nothing could be held out to measure it.
UNMEASURED = {"model": 1.5, "vm_type": 2.0, "degree": 1.2}
LEAST_GROWTH, MOST_GROWTH, MOST_STEPS = 1.05, 2.0, 8


@dataclass(frozen=True)
class Scores:
    """Sorted held-out scores, thinned to at most 2000; `count` is how many there were."""

    values: np.ndarray
    count: int

    @staticmethod
    def of(values: np.ndarray) -> Scores:
        """Build from scores (n,) in any order; those that are not finite are left out."""
        kept = np.sort(values[np.isfinite(values)])
        count = len(kept)
        if count > MOST_KEPT:
            kept = kept[np.ceil(np.linspace(0, count - 1, MOST_KEPT)).astype(int)]
        return Scores(kept, count)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {"count": self.count, "scores": self.values.tolist()}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Scores:
        """Build from `to_json` data; raises KeyError, TypeError or ValueError."""
        values = np.asarray(data["scores"], dtype=float)
        if values.ndim != 1 or not np.isfinite(values).all():
            raise ValueError("scores are not a list of finite numbers")
        return Scores(values, int(data["count"]))


@dataclass(frozen=True)
class Spread:
    """The usual size of log(measured / predicted): `size` (k,) at the log slowdowns `at` (k,)."""

    at: np.ndarray
    size: np.ndarray

    @staticmethod
    def of(predicted: np.ndarray, error: np.ndarray) -> Spread:
        """Build from predicted slowdowns (n,) and log errors (n,), of which there is at least one.

        The mean absolute error of bins of equal count, drawn towards that of all.
        """
        order = np.argsort(predicted, kind="stable")
        log, size = np.log(predicted)[order], np.abs(error)[order]
        bins = np.array_split(np.arange(len(log)), int(np.clip(len(log) // BIN, 1, MOST_BINS)))
        pooled = size.mean()
        found = [(size[one].sum() + SHRINKAGE * pooled) / (len(one) + SHRINKAGE) for one in bins]
        at = np.array([float(np.median(log[one])) for one in bins])
        return Spread(at, np.maximum(found, LEAST_ERROR))

    def usual(self, predicted: np.ndarray) -> np.ndarray:
        """Return the usual size of the log error at predicted slowdowns, of the same shape."""
        return np.interp(np.log(predicted), self.at, self.size)

    def bound(self, mean: np.ndarray, wide: np.ndarray) -> np.ndarray:
        """Return exp(log(mean) + wide * usual error), made to rise with `mean` and with `wide`.

        Where the error shrinks faster than the mean grows, the bound of a smaller mean holds on.
        """
        log = np.log(mean)
        found = log + wide * self.usual(mean)
        for at, size in zip(self.at, self.size, strict=True):
            found = np.where(log >= at, np.maximum(found, at + wide * size), found)
        return np.maximum(np.exp(found), mean)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {"at": self.at.tolist(), "size": self.size.tolist()}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Spread:
        """Build from `to_json` data; raises KeyError, TypeError or ValueError."""
        at, size = np.asarray(data["at"], dtype=float), np.asarray(data["size"], dtype=float)
        if at.ndim != 1 or not len(at) or at.shape != size.shape or not (size > 0).all():
            raise ValueError("the usual errors are not two lists of one length")
        return Spread(at, size)


@dataclass(frozen=True)
class Calibration:
    """Held-out scores: log(measured / predicted) over the usual size of that error.

    `degrees` are those of groups that were held out, by degree. `strange` has those of held-out
    models ("model") and VM types ("vm_type"), and of the largest degree ("degree") when it was
    left out of the fit.
    """

    spread: Spread
    degrees: dict[int, Scores]
    strange: dict[str, Scores] = field(default_factory=dict)

    @staticmethod
    def none() -> Calibration:
        """Return the calibration that nothing was held out for: bounds are the means."""
        return Calibration(Spread(np.zeros(1), np.ones(1)), {})

    @staticmethod
    def of(
        measured: np.ndarray,
        predicted: np.ndarray,
        degree: np.ndarray,
        strange: Mapping[str, np.ndarray] | None = None,
    ) -> Calibration:
        """Build from held-out slowdowns, predictions and degrees (n,), NaN where not predicted.

        `strange` has further predictions (n,) by sort of stranger.
        """
        error = np.log(measured / predicted)
        known = np.isfinite(error)
        if not known.any():
            return Calibration.none()
        spread = Spread.of(predicted[known], error[known])
        score = error / spread.usual(predicted)
        degrees = {int(one): Scores.of(score[known & (degree == one)])
                   for one in np.unique(degree[known])}  # fmt: skip
        found = {name: Scores.of(np.log(measured / other) / spread.usual(other))
                 for name, other in (strange or {}).items()}  # fmt: skip
        return Calibration(spread, degrees, {n: one for n, one in found.items() if one.count})

    def factors(self, quantile: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the calibrated degrees, ascending, and the score bound of each, never falling.

        Raises InputError where `quantile` is not between 0 and 1 (both excluded).
        """
        if not 0.0 < quantile < 1.0:
            raise InputError(f"found quantile {quantile!r}; expected a number between 0 and 1")
        degrees = np.array(sorted(self.degrees), dtype=int)
        if not len(degrees):
            return np.array([2]), np.array([0.0])
        pooled = conformal(list(self.degrees.values()), quantile)
        bounds = []
        for one in degrees:
            own = conformal([self.degrees[one]], quantile)
            bounds.append(max(own, pooled) if self.degrees[one].count < FEW else own)
        return degrees, np.maximum.accumulate(np.maximum(bounds, 0.0))

    def widening(self, name: str, quantile: float) -> float:
        """Return the factor, 1 or more, of the score bound for strangers of one sort.

        `name` is "model", "vm_type" or "degree" (for each step above the largest degree).
        """
        if name not in self.strange or not self.degrees:
            return UNMEASURED[name]
        known = list(self.degrees.values())
        if name == "degree":
            known = [self.degrees[max(self.degrees)]]
        usual = max(conformal(known, quantile), 1e-3)
        ratio = conformal([self.strange[name]], quantile) / usual
        if name == "degree":
            return float(np.clip(ratio, LEAST_GROWTH, MOST_GROWTH))
        return max(ratio, 1.0)

    def upper(
        self,
        mean: np.ndarray,
        degree: np.ndarray,
        quantile: float,
        strange_model: np.ndarray | bool = False,
        strange_vm: np.ndarray | bool = False,
    ) -> np.ndarray:
        """Return the bound for predicted slowdowns `mean` at `degree`, of the same shape.

        It never falls as either grows or as a stranger joins, is never below the mean, and is the
        mean where the degree is 1. `strange_model` says where a member was never measured in a
        group, `strange_vm` where the VM type was not.
        """
        degrees, bounds = self.factors(quantile)
        place = np.clip(np.searchsorted(degrees, degree, side="right") - 1, 0, len(degrees) - 1)
        wide = bounds[place]
        ratio = np.where(strange_model, self.widening("model", quantile), 1.0)
        ratio = np.where(strange_vm, np.maximum(ratio, self.widening("vm_type", quantile)), ratio)
        above = np.clip(np.asarray(degree) - degrees[-1], 0, MOST_STEPS)
        wide = wide * ratio * self.widening("degree", quantile) ** above
        return np.where(degree > 1, self.spread.bound(mean, wide), mean)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            "spread": self.spread.to_json(),
            "degrees": {str(degree): one.to_json() for degree, one in self.degrees.items()},
            "strange": {name: one.to_json() for name, one in self.strange.items()},
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Calibration:
        """Build from `to_json` data; raises KeyError, TypeError or ValueError."""
        degrees = {int(d): Scores.from_json(one) for d, one in data["degrees"].items()}
        strange = {str(n): Scores.from_json(one) for n, one in data["strange"].items()}
        if not strange.keys() <= UNMEASURED.keys() or not all(s.count for s in degrees.values()):
            raise ValueError("scores of an unknown sort, or none")
        return Calibration(Spread.from_json(data["spread"]), degrees, strange)


def conformal(parts: list[Scores], quantile: float) -> float:
    """Return the conformal bound: the ceil((n + 1) q)-th smallest of n scores."""
    values = np.concatenate([one.values for one in parts])
    count = sum(one.count for one in parts)
    weight = np.concatenate(
        [np.full(len(one.values), one.count / max(len(one.values), 1)) for one in parts]
    )
    order = np.argsort(values, kind="stable")
    rank = min(math.ceil((count + 1) * quantile), count)
    reached = np.cumsum(weight[order])
    place = min(int(np.searchsorted(reached, rank - 1e-6)), len(values) - 1)
    return float(values[order][place])
