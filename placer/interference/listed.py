"""Groups that a table lists, found again among many groups at once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import numpy as np
from numpy.typing import NDArray


class ListedGroups:
    """Different groups with a value for each member.

    Groups are rows of kind numbers, ascending, padded with -1 behind: `rows` (n, width).
    """

    def __init__(self, groups: Sequence[tuple[Sequence[int], Sequence[float]]]) -> None:
        """Take for each group its kinds, in any order, and the values beside them."""
        width = max((len(kinds) for kinds, _ in groups), default=1)
        self.rows = np.full((len(groups), width), -1, dtype=np.int32)
        self._values = np.full((len(groups), width), np.nan)
        for row, value, (kinds, values) in zip(self.rows, self._values, groups, strict=True):
            members = sorted(zip(kinds, values, strict=True))
            row[: len(members)] = [k for k, _ in members]
            value[: len(members)] = [v for _, v in members]
        for seed in count():  # until no two groups share a key
            self._weights = np.random.default_rng(seed).integers(1, 2**62, width)
            keys = self._keys_of(self.rows)
            if len(np.unique(keys)) == len(keys):
                break
        self._order = np.argsort(keys)
        self._keys = keys[self._order]

    def lay_over(self, values: NDArray[np.float64], groups: NDArray[np.int32]) -> None:
        """Put the values of the groups that are listed in place of `values` (n, width)."""
        if not len(self.rows):
            return
        width = min(groups.shape[1], self.rows.shape[1])
        keys = self._keys_of(groups)
        place = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        hit = np.flatnonzero(self._keys[place] == keys)
        found = self._order[place[hit]]
        same = (groups[hit, :width] == self.rows[found, :width]).all(axis=1)
        same &= (groups[hit, width:] < 0).all(axis=1) & (self.rows[found, width:] < 0).all(axis=1)
        hit, found = hit[same], found[same]
        member = groups[hit, :width] >= 0
        values[hit, :width] = np.where(member, self._values[found, :width], values[hit, :width])

    def _keys_of(self, groups: NDArray[np.int32]) -> NDArray[np.int64]:
        """Return a number for each group: the same for equal ones, hardly ever for others."""
        width = min(groups.shape[1], len(self._weights))
        kinds = groups[:, :width].astype(np.int64) + 1
        keys: NDArray[np.int64] = kinds @ self._weights[:width]
        return keys
