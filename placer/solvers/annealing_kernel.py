"""The compiled part of simulated annealing: one chunk of random moves at falling temperature.

Types of VM that differ in price, capacity and count alone share a class, and what the members of
a VM cost each other is kept per class, so that a move is judged in constant time. The arrays of a
task and a state go to the functions one by one: taking them out of a tuple costs more than a move.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from placer.problem import TOLERANCE
from placer.solvers.jit import compiled, inlined
from placer.solvers.slot_kernel import exchange, join, rehouse

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

STEP = 1_000
"""Moves between two changes of temperature and of the price of overload."""

FEASIBLE_SHARE = 0.2
"""How often a placement on the way should break no capacity: the price of overload follows."""

PRICE_STEP, PRICE_RANGE = 1.05, 30.0

RELOCATE = 0.45
"""How many of the moves are of one replica; the others are of two that change places."""

ANYWHERE = 0.1
"""How many of the moves of one replica are to any slot; the others are to where a replica is."""


class Task(NamedTuple):
    """What does not change: N replicas of K kinds, T types in C classes, R resources.

    kind (N,); price (T,), ascending; class_of, most, fleet (T,): its class, the most members, and
    how many VMs there are; capacity (T, R); lone (C, K): what a replica costs alone; pair (C, K,
    K): what two cost each other; demand (C, K, R); bench (K,): what an unplaced replica costs.
    effect (C, K, K), slack (C, K): what a co-runner adds to a slowdown, and how much may be added.
    """

    kind: Ints
    price: Floats
    class_of: Ints
    most: Ints
    fleet: Ints
    capacity: Floats
    lone: Floats
    pair: Floats
    demand: Floats
    bench: Floats
    effect: Floats
    slack: Floats


class Rules(NamedTuple):
    """Limits of the whole fleet, and what there is: SLOs, a bench."""

    has_slo: bool
    has_bench: bool
    max_vms: int
    max_price: float


class State(NamedTuple):
    """What changes, for S slots, the last of which is the bench of unplaced replicas.

    slot (N,); vm_type (S,), -1 for none; members (S, width), size (S,); load (C, S, R); own (C, S):
    what the members cost; beside (C, S, K): what one of a kind and the members cost each other;
    cost, over (S,): of the VM, and its overload; free (T,): VMs left. best_slot, best_type: the
    best placement that keeps every rule. now: total cost, price of overload, best cost.
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
    best_slot: Ints
    best_type: Ints
    now: Floats


@compiled
def rebuild(task: Task, state: State) -> None:
    """Work out anew what follows from slots and types."""
    slots = state.size.shape[0]
    state.load[:] = 0.0
    state.beside[:] = 0.0
    state.own[:] = 0.0
    state.cost[:] = 0.0
    state.over[:] = 0.0
    state.size[:] = 0
    state.free[:] = task.fleet
    for i in range(task.kind.shape[0]):
        k, s = task.kind[i], state.slot[i]
        if s == slots - 1:
            state.cost[s] += task.bench[k]
        join(
            k, i, s, task.lone, task.pair, task.demand,
            state.members, state.size, state.load, state.own, state.beside,
        )  # fmt: skip
    for s in range(slots - 1):
        t = state.vm_type[s] if state.size[s] else -1
        state.vm_type[s] = t
        if t >= 0:
            state.free[t] -= 1
            for r in range(state.load.shape[2]):
                excess = state.load[task.class_of[t], s, r] - task.capacity[t, r]
                if excess > TOLERANCE:
                    state.over[s] += excess / task.capacity[t, r]
            own = state.own[task.class_of[t], s]
            state.cost[s] = task.price[t] + own + state.now[1] * state.over[s]
    state.now[0] = state.cost.sum()


@compiled
def keeps_slos(
    effect: Floats,
    slack: Floats,
    class_of: Ints,
    kind: Ints,
    members: Ints,
    out: int,
    into: int,
    t: int,
) -> bool:
    """Return whether all of `members` (m,), one out and one in, keep their SLOs on type `t`."""
    if t < 0:
        return True
    c, size = class_of[t], members.shape[0]
    for x in range(size + 1):
        i = into if x == size else members[x]
        if i < 0 or i == out:
            continue
        k, slow = kind[i], 0.0
        for y in range(size + 1):
            j = into if y == size else members[y]
            if j >= 0 and j != out and j != i:
                slow += effect[c, k, kind[j]]
        if slow > slack[c, k]:
            return False
    return True


@inlined
def count_type(free: Ints, t: int, by: int) -> None:
    """Change how many VMs of type `t` are left; -1 stands for no VM."""
    if t >= 0:
        free[t] += by


@inlined
def difference(price: Floats, before: int, after: int) -> float:
    """Return how much dearer a VM of type `after` is than one of `before`; -1 stands for none."""
    return (price[after] if after >= 0 else 0.0) - (price[before] if before >= 0 else 0.0)


@inlined
def pick(
    kind: Ints, slot: Ints, size: Ints, width: int, has_bench: bool
) -> tuple[int, int, int, int]:
    """Return a replica, another or -1, and their slots, which are the same where nothing moves."""
    i, j = np.random.randint(kind.shape[0]), -1
    a = slot[i]
    if np.random.random() < RELOCATE:
        if np.random.random() < ANYWHERE:
            b = np.random.randint(size.shape[0] - (not has_bench))
        else:
            b = slot[np.random.randint(kind.shape[0])]
        if b < size.shape[0] - 1 and size[b] >= width:
            b = a
    else:
        j = np.random.randint(kind.shape[0])
        b = slot[j]
    return i, j, a, b


