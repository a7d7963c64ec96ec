"""What the compiled moves of annealing work on.

Types of VM that differ in price, capacity and count alone share a class, and what the members of
a VM cost each other is kept per class, so that a move is judged in constant time.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from placer.solvers.annealing_fits import Fits

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Task(NamedTuple):
    """What does not change: N replicas of K kinds, T types in C classes, R resources.

    kind (N,); price (T,), ascending; class_of, most, fleet (T,): its class, the most members, and
    how many VMs there are; capacity (T, R); demand (C, K, R); rate (C, R): a rent of room at which
    no VM is cheaper than its capacity; lone (C, K): what a replica costs alone, with the rent of
    its room; pair (C, K, K): what two cost each other; bench (K,): what an unplaced replica costs.
    effect (C, K, K), slack (C, K): what a co-runner adds to a slowdown, and how much may be added;
    alone (C, N): `lone` of each replica's kind; fits: which types may hold a load.
    """

    kind: Ints
    price: Floats
    class_of: Ints
    most: Ints
    fleet: Ints
    capacity: Floats
    lone: Floats
    alone: Floats
    pair: Floats
    demand: Floats
    rate: Floats
    bench: Floats
    effect: Floats
    slack: Floats
    fits: Fits


class Rules(NamedTuple):
    """Limits of the whole fleet, and what there is: SLOs, a bench."""

    has_slo: bool
    has_bench: bool
    max_vms: int
    max_price: float


class State(NamedTuple):
    """What changes, for S slots, the last of which is the bench of unplaced replicas.

    slot (N,); vm_type (S,), -1 for none; members (S, width), size (S,); load (C, S, R); own (C, S):
    what the members cost, with the rent of their room; beside (C, S, K): what one of a kind and the
    members cost each other; cost, over (S,): of the VM, and its overload; free (T,): VMs left.
    stay (C, N): what a replica and the others of its slot cost each other. new_load (C, R), new_own
    (C,): of the VM that is looked at; enter (C, S), leaves, enters, change (N,): of the swaps that
    are looked at. best_slot, best_type: the best placement that keeps every rule. now (7,): total
    cost, price of overload, best cost; how many VMs are in use, what they cost, how many are asked
    for too much; the last slot that was in use.
    """

    slot: Ints
    vm_type: Ints
    members: Ints
    size: Ints
    load: Floats
    own: Floats
    beside: Floats
    cost: Floats
    over: Floats
    free: Ints
    stay: Floats
    new_load: Floats
    new_own: Floats
    enter: Floats
    leaves: Floats
    enters: Floats
    change: Floats
    best_slot: Ints
    best_type: Ints
    now: Floats
