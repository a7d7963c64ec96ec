"""Predictors that learned from different parts of what was measured, and where they disagree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from placer.interference.measurements import Measurements
from placer.interference.training import Settings
from placer.measure.dataset import Group

if TYPE_CHECKING:
    from placer.interference.predictor import Predictor

MEMBERS = 6
LIGHT = replace(
    Settings(),
    trees=60,
    learning_rate=0.1,
    encoding_folds=3,
    unseen_weight=0.0,
    calibration_folds=0,
    share=0.0,
    firmness=1.0,  # one fit a member, since there is one committee for every few runs
)


class Committee(Protocol):
    """Predictors that learned from different parts of what is known."""

    def slowdowns(self, groups: Sequence[Group]) -> np.ndarray:
        """Return slowdowns (members, groups, width), members of a group as in `Group.key`."""


class Bootstrapped:
    """A committee trained on bootstrap resamples of the runs; the first member saw all of them.

    Bagging for query by committee after Abe and Mamitsuka (ICML 1998).
    """

    def __init__(self, predictors: Sequence[Predictor]) -> None:
        self.predictors = list(predictors)

    @staticmethod
    def train(known: Measurements, seed: int = 0, members: int = MEMBERS) -> Bootstrapped:
        """Train on `known`. Raises InputError where there is no shared run to learn from."""
        from placer.interference.predictor import Predictor

        random = np.random.default_rng(seed)
        runs = sorted(groups_of(known))
        predictors = []
        for member in range(members):
            drawn = set(random.choice(runs, len(runs))) if member and runs else set(runs)
            predictors.append(
                Predictor.train(known.with_runs(drawn), seed=seed + member, settings=LIGHT)
            )
        return Bootstrapped(predictors)

    def slowdowns(self, groups: Sequence[Group]) -> np.ndarray:
        """Return slowdowns (members, groups, width), members of a group as in `Group.key`."""
        return np.stack([slowdowns(one, groups) for one in self.predictors])


def slowdowns(predictor: Predictor, groups: Sequence[Group]) -> np.ndarray:
    """Return predicted slowdowns (groups, width) in the order of `Group.key`, NaN in padding."""
    from placer.interference.predictor import ModelProfile, VmTypeProfile

    kinds = sorted({one for group in groups for one in group.key[1]}, key=rank)
    vms = sorted({group.vm_type for group in groups})
    bound = predictor.bind(
        [ModelProfile(model, rate) for model, rate in kinds], [VmTypeProfile(vm) for vm in vms]
    )
    places = {kind: place for place, kind in enumerate(kinds)}
    asked = np.full((len(groups), max((len(g.models) for g in groups), default=0)), -1)
    for row, group in zip(asked, groups, strict=True):
        row[: len(group.models)] = [places[one] for one in group.key[1]]
    found = np.full(asked.shape, np.nan)
    for place, vm in enumerate(vms):
        here = np.array([group.vm_type == vm for group in groups])
        found[here] = bound.slowdown(place, asked[here])
    return found


def rank(member: tuple[str, float | None]) -> tuple[str, float]:
    """Return what members are sorted by, as in `Group.key`."""
    return member[0], member[1] or 0.0


def groups_of(measurements: Measurements) -> dict[str, Group]:
    """Return the group of each shared run."""
    rows = measurements.rows[measurements.rows["degree"] > 1]
    parts: dict[str, tuple[str, list[str], list[float | None]]] = {}
    for run, vm, model, rate in zip(
        rows["run"], rows["vm_type"], rows["model"], rows["rate_rps"], strict=True
    ):
        _, models, rates = parts.setdefault(run, (vm, [], []))
        models.append(model)
        rates.append(None if np.isnan(rate) else float(rate))
    return {run: Group(vm, tuple(ms), tuple(rs)) for run, (vm, ms, rs) in parts.items()}
