"""How far repeated runs of one group differ: the error below which no predictor can go."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from placer.measure.dataset import DataSet, by_run, key_of


@dataclass(frozen=True)
class Spread:
    """The spread of repeated runs: groups measured more than once, their runs, and percent.

    `percent` is the mean absolute difference of one run's p50 latency from the group's mean.
    """

    groups: int
    runs: int
    percent: float


def repeats(data: DataSet) -> dict[tuple[str, int], list[np.ndarray]]:
    """Return by VM type and degree, for each group run twice or more, log latencies (runs, kinds).

    Replicas of one model at one rate in one run count as one kind, by their median.
    """
    groups = defaultdict(list)
    for rows in by_run(data.rows).values():
        kinds: dict[tuple[str, str], list[float]] = defaultdict(list)
        for row in rows:
            kinds[row["model"], row["rate_rps"]].append(float(row["latency_ms_p50"]))
        medians = [float(np.median(kinds[kind])) for kind in sorted(kinds)]
        groups[key_of(rows)].append(np.log(medians))
    found: dict[tuple[str, int], list[np.ndarray]] = defaultdict(list)
    for (vm_type, members), runs in groups.items():
        if len(runs) > 1:
            found[vm_type, len(members)].append(np.array(runs))
    return dict(found)


def spread(groups: Iterable[np.ndarray]) -> Spread:
    """Return the spread over groups of log latencies (runs, kinds).

    With few runs of a group their own mean lies too near to them; the difference is made larger
    by sqrt(n / (n - 1)).
    """
    differences: list[float] = []
    count = runs = 0
    for one in groups:
        count, runs = count + 1, runs + len(one)
        widen = math.sqrt(len(one) / (len(one) - 1))
        differences.extend(widen * np.abs(one - one.mean(axis=0)).ravel())
    return Spread(count, runs, 100.0 * float(np.mean(differences)) if differences else math.nan)
