"""Boosted trees that are grown monotone, asked in batches, explained, and written as JSON."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

MANY = 20_000  # rows from which a second thread pays


@dataclass(frozen=True)
class Trees:
    """The boosted trees of one form of a prediction, for every degree and VM type."""

    booster: Any

    def margin(self, features: np.ndarray) -> np.ndarray:
        """Return the sum of the trees (n,) for float32 features (n, columns)."""
        if not len(features):
            return np.zeros(0)
        self.booster.set_param(
            {"nthread": 1 if len(features) < MANY else min(2, os.cpu_count() or 1)}
        )
        found = self.booster.inplace_predict(features, predict_type="margin")
        return np.asarray(found, dtype=np.float64)

    def contributions(self, features: np.ndarray) -> np.ndarray:
        """Return what each feature adds to the sum of the trees (n, columns + 1).

        Shapley values; the last column is the same for every row, and a row adds up to the sum of
        the trees.
        """
        import xgboost

        data = xgboost.DMatrix(features, nthread=1)
        return np.asarray(self.booster.predict(data, pred_contribs=True), dtype=np.float64)

    def to_json(self) -> Any:
        """Return XGBoost's own JSON."""
        return json.loads(bytes(self.booster.save_raw("json")))

    @staticmethod
    def from_json(data: Any) -> Trees:
        """Build from XGBoost's own JSON; raises ValueError."""
        import xgboost

        booster = xgboost.Booster({"nthread": min(2, os.cpu_count() or 1)})
        try:
            booster.load_model(bytearray(json.dumps(data).encode()))
        except xgboost.core.XGBoostError as error:
            raise ValueError(str(error).splitlines()[0]) from None
        return Trees(booster)
