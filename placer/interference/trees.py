"""The boosted trees, with the form around them that holds for every co-location degree."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

MANY = 20_000  # rows from which a second thread pays


@dataclass(frozen=True)
class Trees:
    """The boosted trees with the form around them."""

    booster: Any
    start_mix: float

    def slowdown(
        self, features: np.ndarray, overhead: np.ndarray, degree: np.ndarray
    ) -> np.ndarray:
        """Return 1 + start * exp(trees) (n,) for float32 features (n, columns)."""
        if not len(features):
            return np.ones(0)
        self.booster.set_param(
            {"nthread": 1 if len(features) < MANY else min(2, os.cpu_count() or 1)}
        )
        margin = self.booster.inplace_predict(features, predict_type="margin")
        begin = start(overhead, degree, self.start_mix)
        return 1.0 + begin * np.exp(margin.astype(np.float64))

    def to_json(self) -> Any:
        """Return XGBoost's own JSON."""
        return json.loads(bytes(self.booster.save_raw("json")))

    @staticmethod
    def from_json(data: Any, start_mix: float) -> Trees:
        """Build from XGBoost's own JSON; raises ValueError."""
        import xgboost

        booster = xgboost.Booster({"nthread": min(2, os.cpu_count() or 1)})
        try:
            booster.load_model(bytearray(json.dumps(data).encode()))
        except xgboost.core.XGBoostError as error:
            raise ValueError(str(error).splitlines()[0]) from None
        return Trees(booster, start_mix)


def start(overhead: np.ndarray, degree: np.ndarray, mix: float) -> np.ndarray:
    """Return the overhead (n,) before the trees: a geometric mean that no co-runner can lower."""
    return overhead**mix * (degree - 1.0) ** (1.0 - mix)
