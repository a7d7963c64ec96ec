"""What becomes of one VM, a slot, when a replica leaves it and another joins: for annealing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from placer.problem import TOLERANCE
from placer.solvers.annealing_types import State, Task
from placer.solvers.jit import inlined

Floats = NDArray[np.float64]

MOST_OVERLOAD = 0.3
"""How much more than its capacity a VM may be asked for on the way, relative to it."""


@inlined
def first_dear(price: Floats, rent: float) -> int:
    """Return the first of the types, by ascending price, that costs `rent` or more."""
    low, high = 0, price.shape[0]
    while low < high:
        middle = (low + high) // 2
        if price[middle] < rent:
            low = middle + 1
        else:
            high = middle
    return low


@inlined
def overload(capacity: Floats, load: Floats, t: int, c: int, most: float) -> float:
    """Return how much more than it has is asked of type `t`, infinite where that is too much.

    It is too much where the sum exceeds `most`, too.
    """
    over = 0.0
    for r in range(load.shape[1]):
        excess = load[c, r] - capacity[t, r]
        if excess > TOLERANCE:
            over += excess / capacity[t, r]
            if excess > MOST_OVERLOAD * capacity[t, r] or over > most:
                return np.inf
    return over


@inlined
def choose_type(
    task: Task, state: State, size: int, rent: float, least: float, limit: float
) -> tuple[int, float, float]:
    """Return the cheapest type for the VM that is looked at, its cost, and its overload.

    rent, least: of its room and of its members, at the least in any class. Types that cost less
    than the rent are overloaded by as much at the least: they come last, the dearest first. The
    cost is infinite where none is below the `limit`.
    """
    price, overload_price = task.price, state.now[1]
    best, best_cost, best_over = -1, limit, 0.0
    dear = first_dear(price, rent)
    t, step = dear, 1
    while True:
        if step > 0 and (t == price.shape[0] or price[t] + least >= best_cost):
            t, step = dear - 1, -1
        if step < 0 and (
            t < 0 or price[t] + least + overload_price * (rent / price[t] - 1.0) >= best_cost
        ):
            break
        c = task.class_of[t]
        if size <= task.most[t] and state.free[t] > 0:
            cost = price[t] + state.new_own[c]
            most = (best_cost - cost) / overload_price
            over = overload(task.capacity, state.new_load, t, c, most)
            cost += overload_price * over
            if cost < best_cost:
                best, best_cost, best_over = t, cost, over
        t += step
    return best, best_cost if best >= 0 else np.inf, best_over


@inlined
def least_of_class(task: Task, state: State, c: int, out: int, into: int, s: int) -> float:
    """Return what the members of slot `s` cost in class `c`, with the rent of their room.

    That is once kind `out` has left and `into` joined; either may be -1, for nobody.
    """
    value: float = state.own[c, s]
    if out >= 0:
        value -= task.lone[c, out] + state.beside[c, s, out] - task.pair[c, out, out]
    if into >= 0:
        value += task.lone[c, into] + state.beside[c, s, into]
        if out >= 0:
            value -= task.pair[c, out, into]
    return value


@inlined
def on_bench(task: Task, state: State, out: int, into: int) -> float:
    """Return what the bench costs once `out` has left and `into` joined."""
    value: float = state.cost[state.cost.shape[0] - 1]
    if out >= 0:
        value -= task.bench[out]
    if into >= 0:
        value += task.bench[into]
    return value


@inlined
def least_after(task: Task, state: State, out: int, into: int, s: int) -> float:
    """Return what slot `s` costs at the least once kind `out` has left and `into` joined."""
    least = 0.0
    if s == state.size.shape[0] - 1:
        least = on_bench(task, state, out, into)
    elif state.size[s] - (out >= 0) + (into >= 0) > 0:
        least = np.inf
        for c in range(state.own.shape[0]):
            least = min(least, least_of_class(task, state, c, out, into, s))
    return least


@inlined
def rehouse(
    task: Task, state: State, out: int, into: int, s: int, limit: float
) -> tuple[int, float, float]:
    """Return type, cost and overload of slot `s` once kind `out` has left and `into` joined.

    Without a type that holds it below the `limit` the cost is infinite; the bench and an empty
    slot need none.
    """
    members = state.size[s] - (out >= 0) + (into >= 0)
    t, value, over = -1, 0.0, 0.0
    if s == state.size.shape[0] - 1:
        value = on_bench(task, state, out, into)
    elif members > 0:
        rent, least = np.inf, np.inf
        for c in range(state.own.shape[0]):
            due = 0.0
            for r in range(state.load.shape[2]):
                amount = state.load[c, s, r]
                if out >= 0:
                    amount -= task.demand[c, out, r]
                if into >= 0:
                    amount += task.demand[c, into, r]
                state.new_load[c, r] = amount
                due += task.rate[c, r] * amount
            own = least_of_class(task, state, c, out, into, s) - due
            state.new_own[c] = own
            rent, least = min(rent, due), min(least, own)
        t, value, over = choose_type(task, state, members, rent, least, limit)
    return t, value, over


@inlined
def join(task: Task, state: State, k: int, i: int, s: int) -> None:
    """Put replica `i` of kind `k` into slot `s`, whose numbers follow; the bench has none."""
    if s < state.size.shape[0] - 1:
        for c in range(state.own.shape[0]):
            state.own[c, s] += task.lone[c, k] + state.beside[c, s, k]
            for r in range(state.load.shape[2]):
                state.load[c, s, r] += task.demand[c, k, r]
            for other in range(state.beside.shape[2]):
                state.beside[c, s, other] += task.pair[c, k, other]
        state.members[s, state.size[s]] = i
        state.size[s] += 1


@inlined
def leave(task: Task, state: State, k: int, i: int, s: int) -> None:
    """Take replica `i` of kind `k` out of slot `s`."""
    if s < state.size.shape[0] - 1:
        for c in range(state.own.shape[0]):
            for other in range(state.beside.shape[2]):
                state.beside[c, s, other] -= task.pair[c, k, other]
            state.own[c, s] -= task.lone[c, k] + state.beside[c, s, k]
            for r in range(state.load.shape[2]):
                state.load[c, s, r] -= task.demand[c, k, r]
        last = state.size[s] - 1
        for x in range(last):
            if state.members[s, x] == i:
                state.members[s, x] = state.members[s, last]
        state.size[s] = last


@inlined
def exchange(task: Task, state: State, i: int, j: int, a: int, b: int) -> None:
    """Move replica `i` from slot `a` to `b`, and `j`, unless it is -1, from `b` to `a`."""
    leave(task, state, task.kind[i], i, a)
    if j >= 0:
        leave(task, state, task.kind[j], j, b)
        join(task, state, task.kind[j], j, a)
        state.slot[j] = a
    join(task, state, task.kind[i], i, b)
    state.slot[i] = b
