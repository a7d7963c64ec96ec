"""A predictor that answers for given models and VM types, for whole batches of groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from placer.errors import InputError, near_name
from placer.interference.explanation import explain_rows
from placer.interference.profiles import ModelProfile, Profiles, Rows, VmTypeProfile

if TYPE_CHECKING:
    import pandas as pd

    from placer.interference.predictor import Predictor

CHUNK = 100_000


class BoundPredictor:
    """A predictor for given models and VM types; groups are arrays of places in `models`."""

    def __init__(
        self,
        predictor: Predictor,
        profiles: Profiles,
        models: tuple[ModelProfile, ...],
        vm_types: tuple[VmTypeProfile, ...],
    ) -> None:
        self.predictor = predictor
        self.profiles = profiles
        self.models = models
        self.vm_types = vm_types
        self._ready = predictor.ready(profiles)

    def slowdown(self, vm_type: int, groups: np.ndarray) -> np.ndarray:
        """Return the mean slowdown of each member, float64 (n, width), NaN in padding.

        `groups` (n, width) holds places in `models`, ascending, padded with -1 at the end. A
        lone replica is exactly 1.0; one more co-runner never lowers a slowdown. Raises InputError
        where a member's solo latency on the VM type is unknown.
        """
        groups = np.asarray(groups, dtype=np.int64)
        if groups.ndim != 2 or groups.shape[1] == 0:
            return np.full(groups.shape, np.nan)
        parts = [
            self._chunk(vm_type, groups[start : start + CHUNK])
            for start in range(0, max(len(groups), 1), CHUNK)
        ]
        return np.concatenate(parts)

    def upper(self, vm_type: int, groups: np.ndarray, quantile: float = 0.95) -> np.ndarray:
        """Return the bound that holds with probability `quantile`, shaped as `slowdown`.

        Monotone in the co-runners as the mean is, and never below it.
        """
        return self.upper_of(vm_type, groups, self.slowdown(vm_type, groups), quantile)

    def upper_of(
        self, vm_type: int, groups: np.ndarray, mean: np.ndarray, quantile: float
    ) -> np.ndarray:
        """Return `upper` where the mean slowdowns (n, width) are at hand."""
        groups = np.asarray(groups, dtype=np.int64)
        degree = np.broadcast_to((groups >= 0).sum(axis=1, keepdims=True), groups.shape)
        models, vms = self.predictor.strangers(self.profiles)
        strange = ((groups >= 0) & models[groups]).any(axis=1, keepdims=True)
        return self.predictor.calibration.upper(mean, degree, quantile, strange, vms[vm_type])

    def explain(self, vm_type: int, group: Sequence[int]) -> pd.DataFrame:
        """Return what drives the slowdown of each model of a group: model, driver, factor.

        `group` holds places in `models`. The factors of one model multiply to its slowdown (see
        `explanation.explain_rows`); a lone replica has none. Raises InputError as `slowdown` does.
        """
        import pandas as pd

        found = [
            (self.models[member].name, driver, factor)
            for member, factors in self.factors(vm_type, group).items()
            for driver, factor in factors.items()
        ]
        return pd.DataFrame(found, columns=["model", "driver", "factor"])

    def factors(self, vm_type: int, group: Sequence[int]) -> dict[int, dict[str, float]]:
        """Return for each place in `models` of a group its drivers and their factors."""
        members = sorted(int(member) for member in group if member >= 0)
        self._check(vm_type, np.array([members], dtype=np.int64).reshape(1, -1))
        targets = sorted(set(members)) if len(members) > 1 else []
        co = np.full((len(targets), max(len(members) - 1, 1)), -1)
        for row, target in enumerate(targets):
            others = members.copy()
            others.remove(target)
            co[row] = others
        rows = Rows(np.array(targets, dtype=int), np.full(len(targets), vm_type), co)
        names = [model.name for model in self.models]
        factors = explain_rows(self._ready, rows, names) if targets else []
        return dict(zip(targets, factors, strict=True))

    def _chunk(self, vm_type: int, groups: np.ndarray) -> np.ndarray:
        self._check(vm_type, groups)
        out = np.where(groups >= 0, 1.0, np.nan)
        first = groups >= 0
        first[:, 1:] &= groups[:, 1:] != groups[:, :-1]
        first &= (groups >= 0).sum(axis=1, keepdims=True) > 1
        group, place = np.nonzero(first)
        if not len(group):
            return out
        co = groups[group]
        co[np.arange(len(group)), place] = -1
        rows = Rows(groups[group, place], np.full(len(group), vm_type), co)
        values = self._ready.slowdown(rows)
        # Replicas of one model stand side by side and share the row of the first of them.
        row = np.cumsum(first.ravel()).reshape(first.shape) - 1
        shared = (groups >= 0) & ((groups >= 0).sum(axis=1, keepdims=True) > 1)
        out[shared] = values[row[shared]]
        return out

    def _check(self, vm_type: int, groups: np.ndarray) -> None:
        shared = groups[(groups >= 0).sum(axis=1) > 1]
        used = np.unique(shared[shared >= 0])
        unknown = used[~(self.profiles.solo[used, vm_type] > 0)]
        if len(unknown):
            name, vm = self.models[unknown[0]].name, self.vm_types[vm_type].name
            known = self.predictor.known
            if name in known.models:
                raise InputError(
                    f"model {name!r} was not measured alone on {vm!r}; give its solo_latency_ms "
                    f"for {vm!r}"
                )
            columns = self.predictor.vocabulary
            listed = ", ".join([*columns.model_numbers, *columns.model_texts])
            raise InputError(
                f"model {name!r} is not in the predictor's training data"
                f"{near_name(name, known.models)}; give its features ({listed}) and "
                f"solo_latency_ms for {vm!r}"
            )

    def extrapolation(self, vm_type: int, groups: np.ndarray) -> list[str]:
        """Return for each group why it is far from the training data, "" where it is not."""
        return ["; ".join(reasons) for reasons in self.extrapolation_reasons(vm_type, groups)]

    def extrapolation_reasons(self, vm_type: int, groups: np.ndarray) -> list[list[str]]:
        """Return for each group every reason why it is far from the training data."""
        metadata = self.predictor.metadata
        vm = self.vm_types[vm_type].name
        general = [] if vm in metadata["vm_types"] else [f"no group was measured on {vm!r}"]
        of_model = self._strange_models(vm_type)
        largest = max(metadata["degrees"])
        out = []
        for group in np.asarray(groups, dtype=np.int64):
            members = group[group >= 0]
            reasons: list[str] = []
            if len(members) > 1:
                reasons.extend(general)
                if len(members) > largest:
                    reasons.append(
                        f"degree {len(members)} is above {largest}, the largest measured"
                    )
                for member in dict.fromkeys(members.tolist()):
                    reasons.extend(of_model[member])
            out.append(reasons)
        return out

    def _strange_models(self, vm_type: int) -> list[list[str]]:
        """Return for each model what sets it apart from the models that were measured in groups."""
        low, high = self.predictor.metadata["loads"]
        trained = set(self.predictor.metadata["models"])
        out = []
        for model, load in zip(self.models, self.profiles.load[:, vm_type], strict=True):
            reasons = []
            if model.name not in trained:
                reasons.append(f"no group with {model.name!r} was measured")
            if not low * 0.95 <= load <= high * 1.05:
                reasons.append(
                    f"{model.name!r} has load {load:.2g}, outside {low:.2g} to {high:.2g}"
                )
            out.append(reasons)
        return out
