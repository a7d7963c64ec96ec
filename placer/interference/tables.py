"""Interference as arrays: the slowdown of each member of many groups at once.

A group is a row of kind numbers, padded with -1 behind. Every form of interference answers the
same questions, so nothing to its right knows which form it is:

- `slowdown(t, groups)`: the mean slowdown of each member, NaN where the group may not be formed.
- `upper(t, groups)`: the bound that SLOs are checked with.
- `floor(t, groups, more)`: a proven lower bound of each member's mean slowdown in this group and
  in every group made of it by adding at most `more` replicas; `upper_floor` likewise for `upper`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from placer.interference.listed import ListedGroups
from placer.problem import (
    GroupsInterference,
    Instance,
    PairwiseInterference,
    PredictorInterference,
)

WIDE = 16
"""Groups wider than this are worked out by counts of kinds, not member by member."""

Groups = NDArray[np.int32]
Floats = NDArray[np.float64]


class Interference(Protocol):
    """What every form of interference answers, for the VM type numbered `t`.

    `now` saves working out again the slowdowns of the same groups, where they are at hand.
    """

    rises_add: bool
    """Whether what `rise` says of several replicas that join may be summed over them."""

    def slowdown(self, t: int, groups: Groups) -> Floats: ...

    def upper(self, t: int, groups: Groups, now: Floats | None = None) -> Floats: ...

    def floor(
        self, t: int, groups: Groups, more: NDArray[np.int_], now: Floats | None = None
    ) -> Floats: ...

    def upper_floor(
        self, t: int, groups: Groups, more: NDArray[np.int_], now: Floats | None = None
    ) -> Floats: ...

    def joining(self, t: int, groups: Groups, more: int) -> Floats:
        """Return a proven lower bound of the mean slowdown of a replica that joins (n, K).

        One of each kind for each group; it holds in every group made of that one by adding at
        most `more` replicas, the joining one among them.
        """

    def rise(self, t: int, groups: Groups, floors: Floats, price: Floats) -> Floats:
        """Return the least by which members' priced floors rise when one of a kind joins (n, K).

        floors (n, width): what `floor` says of the members; price (n, width): of a unit of
        slowdown of each, 0 in padding.
        """

    def pair_sum(self, t: int) -> tuple[Floats, Floats] | None:
        """Return effects (K + 1, K + 1), target first, where slowdowns are 1 + sums of them.

        NaN where unknown, so that no group may hold the pair; the last row and column are
        padding. With them each target's least effect, at most 0 (K + 1,). None for other forms.
        """

    def listed(self, t: int) -> Groups | None:
        """Groups of VM type `t` that no bound by growth covers, so that they are priced one by one.

        None where growth covers every group.
        """

    def only_listed(self) -> bool:
        """Whether groups of two and more may be formed only where `listed` has them."""


class NoSlowdown:
    """Nobody slows anybody down."""

    rises_add = True

    def __init__(self, instance: Instance) -> None:
        self._kinds = len(instance.models)

    def slowdown(self, t: int, groups: Groups) -> Floats:
        return np.ones(groups.shape)

    def upper(self, t: int, groups: Groups, now: Floats | None = None) -> Floats:
        return np.ones(groups.shape)

    def floor(
        self, t: int, groups: Groups, more: NDArray[np.int_], now: Floats | None = None
    ) -> Floats:
        return np.ones(groups.shape)

    def upper_floor(
        self, t: int, groups: Groups, more: NDArray[np.int_], now: Floats | None = None
    ) -> Floats:
        return np.ones(groups.shape)

    def joining(self, t: int, groups: Groups, more: int) -> Floats:
        return np.ones((len(groups), self._kinds))

    def rise(self, t: int, groups: Groups, floors: Floats, price: Floats) -> Floats:
        return np.zeros((len(groups), self._kinds))

    def pair_sum(self, t: int) -> tuple[Floats, Floats] | None:
        return None

    def listed(self, t: int) -> Groups | None:
        return None

    def only_listed(self) -> bool:
        return False


class PairTable:
    """Slowdown by pairs, summed or multiplied over the co-runners of a replica."""

    rises_add = True

    def __init__(self, instance: Instance, table: PairwiseInterference) -> None:
        self._product = table.combine == "product"
        names = [model.name for model in instance.models]
        neutral = 1.0 if self._product else 0.0
        self._effect: list[Floats] = []
        self._help: list[Floats] = []
        built: dict[int, Floats] = {}
        for vm_type in instance.vm_types:
            rows = table.table_for(vm_type.name)
            if id(rows) not in built:
                built[id(rows)] = _pair_matrix(rows, names, table.default)
            pairs = built[id(rows)]
            effect = np.full((len(names) + 1, len(names) + 1), neutral)
            effect[:-1, :-1] = pairs if self._product else pairs - 1.0
            self._effect.append(effect)
            best = np.fmin.reduce(effect, axis=1, initial=neutral)
            self._help.append(best)

    def slowdown(self, t: int, groups: Groups) -> Floats:
        effect, width = self._effect[t], groups.shape[1]
        if width > WIDE:
            return self._by_counts(effect, groups)
        result = np.ones(groups.shape)
        for target in range(width):
            for co_runner in range(width):
                if target != co_runner:
                    pair = effect[groups[:, target], groups[:, co_runner]]
                    if self._product:
                        result[:, target] *= pair
                    else:
                        result[:, target] += pair
        return result

    def joining(self, t: int, groups: Groups, more: int) -> Floats:
        effect, best = self._effect[t], self._help[t][:-1]
        neutral = 1.0 if self._product else 0.0
        known = np.where(np.isnan(effect), neutral, effect)[:-1].T
        result = np.full((len(groups), len(best)), neutral)
        for member in groups.T:
            if self._product:
                result *= known[member]
            else:
                result += known[member]
        left = max(more - 1, 0)
        if self._product:
            return result * best**left * (1.0 - 1e-12)
        return 1.0 + result + best * left

    def rise(self, t: int, groups: Groups, floors: Floats, price: Floats) -> Floats:
        effect, best = self._effect[t][:, :-1], self._help[t][:, None]
        each = np.nan_to_num((effect / best - 1.0) if self._product else (effect - best), nan=0.0)
        result = np.zeros((len(groups), each.shape[1]))
        for member, floor, cost in zip(groups.T, floors.T, price.T, strict=True):
            scale = cost * np.where(np.isfinite(floor), floor, 0.0) if self._product else cost
            result += scale[:, None] * each[member]
        return result * (1.0 - 1e-12)

    def pair_sum(self, t: int) -> tuple[Floats, Floats] | None:
        return None if self._product else (self._effect[t], self._help[t])

    def _by_counts(self, effect: Floats, groups: Groups) -> Floats:
        """Work out wide groups from how many replicas of each kind they hold."""
        counts = counts_of(groups, len(effect) - 1)
        unknown = np.isnan(effect)
        known = np.where(unknown, 1.0 if self._product else 0.0, effect)
        each = np.log(known) if self._product else known
        number = np.arange(len(groups))[:, None]
        total = (counts @ each.T)[number, groups] - each[groups, groups]
        lacking = (counts @ unknown.T)[number, groups] - unknown[groups, groups]
        result = np.exp(total) if self._product else 1.0 + total
        clean: Floats = np.where(lacking > 0.5, np.nan, result)
        return clean

    def upper(self, t: int, groups: Groups, now: Floats | None = None) -> Floats:
        return self.slowdown(t, groups) if now is None else now

    def floor(
        self, t: int, groups: Groups, more: NDArray[np.int_], now: Floats | None = None
    ) -> Floats:
        best = self._help[t][groups]
        values = self.slowdown(t, groups) if now is None else now
        left = np.broadcast_to(np.asarray(more).reshape(-1, 1), values.shape)
        return values * best**left if self._product else values + best * left

    def upper_floor(
        self, t: int, groups: Groups, more: NDArray[np.int_], now: Floats | None = None
    ) -> Floats:
        return self.floor(t, groups, more, now)

    def listed(self, t: int) -> Groups | None:
        return None

    def only_listed(self) -> bool:
        return False


def counts_of(groups: Groups, kinds: int) -> Floats:
    """Return how many replicas of each kind each group holds (n, K + 1), the last column 0."""
    counts = np.zeros((len(groups), kinds + 1))
    np.add.at(counts, (np.arange(len(groups))[:, None], groups), 1.0)
    counts[:, kinds] = 0.0
    return counts


def _pair_matrix(rows: object, names: list[str], default: float | None) -> Floats:
    """Return target x co-runner; NaN, which no group with that pair survives, where unknown."""
    number = {name: k for k, name in enumerate(names)}
    matrix = np.full((len(names), len(names)), np.nan if default is None else default)
    assert hasattr(rows, "items")
    for target, co_runners in rows.items():
        row = matrix[number[target]]
        for co_runner, value in co_runners.items():
            row[number[co_runner]] = value
    return matrix


class GroupTable:
    """Slowdown of listed groups; the others are forbidden, or asked of `rest`."""

    def __init__(self, kinds: int, listed: list[ListedGroups], rest: Interference | None) -> None:
        """Take one list of groups for each VM type, and what holds for those not listed."""
        self._kinds = kinds
        self._listed = listed
        self._rest = rest
        self.rises_add = rest is None or rest.rises_add

    def slowdown(self, t: int, groups: Groups) -> Floats:
        if self._rest is not None:
            result = self._rest.slowdown(t, groups)
        else:
            alone = (groups >= 0).sum(axis=1) <= 1
            result = np.where(alone[:, None], 1.0, np.full(groups.shape, np.nan))
        self._listed[t].lay_over(result, groups)
        return result

    def upper(self, t: int, groups: Groups, now: Floats | None = None) -> Floats:
        mean = self.slowdown(t, groups) if now is None else now
        return mean if self._rest is None else self._rest.upper(t, groups, mean)

    def floor(
        self, t: int, groups: Groups, more: NDArray[np.int_], now: Floats | None = None
    ) -> Floats:
        """Bound the groups that are not listed; those that are, `listed` gives one by one."""
        return np.ones(groups.shape) if self._rest is None else self._rest.floor(t, groups, more)

    def upper_floor(
        self, t: int, groups: Groups, more: NDArray[np.int_], now: Floats | None = None
    ) -> Floats:
        if self._rest is None:
            return np.ones(groups.shape)
        return self._rest.upper_floor(t, groups, more)

    def joining(self, t: int, groups: Groups, more: int) -> Floats:
        """Bound the groups that are not listed, as `floor` does."""
        if self._rest is None:
            return np.ones((len(groups), self._kinds))
        return self._rest.joining(t, groups, more)

    def rise(self, t: int, groups: Groups, floors: Floats, price: Floats) -> Floats:
        if self._rest is None:
            return np.zeros((len(groups), self._kinds))
        return self._rest.rise(t, groups, floors, price)

    def pair_sum(self, t: int) -> tuple[Floats, Floats] | None:
        return None if self._rest is None else self._rest.pair_sum(t)

    def listed(self, t: int) -> Groups | None:
        return self._listed[t].rows

    def only_listed(self) -> bool:
        return self._rest is None


def build_interference(instance: Instance) -> Interference:
    """Return the interference as arrays. Raises InputError where a predictor is lacking."""
    interference = instance.interference
    if interference.kind == "pairwise":
        return PairTable(instance, interference)
    if interference.kind == "groups":
        return _group_table(instance, interference)
    if interference.kind == "predictor":
        return _predicted(instance, interference)
    return NoSlowdown(instance)


def _group_table(instance: Instance, table: GroupsInterference) -> GroupTable:
    pairs = table.pairwise if table.missing == "pairwise" else None
    rest = None if pairs is None else PairTable(instance, pairs)
    listed = [
        [(entry.models, entry.slowdown) for entry in table.entries_for(vm_type.name)]
        for vm_type in instance.vm_types
    ]
    return GroupTable(len(instance.models), _listed(instance, listed), rest)


def _predicted(instance: Instance, interference: PredictorInterference) -> Interference:
    from placer.interference.binding import bound_predictor
    from placer.interference.measured import measured_groups
    from placer.interference.predicted import Predicted

    kinds = len(instance.models)
    predicted = Predicted(bound_predictor(instance), interference.slo_quantile, kinds)
    measured = measured_groups(instance)
    if not measured:
        return predicted
    listed = [
        [
            (names, [slowdowns[name] for name in names])
            for (vm_type, names), slowdowns in measured.items()
            if vm_type == here.name
        ]
        for here in instance.vm_types
    ]
    return GroupTable(kinds, _listed(instance, listed), predicted)


def _listed(
    instance: Instance, groups: Iterable[Sequence[tuple[Sequence[str], Sequence[float]]]]
) -> list[ListedGroups]:
    number = {model.name: k for k, model in enumerate(instance.models)}
    return [
        ListedGroups([([number[name] for name in names], values) for names, values in one])
        for one in groups
    ]
