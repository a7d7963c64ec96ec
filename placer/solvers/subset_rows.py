"""Cuts for the linear master: of three replicas no two VMs can each hold two.

Subset-row inequalities (Jepsen, Petersen, Spoorendonk and Pisinger 2008) of three rows: of the VMs
that hold two or three of three kinds with one replica each, there is at most one. Pricing stays
exact: such a group is worth less by what the cut's dual says.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from placer.solvers.columns import Columns

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEAST_VIOLATION = 0.02
PER_KIND = 6
"""Cuts of one round that a kind may be in."""

CELLS = 20_000_000


def separate(columns: Columns, values: Floats, replicas: Ints, known: Ints, most: int) -> Ints:
    """Return the triples (n, 3), at most `most` and none of those `known`, that `values` violate.

    values (n,): how many VMs hold each of `columns`; replicas (K,). The most violated come first.
    """
    used = np.flatnonzero(values > 1e-6)
    member = np.zeros((len(used), len(replicas) + 1))
    member[np.arange(len(used))[:, None], columns.groups[used]] = 1.0
    member = member[:, :-1] * (replicas == 1)
    together = member.T @ (member * values[used][:, None])
    np.fill_diagonal(together, 0.0)
    triples = _candidates(together)
    if not len(triples):
        return triples
    i, j, k = triples.T
    violation = together[i, j] + together[i, k] + together[j, k] - 1.0
    step = max(1, CELLS // max(1, len(used)))
    for begin in range(0, len(triples), step):
        a, b, c = triples[begin : begin + step].T
        all_three = values[used] @ (member[:, a] * member[:, b] * member[:, c])
        violation[begin : begin + step] -= 2.0 * all_three
    return _chosen(triples, violation, known, len(replicas), most)


def _candidates(together: Floats) -> Ints:
    """Return triples (n, 3) whose pairs are together (K, K) more than once in all."""
    found = []
    for i in range(len(together)):
        near = np.flatnonzero(together[i] > 1e-6)
        if len(near) < 2:
            continue
        first, second = np.triu_indices(len(near), 1)
        j, k = near[first], near[second]
        total = together[i, j] + together[i, k] + together[j, k]
        good = total > 1.0 + LEAST_VIOLATION
        found.append(np.column_stack([np.full(good.sum(), i), j[good], k[good]]))
    if not found:
        return np.zeros((0, 3), dtype=np.int64)
    every: Ints = np.unique(np.sort(np.concatenate(found), axis=1), axis=0).astype(np.int64)
    return every


def _chosen(triples: Ints, violation: Floats, known: Ints, kinds: int, most: int) -> Ints:
    """Return the most violated of the `triples` that are new, no kind in too many of them."""
    old = set(map(tuple, known.tolist()))
    times = np.zeros(kinds, dtype=np.int64)
    chosen: list[list[int]] = []
    for row in np.argsort(-violation, kind="stable").tolist():
        if violation[row] < LEAST_VIOLATION or len(chosen) >= most:
            break
        triple = triples[row].tolist()
        if tuple(triple) not in old and (times[triple] < PER_KIND).all():
            chosen.append(triple)
            times[triple] += 1
    return np.array(chosen, dtype=np.int64).reshape(-1, 3)
