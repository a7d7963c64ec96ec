"""Robust placement: SLOs held by calibrated upper slowdowns, and what that promises."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from placer.errors import UsageError
from placer.interference.binding import bound_predictor
from placer.interference.measured import Group
from placer.interference.plain import GroupSlowdown, group_slowdowns
from placer.problem import TOLERANCE, Instance, Model, PredictorInterference
from placer.repeated import Repeated

LEVELS = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99)
"""Levels that a placement's replicas are looked at, beside the one asked for."""


@dataclass(frozen=True)
class Chance:
    """What a placement promises of its SLOs by the predictor's calibration.

    level: what was asked for. replicas: those with an SLO that share a VM; alone: those that do
    not, whose latency is the measured one. expected_misses: at most so many of `replicas` are
    expected to be late. all_kept: the least probability that none is (union bound), 0 for no
    promise.
    """

    level: float
    replicas: int
    alone: int
    expected_misses: float
    all_kept: float

    def words(self) -> str:
        """Return the promise in a sentence."""
        if not self.replicas:
            return "no replica with an SLO shares a VM: each runs as it was measured alone"
        none_late = (
            f"all are on time with a probability of at least {100 * self.all_kept:.0f} %"
            if self.all_kept > 0
            else "nothing is promised of all at once"
        )
        return (
            f"each of {self.replicas} shared replicas with an SLO keeps it with a probability of "
            f"at least {100 * self.level:g} % in groups like those measured; at most "
            f"{self.expected_misses:.2g} late replicas are expected, and {none_late}"
        )


def protected(instance: Instance, level: float) -> Instance:
    """Return `instance` with its SLOs checked at the predictor's `level`, between 0.5 and 1.

    Raises UsageError where the level is none, or the instance asks no predictor.
    """
    if not 0.5 <= level < 1.0:
        raise UsageError(f"--protect: found {level:g}, expected from 0.5 to below 1")
    interference = instance.interference
    if not isinstance(interference, PredictorInterference):
        raise UsageError(
            f"--protect: the instance's interference is {interference.kind!r}, whose slowdowns "
            "are taken as certain; expected a predictor, which knows how far off it can be"
        )
    robust = interference.model_copy(update={"slo_quantile": level})
    copy = instance.model_copy(update={"interference": robust})
    copy.remember_bound_predictor(bound_predictor(instance))
    return copy


def chance_of(
    instance: Instance, assignment: Iterable[tuple[str, Sequence[str]]], level: float
) -> Chance:
    """Return what the calibration promises of the VMs in `assignment` (type and model names).

    A bound at level q holds with probability q for a group drawn like the calibration's (split
    conformal), so a replica kept at q is late with probability at most 1 - q.
    """
    models = {model.name: model for model in instance.models}
    levels = sorted({*LEVELS, level})
    alone = 0
    timed: Counter[tuple[Group, str]] = Counter()
    for (vm_type, names), places in Repeated.of(assignment).runs():
        with_slo = [name for name in sorted(names) if models[name].slo_ms is not None]
        if len(names) == 1:
            alone += len(with_slo) * len(places)
            continue
        for name in with_slo:
            timed[(vm_type, tuple(sorted(names))), name] += len(places)
    groups = {group for group, _ in timed}
    bounds = {q: group_slowdowns(protected(instance, q), groups) for q in levels}
    late = []
    for (group, name), count in timed.items():
        kept = [q for q in levels if _on_time(models[name], group, bounds[q][group])]
        late.append((1.0 - max(kept, default=0.0)) * count)
    expected = math.fsum(late)
    return Chance(level, timed.total(), alone, expected, max(0.0, 1.0 - expected))


def _on_time(model: Model, group: Group, slowdown: GroupSlowdown | None) -> bool:
    """Return whether the upper slowdown keeps a model of a group within its SLO."""
    solo, slo = model.solo_latency_on(group[0]), model.slo_ms
    assert slowdown is not None
    assert solo is not None
    assert slo is not None
    return solo * slowdown.upper[model.name] <= slo + TOLERANCE
