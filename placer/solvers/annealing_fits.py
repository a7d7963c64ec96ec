"""Which VM types may hold a load at all, looked up resource by resource, for annealing."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from placer.problem import TOLERANCE

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_OVERLOAD = 0.3
"""How much more than its capacity a VM may be asked for on the way, relative to it."""

ALLOWANCES = (0.0, 0.015, 0.05, MOST_OVERLOAD)
"""Overloads for which it is known which types would bear them."""

LEVELS = 256
"""Loads of a resource that are told apart."""

BITS = 62
"""Types that one word has room for: its sign is left alone."""


class Fits(NamedTuple):
    """Sets of VM types, as words of bits: T types in C classes, R resources.

    every (C, W): those of a class; types (C x A x R x LEVELS x W,): those of them that a load of
    at least this level overloads by no more than an allowance, in one row as it is read most;
    level (R,): levels per unit of load; allowance (A,), ascending.
    """

    every: Ints
    types: Ints
    level: Floats
    allowance: Floats


def levels_of(capacity: Floats) -> Floats:
    """Return how many levels (R,) a unit of load has, for types of capacity (T, R)."""
    return (LEVELS - 1) / ((1.0 + MOST_OVERLOAD) * capacity.max(axis=0, initial=TOLERANCE))


def lowest_loads(capacity: Floats) -> Floats:
    """Return the least load (LEVELS, R) of each level."""
    return np.arange(LEVELS)[:, None] / levels_of(capacity) * (1.0 - 1e-9) - TOLERANCE


def fits_of(capacity: Floats, class_of: Ints) -> Fits:
    """Return which of the types, of capacity (T, R) and classes (T,), may hold which loads."""
    count, resources = capacity.shape
    allowance = np.array(ALLOWANCES)
    load = lowest_loads(capacity)
    words = -(-count // BITS)
    types = np.zeros((class_of.max() + 1, len(allowance), resources, LEVELS, words), np.int64)
    every = np.zeros((len(types), words), np.int64)
    for t in range(count):
        every[class_of[t], t // BITS] |= 1 << (t % BITS)
        borne = (1.0 + allowance[:, None]) * capacity[t]
        holds = borne[:, :, None] >= load.T
        types[class_of[t], ..., t // BITS] |= holds.astype(np.int64) << (t % BITS)
    return Fits(every, types.ravel(), levels_of(capacity), allowance)


def least_prices(capacity: Floats, class_of: Ints, price: Floats, overload: Floats) -> Floats:
    """Return what a VM costs at the least (G, C, R, LEVELS), by its load of one resource alone.

    The first axis is what overload costs (G,), relative to capacity; infinite where no type of the
    class may be asked for that much.
    """
    classes, resources = class_of.max() + 1, capacity.shape[1]
    least = np.full((len(overload), classes, resources, LEVELS), np.inf)
    load = lowest_loads(capacity)
    for t, c in enumerate(class_of):
        excess = np.where(load > capacity[t] + TOLERANCE, load / capacity[t] - 1.0, 0.0).T
        cost = price[t] + overload[:, None, None] * excess
        cost[:, excess > MOST_OVERLOAD] = np.inf
        np.minimum(least[:, c], cost, out=least[:, c])
    return least
