"""What becomes of one VM, a slot, when a replica leaves it and another joins: for annealing.

The names of arrays are those of `annealing_kernel`, where their shapes are given.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from placer.problem import TOLERANCE
from placer.solvers.jit import inlined

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_OVERLOAD = 0.3
"""How much more than its capacity a VM may be asked for on the way, relative to it."""


@inlined
def choose_type(
    price: Floats,
    class_of: Ints,
    most: Ints,
    capacity: Floats,
    free: Ints,
    load: Floats,
    own: Floats,
    size: int,
    overload_price: float,
) -> tuple[int, float, float]:
    """Return the cheapest type for a VM with this load (C, R), its cost, and its overload."""
    best, best_cost, best_over = -1, np.inf, 0.0
    for t in range(price.shape[0]):
        c = class_of[t]
        if own.shape[0] == 1 and price[t] + own[0] >= best_cost:
            break
        if size > most[t] or free[t] <= 0:
            continue
        over = 0.0
        for r in range(load.shape[1]):
            excess = load[c, r] - capacity[t, r]
            if excess > TOLERANCE:
                over += excess / capacity[t, r]
                if excess > MOST_OVERLOAD * capacity[t, r]:
                    over = np.inf
                    break
        if over < np.inf:
            cost = price[t] + own[c] + overload_price * over
            if cost < best_cost:
                best, best_cost, best_over = t, cost, over
    return best, best_cost, best_over


@inlined
def foresee(
    out: int,
    into: int,
    s: int,
    lone: Floats,
    pair: Floats,
    demand: Floats,
    load: Floats,
    own: Floats,
    beside: Floats,
    new_load: Floats,
    new_own: Floats,
) -> None:
    """Fill in load (C, R) and cost (C,) of slot `s` once kind `out` has left and `into` joined.

    `into` may be -1, for nobody; so may `out`.
    """
    for c in range(own.shape[0]):
        value = own[c, s]
        if out >= 0:
            value -= lone[c, out] + beside[c, s, out] - pair[c, out, out]
        if into >= 0:
            value += lone[c, into] + beside[c, s, into]
            if out >= 0:
                value -= pair[c, out, into]
        new_own[c] = value
        for r in range(load.shape[2]):
            amount = load[c, s, r]
            if out >= 0:
                amount -= demand[c, out, r]
            if into >= 0:
                amount += demand[c, into, r]
            new_load[c, r] = amount


@inlined
def rehouse(
    out: int,
    into: int,
    s: int,
    overload_price: float,
    price: Floats,
    class_of: Ints,
    most: Ints,
    capacity: Floats,
    lone: Floats,
    pair: Floats,
    demand: Floats,
    bench: Floats,
    size: Ints,
    load: Floats,
    own: Floats,
    beside: Floats,
    cost: Floats,
    free: Ints,
    new_load: Floats,
    new_own: Floats,
) -> tuple[int, float, float]:
    """Return type, cost and overload of slot `s` once kind `out` has left and `into` joined.

    Without a type that holds it the cost is infinite; the bench and an empty slot need none.
    """
    members = size[s] - (out >= 0) + (into >= 0)
    t, value, over = -1, 0.0, 0.0
    if s == size.shape[0] - 1:
        value = cost[s]
        if out >= 0:
            value -= bench[out]
        if into >= 0:
            value += bench[into]
    elif members > 0:
        foresee(out, into, s, lone, pair, demand, load, own, beside, new_load, new_own)
        t, value, over = choose_type(
            price, class_of, most, capacity, free, new_load, new_own, members, overload_price
        )
    return t, value, over


@inlined
def join(
    k: int,
    i: int,
    s: int,
    lone: Floats,
    pair: Floats,
    demand: Floats,
    members: Ints,
    size: Ints,
    load: Floats,
    own: Floats,
    beside: Floats,
) -> None:
    """Put replica `i` of kind `k` into slot `s`, whose numbers follow; the bench has none."""
    if s < size.shape[0] - 1:
        for c in range(own.shape[0]):
            own[c, s] += lone[c, k] + beside[c, s, k]
            for r in range(load.shape[2]):
                load[c, s, r] += demand[c, k, r]
            for other in range(beside.shape[2]):
                beside[c, s, other] += pair[c, k, other]
        members[s, size[s]] = i
        size[s] += 1


@inlined
def leave(
    k: int,
    i: int,
    s: int,
    lone: Floats,
    pair: Floats,
    demand: Floats,
    members: Ints,
    size: Ints,
    load: Floats,
    own: Floats,
    beside: Floats,
) -> None:
    """Take replica `i` of kind `k` out of slot `s`."""
    if s < size.shape[0] - 1:
        for c in range(own.shape[0]):
            for other in range(beside.shape[2]):
                beside[c, s, other] -= pair[c, k, other]
            own[c, s] -= lone[c, k] + beside[c, s, k]
            for r in range(load.shape[2]):
                load[c, s, r] -= demand[c, k, r]
        last = size[s] - 1
        for x in range(last):
            if members[s, x] == i:
                members[s, x] = members[s, last]
        size[s] = last


@inlined
def exchange(
    i: int,
    j: int,
    a: int,
    b: int,
    kind: Ints,
    slot: Ints,
    lone: Floats,
    pair: Floats,
    demand: Floats,
    members: Ints,
    size: Ints,
    load: Floats,
    own: Floats,
    beside: Floats,
) -> None:
    """Move replica `i` from slot `a` to `b`, and `j`, unless it is -1, from `b` to `a`."""
    leave(kind[i], i, a, lone, pair, demand, members, size, load, own, beside)
    if j >= 0:
        leave(kind[j], j, b, lone, pair, demand, members, size, load, own, beside)
        join(kind[j], j, a, lone, pair, demand, members, size, load, own, beside)
        slot[j] = a
    join(kind[i], i, b, lone, pair, demand, members, size, load, own, beside)
    slot[i] = b
