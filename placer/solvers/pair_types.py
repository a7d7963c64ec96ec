"""What the compiled search for groups of pair costs works on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class PairTask(NamedTuple):
    """What is searched: K kinds in the order of joining, T VM types by ascending price.

    own (K,): cost of a lone replica less its price; demand (K, R); pair (K, K): what two cost each
    other; times (K,): replicas that may join. offer (T,): a VM's price less what the duals pay for
    it; capacity (T, R); most (T,); endless (T,): whether there are always more. By the number of
    members of the whole group: rates (D, R): rent of room; rent (D, K): of what a kind takes;
    room (D, T): offer less the rent of the whole VM.
    effect (K, K), slack, help (K,): what a co-runner adds to a slowdown, how much may be added,
    and the least that any adds. triples (M, 3): kinds of which a group that holds two or more
    costs penalty (M,) more, -1 for none; cuts: those of each kind, from first_cut (K + 1,) on.
    """

    own: Floats
    demand: Floats
    rent: Floats
    pair: Floats
    times: Ints
    offer: Floats
    room: Floats
    capacity: Floats
    most: Ints
    endless: NDArray[np.bool_]
    rates: Floats
    effect: Floats
    slack: Floats
    help: Floats
    has_slo: bool
    triples: Ints
    penalty: Floats
    cuts: Ints
    first_cut: Ints


class Stack(NamedTuple):
    """Where the search stands, by degree d: kinds that may join, and what each would mean.

    kind (D, K): candidates; beside (D, K): what they cost beside the members; helped (D, D, K):
    half of what some of them cost each other at the least, by how many; bound (D, K): of all that
    each leads to; left, at (D,): how many there are, and the next one. shared (D, K): half of the
    penalties in `beside` that another newcomer could share; score, joint (D, K), change (K,):
    scratch.
    base (D,), load (D, R), member (D,), slow (D, D): the group. depth (1,).
    """

    kind: Ints
    beside: Floats
    helped: Floats
    shared: Floats
    change: Floats
    score: Floats
    joint: Floats
    bound: Floats
    left: Ints
    at: Ints
    base: Floats
    load: Floats
    member: Ints
    slow: Floats
    depth: Ints


class Found(NamedTuple):
    """Groups found: vm_type (M,), groups (M, D) padded with -1, reduced (M,); size, least (1,)."""

    vm_type: Ints
    groups: Ints
    reduced: Floats
    size: Ints
    least: Floats
