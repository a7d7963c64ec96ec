"""The second form of a prediction, from what is known of models and VMs and no names of models.

slowdown = 1 + (degree - 1) * exp(trees), the trees telling what one co-runner adds on the average.
It knows less than the contention where a model was measured in many groups, and carries further
where a model, or its whole family, was not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from placer.interference.features import Columns, OfCoRunners, OfTarget, shared_quantities
from placer.interference.profiles import Profiles, Rows, Vocabulary
from placer.interference.regressors import regressors
from placer.interference.trees import Trees

LEAST = 0.02  # what a co-runner adds at the least, so that its logarithm is learned
# Regressors that tell families apart more than they tell of them; so do these quantities of
# co-runners, where how latencies change from one VM type to another tells more.
FAMILY_MARKS = ("gain from the next slower VM", "gain on the next faster VM", "model batch")
MAGNITUDES = ("solo latency", "solo throughput", "throughput_rps", "batch")


@dataclass(frozen=True)
class Plain:
    """What the rows of one set of profiles share in this form, worked out once."""

    target: OfTarget
    co_runners: OfCoRunners

    @staticmethod
    def of(vocabulary: Vocabulary, profiles: Profiles) -> Plain:
        """Build for the profiles."""
        mine, its_vm, its_load = "the target's profile", "the VM type", "the target's load"
        columns = Columns()
        names, table = regressors(vocabulary, profiles)
        for place, name in enumerate(names):
            if name not in FAMILY_MARKS:
                driver = its_vm if name.startswith("vm ") else mine
                columns.add(driver, name, table[:, :, place])
        columns.add(its_load, "load", profiles.load)
        columns.add(its_load, "closed loop", profiles.closed[:, None])
        family = f"{vocabulary.family_column} is "
        with np.errstate(divide="ignore", invalid="ignore"):
            left_out = MAGNITUDES if len(vocabulary.vm_types) > 1 else ()
            quantities = [
                (name, table)
                for name, table in shared_quantities(vocabulary, profiles)
                if not name.startswith(family) and name not in left_out
            ]
            for place, name in enumerate(vocabulary.vm_types):
                beside = profiles.elsewhere[:, [place]]
                quantities.append((f"solo latency on {name} over this", beside / profiles.solo))
        return Plain(
            OfTarget.of(columns, profiles.solo.shape), OfCoRunners.of(quantities, "sum", "max")
        )

    def columns(self, rows: Rows) -> Columns:
        """Return the feature columns of the rows; those of co-runners rise with every co-runner."""
        columns = Columns()
        self.target.add(columns, rows)
        self.co_runners.add(columns, rows)
        return columns


def excess_goal(slowdown: np.ndarray, degree: np.ndarray) -> np.ndarray:
    """Return the logarithm (n,) of what each co-runner adds on the average, not below LEAST."""
    return np.log(np.maximum((slowdown - 1.0) / (degree - 1.0), LEAST))


@dataclass(frozen=True)
class Excess:
    """The trees, and the logarithm `base` that they correct."""

    trees: Trees
    base: float

    def log_slowdown(self, features: np.ndarray, degree: np.ndarray) -> np.ndarray:
        """Return log(1 + (degree - 1) exp(base + trees)) (n,) for float32 features (n, columns)."""
        return grown(degree, self.base + self.trees.margin(features))

    def contributions(self, features: np.ndarray, degree: np.ndarray) -> np.ndarray:
        """Return what each feature adds to the log slowdown (n, columns + 1).

        The Shapley values of the trees, scaled so that a row adds up to the log slowdown; the last
        column is that of a usual target in company of this degree.
        """
        shapley = self.trees.contributions(features)
        usual = grown(degree, self.base + shapley[:, -1])
        whole = grown(degree, self.base + shapley.sum(axis=1))
        moved = shapley[:, :-1].sum(axis=1)
        scale = np.divide(whole - usual, moved, out=np.zeros(len(moved)), where=moved != 0.0)
        return np.column_stack([shapley[:, :-1] * scale[:, None], whole - (moved * scale)])

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {"base": self.base, "trees": self.trees.to_json()}

    @staticmethod
    def from_json(data: Any) -> Excess:
        """Build from `to_json` data; raises KeyError, TypeError or ValueError."""
        base = float(data["base"])
        if not np.isfinite(base):
            raise ValueError("base is not finite")
        return Excess(Trees.from_json(data["trees"]), base)


def grown(degree: np.ndarray, log_each: np.ndarray) -> np.ndarray:
    """Return log(1 + (degree - 1) exp(log_each)) (n,)."""
    return np.log1p((degree - 1.0) * np.exp(np.minimum(log_each, 30.0)))