@compiled
def anneal(
    task: Task,
    rules: Rules,
    state: State,
    seed: int,
    moves: int,
    hot: float,
    cold: float,
    least_price: float,
) -> None:
    """Make `moves` random moves, the temperature falling from `hot` to `cold`.

    The price of overload stays between `least_price` and PRICE_RANGE times that.
    """
    np.random.seed(seed)
    rebuild(task, state)
    steps = max(1, moves // STEP)
    for step in range(steps):
        temperature = hot * (cold / hot) ** (step / steps)
        taken, kept = make_moves(task, rules, state, temperature)
        if taken:
            factor = PRICE_STEP if kept < FEASIBLE_SHARE * taken else 1.0 / PRICE_STEP
            price = min(max(state.now[1] * factor, least_price), PRICE_RANGE * least_price)
            for s in range(state.cost.shape[0]):
                state.cost[s] += (price - state.now[1]) * state.over[s]
            state.now[0], state.now[1] = state.cost.sum(), price


@inlined
def within_fleet(more: int, dearer: float, vms: int, spent: float, rules: Rules) -> bool:
    """Return whether a change keeps the limits of the fleet, or at least takes nothing more."""
    return (more <= 0 or vms <= rules.max_vms) and (dearer <= 0 or spent <= rules.max_price)


@inlined
def admissible(
    i: int,
    j: int,
    a: int,
    b: int,
    type_a: int,
    type_b: int,
    rules: Rules,
    class_of: Ints,
    effect: Floats,
    slack: Floats,
    kind: Ints,
    members: Ints,
    size: Ints,
) -> bool:
    """Return whether all members of slots `a` and `b` keep their SLOs once `i` and `j` change."""
    good = True
    if rules.has_slo:
        good = keeps_slos(effect, slack, class_of, kind, members[a, : size[a]], i, j, type_a)
        if good:
            good = keeps_slos(effect, slack, class_of, kind, members[b, : size[b]], j, i, type_b)
    return good


@inlined
def keep_best(now: Floats, slot: Ints, vm_type: Ints, best_slot: Ints, best_type: Ints) -> None:
    """Keep the placement at hand, which breaks no capacity, if it is the best so far."""
    if now[0] < now[2] - 1e-9 * (1.0 + abs(now[2])):
        now[2] = now[0]
        best_slot[:] = slot
        best_type[:] = vm_type


@compiled
def make_moves(task: Task, rules: Rules, state: State, temperature: float) -> tuple[int, int]:
    """Make STEP random moves; return how many were accepted, and how many without overload."""
    kind, price, class_of, most, fleet, capacity, lone, pair, demand, bench, effect, slack = task
    slot, vm_type, members, size, load, own, beside, cost, over, free, _, _, now = state
    new_load, new_own = np.zeros(load.shape[::2]), np.zeros(load.shape[0])
    vms, spent = (fleet - free).sum(), ((fleet - free) * price).sum()
    overloaded, taken, kept = (over > 0).sum(), 0, 0
    for _ in range(STEP):
        i, j, a, b = pick(kind, slot, size, members.shape[1], rules.has_bench)
        if a == b:
            continue
        k, other = kind[i], kind[j] if j >= 0 else -1
        was_a, was_b, had = vm_type[a], vm_type[b], cost[a] + cost[b]
        count_type(free, was_a, 1)
        count_type(free, was_b, 1)
        type_a, cost_a, over_a = rehouse(
            k, other, a, now[1], price, class_of, most, capacity, lone, pair, demand, bench,
            size, load, own, beside, cost, free, new_load, new_own,
        )  # fmt: skip
        count_type(free, type_a, -1)
        type_b, cost_b, over_b = rehouse(
            other, k, b, now[1], price, class_of, most, capacity, lone, pair, demand, bench,
            size, load, own, beside, cost, free, new_load, new_own,
        )  # fmt: skip
        count_type(free, type_b, -1)
        more = (type_a >= 0) + (type_b >= 0) - (was_a >= 0) - (was_b >= 0)
        dearer = difference(price, was_a, type_a) + difference(price, was_b, type_b)
        good = cost_a + cost_b < had - temperature * np.log(1.0 - np.random.random())
        good = good and within_fleet(more, dearer, vms + more, spent + dearer, rules)
        if not good or not admissible(
            i, j, a, b, type_a, type_b, rules, class_of, effect, slack, kind, members, size
        ):
            for t, by in ((type_a, 1), (type_b, 1), (was_a, -1), (was_b, -1)):
                count_type(free, t, by)
            continue
        overloaded += (over_a > 0) + (over_b > 0) - (over[a] > 0) - (over[b] > 0)
        vms, spent, now[0] = vms + more, spent + dearer, now[0] + cost_a + cost_b - had
        exchange(i, j, a, b, kind, slot, lone, pair, demand, members, size, load, own, beside)
        vm_type[a], cost[a], over[a] = type_a, cost_a, over_a
        vm_type[b], cost[b], over[b] = type_b, cost_b, over_b
        taken += 1
        if overloaded == 0:
            kept += 1
            keep_best(now, slot, vm_type, state.best_slot, state.best_type)
    return taken, kept
