"""Whom the linear master would put together: what to free beside a VM that is too dear.

A part of a placement can become cheaper only where the linear master fills the same replicas for
less. It does where they are those that it mixes with one another, and hardly where they are chosen
at random: most VMs beside a dear one are as good as they can be.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from placer.solvers.columns import Columns
from placer.solvers.linear_bound import LinearBound

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

USED = 1e-7
"""A column of a smaller linear value is not in use."""

STIRRED = 0.1
"""How far chance moves a VM to the front, per step of a Gumbel variable, where one that shares each
of its replicas with those chosen has up to one less than the degree."""

DEAR = 1.0
"""How far the dearest VM comes to the front, those that share none stay behind."""


class LinearCompany:
    """How much each kind shares its groups with each other in one linear master's values."""

    def __init__(self, linear: LinearBound, kinds: int) -> None:
        used = np.flatnonzero(linear.values > USED)
        members = _members(linear.columns.take(used), kinds)
        self._together = (members.T * linear.values[used]) @ members
        self._kinds = kinds

    def order(
        self, vms: Columns, counts: Ints, fault: Floats, size: float, rng: np.random.Generator
    ) -> Ints:
        """Return VMs around one that is too dear, for `size` replicas, the nearest first.

        vms (n,), each there counts (n,) times; fault (n,): how much dearer than the bound each is.
        """
        members = _members(vms, self._kinds)
        sizes = np.maximum(members.sum(axis=1), 1.0)
        total, most = float(fault.sum()), float(fault.max(initial=0.0))
        number = int(rng.choice(len(vms), p=fault / total if total > 0 else None))
        dear = DEAR * fault / most if most > 0 else fault
        near, left, chosen = np.zeros(len(vms)), np.ones(len(vms), dtype=bool), [number]
        placed = counts[number] * sizes[number]
        while placed < size and len(chosen) < len(vms):
            left[number] = False
            beside = members[[number]].toarray().ravel() @ self._together
            near += (members @ beside) / sizes
            reached = near + dear * (near > 0) + STIRRED * rng.gumbel(size=len(vms))
            number = int(np.argmax(np.where(left, reached, -np.inf)))
            chosen.append(number)
            placed += counts[number] * sizes[number]
        return np.array(chosen)


def _members(columns: Columns, kinds: int) -> csr_array:
    """Return how often each kind is in each group (n, K)."""
    row, place = np.nonzero(columns.groups >= 0)
    entries = (np.ones(len(row)), (row, columns.groups[row, place]))
    return csr_array(entries, shape=(len(columns), kinds))
