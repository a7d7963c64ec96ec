"""The compiled part of simulated annealing: random moves at a temperature that may fall.

A replica at random is tried in place of all others, and in all slots. Most of that is turned down
by what the members of two slots would cost at the least, worked out for all others at once; most
of the rest by the one slot's VM, before the other's is looked for.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from placer.problem import TOLERANCE
from placer.solvers.annealing_types import Rules, State, Task
from placer.solvers.jit import compiled, inlined, lean
from placer.solvers.slot_kernel import exchange, join, least_after, on_bench, rehouse, settle

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

STEP = 1_000
"""Moves between two changes of temperature and of the price of overload, about."""

FEASIBLE_SHARE = 0.6
"""How often a placement on the way should break no capacity: the price of overload follows."""

DEARER, CHEAPER = 1.001, 1.001 ** -((1.0 - FEASIBLE_SHARE) / FEASIBLE_SHARE)
"""What becomes of that price where there is an overload after a step, and where there is none."""

NOISE = 8_192
"""Random numbers that are drawn in advance, and from how many of them on a replica's moves may
take theirs."""


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
    state.now[3:] = 0.0
    for i in range(task.kind.shape[0]):
        k, s = task.kind[i], state.slot[i]
        if s == slots - 1:
            state.cost[s] += task.bench[k]
        join(task, state, k, i, s)
    for s in range(slots - 1):
        settle(task, state, s)
        t = state.vm_type[s] if state.size[s] else -1
        state.vm_type[s] = t
        if t >= 0:
            rent_vm(task, state, s, t)
    state.now[0] = state.cost.sum()


@compiled
def rent_vm(task: Task, state: State, s: int, t: int) -> None:
    """Take note of the VM of slot `s`, of type `t`."""
    c = task.class_of[t]
    for r in range(state.load.shape[2]):
        excess = state.load[c, s, r] - task.capacity[t, r]
        if excess > TOLERANCE:
            state.over[s] += excess / task.capacity[t, r]
    own = state.own[c, s] - (task.rate[c] * state.load[c, s]).sum()
    state.cost[s] = task.price[t] + own + state.now[1] * state.over[s]
    state.free[t] -= 1
    state.now[3] += 1.0
    state.now[4] += task.price[t]
    state.now[5] += state.over[s] > 0


@compiled
def anneal(
    task: Task,
    rules: Rules,
    state: State,
    seed: int,
    moves: int,
    hot: float,
    cold: float,
    least: Floats,
    low: float,
    high: float,
) -> None:
    """Make about `moves` random moves, the temperature going from `hot` to `cold`.

    The price of overload stays between `low` and `high`; least (G, C, R, LEVELS): what VMs cost at
    the least, for prices from `low` to `high`.
    """
    np.random.seed(seed)
    rebuild(task, state)
    replicas, steps = task.kind.shape[0], max(1, moves // STEP)
    noise = np.random.exponential(1.0, NOISE + replicas + state.size.shape[0])
    for step in range(steps):
        last = least.shape[0] - 1
        at = int(last * np.log(state.now[1] / low * (1.0 + 1e-9)) / np.log(high / low))
        temperature = hot * (cold / hot) ** (step / steps)
        make_moves(
            task, rules, state, least[min(max(at, 0), last)], temperature, noise,
            max(1, STEP // replicas),
        )  # fmt: skip
        price = min(max(state.now[1] * (DEARER if state.now[5] else CHEAPER), low), high)
        for s in range(state.cost.shape[0]):
            state.cost[s] += (price - state.now[1]) * state.over[s]
        state.now[0], state.now[1] = state.cost.sum(), price


@lean
def keeps_slos(task: Task, state: State, s: int, out: int, into: int, t: int) -> bool:
    """Return whether all members of `s` keep their SLOs on type `t`, one out and one in."""
    if t < 0:
        return True
    c, size = task.class_of[t], state.size[s]
    for x in range(size + 1):
        i = into if x == size else state.members[s, x]
        if i < 0 or i == out:
            continue
        k, slow = task.kind[i], 0.0
        for y in range(size + 1):
            j = into if y == size else state.members[s, y]
            if j >= 0 and j != out and j != i:
                slow += task.effect[c, k, task.kind[j]]
        if slow > task.slack[c, k]:
            return False
    return True


@lean
def keep_slos(
    task: Task, state: State, i: int, j: int, a: int, b: int, type_a: int, type_b: int
) -> bool:
    """Return whether both slots keep their SLOs once `i` has moved from `a` to `b`, `j` back."""
    kept: bool = keeps_slos(task, state, a, i, j, type_a)
    return kept and keeps_slos(task, state, b, j, i, type_b)


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
def within_fleet(now: Floats, more: int, dearer: float, rules: Rules) -> bool:
    """Return whether a change keeps the limits of the fleet, or at least takes nothing more."""
    return (more <= 0 or now[3] + more <= rules.max_vms) and (
        dearer <= 0 or now[4] + dearer <= rules.max_price
    )


@inlined
def keep_best(state: State) -> None:
    """Keep the placement at hand, which breaks no capacity, if it is the best so far."""
    now = state.now
    if now[0] < now[2] - 1e-9 * (1.0 + abs(now[0])):
        now[2] = now[0]
        for i in range(state.slot.shape[0]):
            state.best_slot[i] = state.slot[i]
        for s in range(state.vm_type.shape[0]):
            state.best_type[s] = state.vm_type[s]


@inlined
def move(
    task: Task,
    rules: Rules,
    state: State,
    floor: Floats,
    i: int,
    j: int,
    a: int,
    b: int,
    least_b: float,
    limit: float,
) -> bool:
    """Move replica `i` from slot `a` to `b`, and `j` or nobody back, at a cost below `limit`.

    Slot `b` will cost `least_b` or more, and VMs `floor` (C, R, LEVELS). Return whether it moved.
    """
    now, free, vm_type = state.now, state.free, state.vm_type
    k, other = task.kind[i], task.kind[j] if j >= 0 else -1
    was_a, was_b, had = vm_type[a], vm_type[b], state.cost[a] + state.cost[b]
    count_type(free, was_a, 1)
    count_type(free, was_b, 1)
    type_a, cost_a, over_a = rehouse(task, state, k, other, a, limit - least_b)
    good, type_b, cost_b, over_b = cost_a + least_b < limit, -1, 0.0, 0.0
    good = good and cost_a + least_after(task, state, floor, other, k, b) < limit
    if good:
        count_type(free, type_a, -1)
        type_b, cost_b, over_b = rehouse(task, state, other, k, b, limit - cost_a)
        count_type(free, type_a, 1)
    more = (type_a >= 0) + (type_b >= 0) - (was_a >= 0) - (was_b >= 0)
    dearer = difference(task.price, was_a, type_a) + difference(task.price, was_b, type_b)
    good = good and cost_a + cost_b < limit and within_fleet(now, more, dearer, rules)
    if good and rules.has_slo:
        good = keep_slos(task, state, i, j, a, b, type_a, type_b)
    count_type(free, type_a if good else was_a, -1)
    count_type(free, type_b if good else was_b, -1)
    if good:
        now[5] += (over_a > 0) + (over_b > 0) - (state.over[a] > 0) - (state.over[b] > 0)
        now[3], now[4], now[0] = now[3] + more, now[4] + dearer, now[0] + cost_a + cost_b - had
        exchange(task, state, i, j, a, b)
        vm_type[a], state.cost[a], state.over[a] = type_a, cost_a, over_a
        vm_type[b], state.cost[b], state.over[b] = type_b, cost_b, over_b
        if now[5] == 0:
            keep_best(state)
    return good


@lean
def make_moves(
    task: Task,
    rules: Rules,
    state: State,
    floor: Floats,
    temperature: float,
    noise: Floats,
    replicas: int,
) -> None:
    """Try so many replicas, at random, in place of all others and in all slots with room.

    floor (C, R, LEVELS): what VMs cost at the least; noise: exponential random numbers, for the
    Metropolis test.
    """
    n, bench, cost = task.kind.shape[0], state.size.shape[0] - 1, state.cost
    for _ in range(replicas):
        i, shift, weighed = np.random.randint(n), np.random.randint(NOISE), False
        used = slots_open(state)
        for x in range(n + used + rules.has_bench):
            if not weighed:
                weigh(task, state, i, temperature, noise, shift)
                weighed = True
            a, j, extra = state.slot[i], x, temperature * noise[shift + x]
            if x < n:
                if state.change[x] >= 0 or task.kind[x] == task.kind[i] or state.slot[x] == a:
                    continue
                b = state.slot[x]
                least_b = state.enters[x] + cost[b]
            else:
                j, b = -1, x - n if x < n + used else bench
                if a == b or not enterable(state, b):
                    continue
                least_b = least_of_all(state.enter, b) + cost[b]
                if least_without(task, state, i, a) + least_b >= cost[a] + cost[b] + extra:
                    continue
            limit = cost[a] + cost[b] + extra
            weighed = not move(task, rules, state, floor, i, j, a, b, least_b, limit)


@inlined
def slots_open(state: State) -> int:
    """Return how many slots there are that may be in use, and one that is not."""
    return min(int(state.now[6]) + 2, state.size.shape[0] - 1)


@inlined
def enterable(state: State, s: int) -> bool:
    """Return whether a replica may move to slot `s`; of empty ones in a row, to the first."""
    if s == state.size.shape[0] - 1:
        return True
    if state.size[s] == 0:
        return s == 0 or state.size[s - 1] > 0
    return state.size[s] < state.members.shape[1]


@inlined
def least_of_all(values: Floats, s: int) -> float:
    """Return the least of `values` (C, S) in slot `s`."""
    least: float = values[0, s]
    for c in range(1, values.shape[0]):
        least = min(least, values[c, s])
    return least


@inlined
def least_without(task: Task, state: State, i: int, s: int) -> float:
    """Return what slot `s` costs at the least once its replica `i` has left."""
    k = task.kind[i]
    if s == state.size.shape[0] - 1:
        return on_bench(task, state, k, -1)
    if state.size[s] == 1:
        return 0.0
    least = np.inf
    for c in range(task.lone.shape[0]):
        least = min(least, state.own[c, s] - task.lone[c, k] - state.stay[c, i])
    return least


@inlined
def weigh(task: Task, state: State, i: int, temperature: float, noise: Floats, shift: int) -> None:
    """Work out what swapping replica `i` with each other changes at the least, less its noise.

    That is `change`; `enters` is what the other's slot changes, and `enter` what each slot does
    where the replica joins it and nobody leaves.
    """
    n, bench = task.kind.shape[0], state.size.shape[0] - 1
    a, k = state.slot[i], task.kind[i]
    used = slots_open(state)
    for c in range(task.lone.shape[0]):
        lone = task.lone[c, k]
        state.enter[c, :used] = lone
        state.enter[c, bench] = -np.inf
        for s in range(used):
            if state.size[s]:
                state.enter[c, s] = lone + state.own[c, s] + state.beside[c, s, k] - state.cost[s]
        left = -np.inf
        if a < bench:
            left = state.own[c, a] - lone - state.stay[c, i] - state.cost[a]
        for x in range(n):
            other, pair = task.kind[x], task.pair[c, k, task.kind[x]]
            leaves = left + task.alone[c, x] + state.beside[c, a, other] - pair
            enters = state.enter[c, state.slot[x]] - task.alone[c, x] - state.stay[c, x] - pair
            state.leaves[x] = leaves if c == 0 else min(leaves, state.leaves[x])
            state.enters[x] = enters if c == 0 else min(enters, state.enters[x])
    for x in range(n):
        state.change[x] = state.leaves[x] + state.enters[x] - temperature * noise[shift + x]
