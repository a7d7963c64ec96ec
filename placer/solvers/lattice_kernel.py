"""The compiled reduction of a lattice's basis (Lenstra, Lenstra, and Lovász 1982)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from placer.solvers.jit import compiled

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LOVASZ = 0.99
"""How much shorter a vector must be to come before the one that it follows."""

PASSES = 30
"""How often at the most a vector is made shorter by those before it: it may be very long."""


@compiled
def reduce_basis(vectors: Floats, whole: Ints, most: int) -> int:
    """Reduce the rows of `vectors` (q, dim) in place, and those of `whole` (q, r) along with them.

    Return how many exchanges that took; it ends after `most`.
    """
    count = vectors.shape[0]
    straight = np.zeros(vectors.shape)
    share, norm = np.zeros((count, count)), np.zeros(count)
    exchanges, k = 0, 0
    while k < count and exchanges < most:
        for _ in range(PASSES):
            straight[k] = vectors[k]
            for j in range(k):
                share[k, j] = np.dot(vectors[k], straight[j]) / norm[j]
                straight[k] -= share[k, j] * straight[j]
            if not shorten(vectors, whole, share, k):
                break
        norm[k] = max(np.dot(straight[k], straight[k]), 1e-300)
        if k == 0 or norm[k] >= (LOVASZ - share[k, k - 1] ** 2) * norm[k - 1]:
            k += 1
            continue
        for x in range(vectors.shape[1]):
            vectors[k, x], vectors[k - 1, x] = vectors[k - 1, x], vectors[k, x]
        for x in range(whole.shape[1]):
            whole[k, x], whole[k - 1, x] = whole[k - 1, x], whole[k, x]
        exchanges, k = exchanges + 1, k - 1
    return exchanges


@compiled
def shorten(vectors: Floats, whole: Ints, share: Floats, k: int) -> bool:
    """Subtract the vectors before the k-th from it, as often as it has them; return if any."""
    changed = False
    for j in range(k - 1, -1, -1):
        times = np.rint(share[k, j])
        if times != 0.0:
            changed = True
            vectors[k] -= times * vectors[j]
            for x in range(whole.shape[1]):
                whole[k, x] -= np.int64(times) * whole[j, x]
            for i in range(j):
                share[k, i] -= times * share[j, i]
            share[k, j] -= times
    return changed
