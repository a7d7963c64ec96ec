"""Remembers what a predictor said of a group, so that it is asked for each group once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from placer.interference.tables import Floats, Groups

LIMIT = 8_000_000
"""Values kept before all are forgotten."""


@dataclass(frozen=True)
class Segment:
    """Groups of one VM type and degree by their number, ascending: keys (n,), values (n, d)."""

    keys: NDArray[np.int64]
    values: Floats


class AskedOnce:
    """Answers for groups (n, width) on a VM type, asking `source` for those not seen before.

    A group's number is exact: its members are the digits of a number to the base of the kinds.
    Where that does not fit 63 bits, nothing is remembered. Threads ask one after another.
    """

    def __init__(self, kinds: int, source: Callable[[int, Groups], Floats]) -> None:
        self._base = max(kinds, 2)
        self._source = source
        self._segments: dict[tuple[int, int], list[Segment]] = {}
        self._kept = 0
        self._asking = threading.Lock()

    def values(self, t: int, groups: Groups) -> Floats:
        """Return a value for each member of sorted, padded `groups` (n, width), NaN in padding."""
        result = np.full(groups.shape, np.nan)
        degree = (groups >= 0).sum(axis=1)
        for d in np.unique(degree[degree > 0]).tolist():
            rows = np.flatnonzero(degree == d)
            with self._asking:
                result[rows, :d] = self._of_degree(t, np.ascontiguousarray(groups[rows, :d]))
        return result

    def _of_degree(self, t: int, groups: Groups) -> Floats:
        degree = groups.shape[1]
        if self._base**degree >= 2**63:
            return self._source(t, groups)
        weight = self._base ** np.arange(degree, dtype=np.int64)
        keys = groups.astype(np.int64) @ weight
        result = np.empty(groups.shape)
        missing = np.ones(len(groups), dtype=bool)
        for segment in self._segments.get((t, degree), []):
            rows = np.flatnonzero(missing)
            place = np.minimum(np.searchsorted(segment.keys, keys[rows]), len(segment.keys) - 1)
            hit = segment.keys[place] == keys[rows]
            result[rows[hit]] = segment.values[place[hit]]
            missing[rows[hit]] = False
        rows = np.flatnonzero(missing)
        if len(rows):
            fresh, first, inverse = np.unique(keys[rows], return_index=True, return_inverse=True)
            values = self._source(t, groups[rows[first]])
            result[rows] = values[inverse]
            self._keep(t, degree, Segment(fresh, values))
        return result

    def _keep(self, t: int, degree: int, new: Segment) -> None:
        """Keep `new`; segments of like size are merged, so that there are few to look through."""
        self._kept += new.values.size
        if self._kept > LIMIT:
            self._segments.clear()
            self._kept = new.values.size
        segments = self._segments.setdefault((t, degree), [])
        segments.append(new)
        while len(segments) > 1 and len(segments[-2].keys) < 2 * len(segments[-1].keys):
            last, before = segments.pop(), segments.pop()
            keys = np.concatenate([before.keys, last.keys])
            order = np.argsort(keys, kind="stable")
            values = np.concatenate([before.values, last.values])
            segments.append(Segment(keys[order], values[order]))
