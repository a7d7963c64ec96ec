"""What becomes of one VM, a slot, when a replica leaves it and another joins: for annealing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from placer.problem import TOLERANCE
from placer.solvers.annealing_fits import BITS, LEVELS, MOST_OVERLOAD
from placer.solvers.annealing_types import State, Task
from placer.solvers.jit import inlined

Floats = NDArray[np.float64]

SKIPPED = 6
NO_TYPES = (1 << SKIPPED) - 1
"""So many types in a row that may not hold a load are passed over at once."""


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
def may_hold(task: Task, load: Floats, c: int, allowed: float, word: int) -> int:
    """Return which types of class `c`, a word of bits, may be overloaded by no more than allowed.

    Some of them may not hold the `load` (C, R) all the same, as levels of load are rough.
    """
    fits = task.fits
    a = 0
    while fits.allowance[a] < allowed and a < fits.allowance.shape[0] - 1:
        a += 1
    found: int = fits.every[c, word]
    resources, words = load.shape[1], fits.every.shape[1]
    at = (c * fits.allowance.shape[0] + a) * resources * LEVELS * words + word
    for r in range(resources):
        level = min(max(int(load[c, r] * fits.level[r]), 0), LEVELS - 1)
        found &= fits.types[np.uint64(at + level * words)]
        at += LEVELS * words
    return found


@inlined
def choose_type(task: Task, state: State, size: int, limit: float) -> tuple[int, float, float]:
    """Return the cheapest type for the VM that is looked at, its cost, and its overload.

    The cost is infinite where none is below the `limit`.
    """
    price, overload_price = task.price, state.now[1]
    best, best_cost, best_over = -1, limit, 0.0
    for c in range(state.new_load.shape[0]):
        own = state.new_own[c]
        for word in range(task.fits.every.shape[1]):
            t = word * BITS
            allowed = (best_cost - own - price[t]) / overload_price
            found = may_hold(task, state.new_load, c, allowed, word) if allowed > 0 else 0
            while found > 0 and price[t] + own < best_cost:
                if found & 1 and size <= task.most[t] and state.free[t] > 0:
                    most = (best_cost - own - price[t]) / overload_price
                    over = overload(task.capacity, state.new_load, t, c, most)
                    cost = price[t] + own + overload_price * over
                    if cost < best_cost:
                        best, best_cost, best_over = t, cost, over
                found >>= 1
                t += 1
                while found and not found & NO_TYPES:
                    found >>= SKIPPED
                    t += SKIPPED
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
def least_after(task: Task, state: State, floor: Floats, out: int, into: int, s: int) -> float:
    """Return what slot `s` costs at the least once kind `out` has left and `into` joined.

    floor (C, R, LEVELS): what VMs cost at the least, by the load of one resource.
    """
    least = 0.0
    if s == state.size.shape[0] - 1:
        least = on_bench(task, state, out, into)
    elif state.size[s] - (out >= 0) + (into >= 0) > 0:
        least = np.inf
        for c in range(state.own.shape[0]):
            due, price = 0.0, 0.0
            for r in range(state.load.shape[2]):
                amount = load_after(task, state, c, r, out, into, s)
                level = min(max(int(amount * task.fits.level[r]), 0), LEVELS - 1)
                due += task.rate[c, r] * amount
                price = max(price, floor[c, r, level])
            price = max(price, due)
            least = min(least, least_of_class(task, state, c, out, into, s) + price - due)
    return least


@inlined
def load_after(task: Task, state: State, c: int, r: int, out: int, into: int, s: int) -> float:
    """Return what slot `s` asks of a resource once kind `out` has left and `into` joined."""
    amount: float = state.load[c, s, r]
    if out >= 0:
        amount -= task.demand[c, out, r]
    if into >= 0:
        amount += task.demand[c, into, r]
    return amount


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
        for c in range(state.own.shape[0]):
            due = 0.0
            for r in range(state.load.shape[2]):
                amount = load_after(task, state, c, r, out, into, s)
                state.new_load[c, r] = amount
                due += task.rate[c, r] * amount
            state.new_own[c] = least_of_class(task, state, c, out, into, s) - due
        t, value, over = choose_type(task, state, members, limit)
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
        state.now[6] = max(state.now[6], s)


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
def settle(task: Task, state: State, s: int) -> None:
    """Take note of what each member of slot `s` and the others cost each other."""
    for c in range(state.own.shape[0]):
        for x in range(state.size[s]):
            i = state.members[s, x]
            k = task.kind[i]
            state.stay[c, i] = state.beside[c, s, k] - task.pair[c, k, k]


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
    settle(task, state, a)
    settle(task, state, b)
