"""A tree over how many VMs are used, in all and of each type, that raises the linear bound.

A linear master may use a fifth of a VM; its least value over each side of a whole number is a
better bound than its value over both. Pricing does not change: only a type's price does. The least
bound among the leaves holds for the whole. Where the counts of the worst leaf are whole, cuts are
looked for in it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from placer.solvers.column_generation import ColumnGeneration
from placer.solvers.linear_bound import Floats, Leaf, LinearBound
from placer.solvers.run import Run

MOST_LEAVES, MOST_IDLE = 40, 3
WORTH = 0.02
"""Of the gap: divisions that raise the bound by less are idle."""

FRACTION = 1e-4
"""A count nearer to a whole number than this is one."""


def branch(run: Run, generation: ColumnGeneration, linear: LinearBound) -> LinearBound:
    """Return `linear` with the leaves of a tree over counts, and raise the run's bound.

    The generation's rows must count VMs (`Rows.counting`).
    """
    tree = _Tree(run, generation, linear)
    tree.grow()
    bound = min(leaf.bound for leaf in tree.leaves)
    return replace(linear, leaves=tuple(tree.leaves), bound=max(linear.bound, bound))


class _Tree:
    def __init__(self, run: Run, generation: ColumnGeneration, linear: LinearBound) -> None:
        self.run, self.generation = run, generation
        types = run.batch.types
        lower, upper = np.zeros(types + 1), np.full(types + 1, np.inf)
        used = generation.counts()
        self.leaves = [Leaf(linear.bound, linear.prices, lower, upper, used, cut=True)]

    def grow(self) -> None:
        """Divide the leaf of the least bound until that is no use, or too many are open."""
        run, generation, idle = self.run, self.generation, 0
        while not run.should_stop() and len(self.leaves) < MOST_LEAVES and idle < MOST_IDLE:
            worst = min(self.leaves, key=lambda leaf: leaf.bound)
            if run.objective is not None and worst.bound >= run.objective:
                return
            number = most_fractional(worst.used)
            if number is None and (worst.cut or not generation.pricing.takes_cuts()):
                return
            self.leaves.remove(worst)
            if number is None:
                self.leaves += [self._solved(worst, worst.lower, worst.upper, cutting=True)]
            else:
                self._divide(worst, number)
            least = min(leaf.bound for leaf in self.leaves)
            run.raise_bound(least)
            left = run.cost_to_beat() - least
            idle = idle + 1 if least - worst.bound < WORTH * left else 0

    def _divide(self, leaf: Leaf, number: int) -> None:
        """Put two leaves in the place of one, at the whole numbers beside one of its counts."""
        whole = np.floor(leaf.used[number])
        low, high = leaf.upper.copy(), leaf.lower.copy()
        low[number], high[number] = whole, whole + 1.0
        self.leaves += [self._solved(leaf, leaf.lower, low)]
        self.leaves += [self._solved(leaf, high, leaf.upper)]

    def _solved(self, above: Leaf, lower: Floats, upper: Floats, *, cutting: bool = False) -> Leaf:
        """Return the leaf between these counts; where it was stopped, what holds above it."""
        if self.run.should_stop():
            return replace(above, lower=lower, upper=upper)
        found = self.generation.within_counts(lower, upper, cutting=cutting)
        return (
            found
            if found.bound > above.bound
            else replace(found, bound=above.bound, prices=above.prices)
        )


def most_fractional(used: Floats) -> int | None:
    """Return which count is farthest from whole, the sum over all types first; None for none."""
    part = np.abs(used - np.rint(used))
    if part[-1] > FRACTION:
        return len(used) - 1
    number = int(part.argmax())
    return number if part[number] > FRACTION else None
