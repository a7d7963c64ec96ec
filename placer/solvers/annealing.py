"""Annealing replica by replica, where slowdowns are sums over pairs.

Placements on the way may ask for a little more than a VM has, at a price that follows how often
that happens (after the strategic oscillation of Glover 1989); a VM has the cheapest type that
holds it. The moves themselves are compiled.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from placer.solvers.annealing_layout import OVERLOAD, Layout
from placer.solvers.annealing_types import State
from placer.solvers.run import Run

HOT, COLD = 0.08, 0.02
"""Temperatures at the beginning and at the end, in VM costs. In the heat a start is forgotten."""

CHEAPEST, DEAREST = 0.1, 30.0
"""How far the price of asking too much may fall and rise, relative to the one at first."""

MOVES = 100_000
"""Moves of one placement between two looks at the clock."""

CHUNKS, FEW = 100, 10
"""How often so many placements are moved where there is no clock."""

SLOWNESS = 12.0
"""How many times each of as many placements is moved: both grow with the time there is."""

REMEMBERED = 0.7
"""From this share of a search on the contents of its placements are promising."""


class Annealing:
    """Annealing of one run's batch by a population of placements that cools.

    The colder it gets, the more often one that is dear gives way to a copy of one that is not, as
    if it were in balance at each temperature (population annealing; Hukushima and Iba 2003). What
    a placement becomes is decided in a narrow range of temperatures: many that pass through it
    quickly, and a choice among them, come farther than one that does so slowly.
    """

    def __init__(self, run: Run) -> None:
        self._run, self._layout = run, Layout(run)
        self._rng = np.random.default_rng(run.options.seed)

    def improve(self, seconds: float) -> bool:
        """Cool once in about these seconds (a fixed number of moves without a limit).

        Return whether that gained. The contents of the placements at the end are promising.
        """
        run, layout = self._run, self._layout
        before, scale, workers = run.objective, layout.scale(), max(1, run.options.workers)
        hurry = np.isfinite(seconds)
        states = [layout.state(scale) for _ in range(workers if hurry else FEW)]
        with run.at_most(seconds), ThreadPoolExecutor(workers) as pool:
            for begin, end in shares(run, seconds):
                hot, cold = (scale * temperature(share) for share in (begin, end))
                chunk, began = partial(self._chunk, scale, hot, cold), run.seconds()
                list(pool.map(chunk, states, seeds(self._rng, len(states))))
                layout.offer(states)
                if hurry and begin == 0.0 and not run.should_stop():
                    self._multiply(states, seconds / (run.seconds() - began))
                self._choose(states, 1.0 / cold - 1.0 / hot)
                if end > REMEMBERED:
                    layout.remember(states)
        return run.objective != before

    def _chunk(self, scale: float, hot: float, cold: float, state: State, seed: int) -> None:
        if not self._run.should_stop():
            anneal(self._layout, scale, hot, cold, state, seed)

    def _multiply(self, states: list[State], chunks: float) -> None:
        """Add as many copies as do well where there is time to move all of these `chunks` times."""
        moved, number = list(states), int(np.sqrt(chunks * len(states) / SLOWNESS))
        for x in range(len(moved), min(number, self._layout.most_states())):
            states.append(State._make(array.copy() for array in moved[x % len(moved)]))

    def _choose(self, states: list[State], colder: float) -> None:
        """Let dear placements give way to copies of others; `colder`: by how much, inversely."""
        cost = np.array([state.now[0] for state in states])
        weight = np.exp(-colder * (cost - cost.min()))
        marks = (self._rng.random() + np.arange(len(states))) / len(states)
        chosen = np.searchsorted(np.cumsum(weight / weight.sum()), marks)
        copies = np.bincount(np.minimum(chosen, len(states) - 1), minlength=len(states))
        given_up = iter(np.flatnonzero(copies == 0).tolist())
        for x in np.flatnonzero(copies > 1).tolist():
            for _ in range(copies[x] - 1):
                copy(states[x], states[next(given_up)])


def temperature(share: float) -> float:
    """Return the temperature after this share of a search, in VM costs."""
    return 1.0 / (1.0 / HOT + share * (1.0 / COLD - 1.0 / HOT))


def copy(source: State, target: State) -> None:
    """Make one state equal to another."""
    for these, those in zip(source, target, strict=True):
        those[:] = these


def anneal(layout: Layout, scale: float, hot: float, cold: float, state: State, seed: int) -> None:
    """Make random moves of one state, from one temperature to another."""
    from placer.solvers import annealing_kernel

    price = OVERLOAD * scale
    annealing_kernel.anneal(
        layout.task, layout.rules, state, seed, MOVES, hot, cold,
        CHEAPEST * price, DEAREST * price,
    )  # fmt: skip


def shares(run: Run, seconds: float) -> Iterator[tuple[float, float]]:
    """Yield from which share of a search to which the next chunk goes, until time is over.

    Without a limit there are CHUNKS of them.
    """
    began, done, end = run.seconds(), 0, 0.0
    while end < 1.0 and not run.should_stop():
        begin = (run.seconds() - began) / seconds if np.isfinite(seconds) else done / CHUNKS
        end = min(1.0, begin + (begin / done if done else 1.0 / CHUNKS))
        done += 1
        yield begin, end


def seeds(rng: np.random.Generator, number: int) -> list[int]:
    """Return seeds for so many searches."""
    return [int(seed) for seed in rng.integers(2**31, size=number)]
