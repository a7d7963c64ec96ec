"""Simulated annealing replica by replica, where slowdowns are sums over pairs.

Placements on the way may ask for a little more than a VM has, at a price that follows how often
that happens (after the strategic oscillation of Glover 1989); a VM has the cheapest type that
holds it. The moves themselves are compiled.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from numpy.typing import NDArray

from placer.solvers.annealing_layout import OVERLOAD, Layout
from placer.solvers.annealing_types import State
from placer.solvers.run import Run

Floats = NDArray[np.float64]

HOT, COLD = 0.12, 0.02
"""Temperatures at the beginning and at the end of a search that cools, in VM costs."""

CHEAPEST, DEAREST = 0.1, 30.0
"""How far the price of asking too much may fall and rise, relative to the one at first."""

MOVES = 300_000
"""Moves of a search between two looks at the clock."""

CHUNKS = 100
"""Of a search without a clock."""

COOLEST, WARMEST, LEVELS = 0.035, 0.075, 10
"""Temperatures that are kept side by side, in VM costs."""

WARMING = 0.4
"""What part of a search that begins passes before placements change places."""

REMEMBERED = 4
"""Of so many of the coldest levels the contents on the way are promising."""


class Cooling:
    """Annealing of one run's best placement from hot to cold, a search a worker."""

    def __init__(self, run: Run) -> None:
        self._run, self._layout = run, Layout(run)
        self._rng = np.random.default_rng(run.options.seed)

    def improve(self, seconds: float) -> bool:
        """Cool once in about these seconds (a fixed number of moves without a limit).

        Return whether that gained. The contents of the placements on the way are promising.
        """
        run, layout = self._run, self._layout
        before, scale = run.objective, layout.scale()
        states = [layout.state(scale) for _ in range(max(1, run.options.workers))]
        with run.at_most(seconds), ThreadPoolExecutor(len(states)) as pool:
            for begin, end in shares(run, seconds):
                hot, cold = (scale * HOT * (COLD / HOT) ** at for at in (begin, end))
                chunk = partial(anneal, layout, scale, hot, cold)
                list(pool.map(chunk, states, seeds(self._rng, len(states))))
                layout.offer(states)
                if end > 0.5:
                    layout.remember(states)
        return run.objective != before


class Tempering:
    """Annealing of one run's best placement at several temperatures at once.

    Placements that suit each other's temperature better change places (parallel tempering; Geyer
    1991), so that what is found in the heat may cool, and the other way round. Each level begins
    with a search of its own that cools. A search goes on where the last one ended, or begins anew
    where that has gained nothing.
    """

    def __init__(self, run: Run) -> None:
        self._run, self._layout = run, Layout(run)
        self._rng = np.random.default_rng(run.options.seed)
        self._scale = self._layout.scale()
        self._heat = self._scale * np.geomspace(COOLEST, WARMEST, LEVELS)
        self._overload = np.full(LEVELS, OVERLOAD * self._scale)
        self._states = [self._layout.state(self._scale) for _ in range(LEVELS)]
        self._warm = False

    def improve(self, seconds: float) -> bool:
        """Search for about these seconds (a fixed number of moves without a limit).

        Return whether that gained. The contents of cold placements on the way are promising.
        """
        run, before = self._run, self._run.objective
        self._admit()
        with run.at_most(seconds), ThreadPoolExecutor(max(1, run.options.workers)) as pool:
            for number, (begin, _) in enumerate(shares(run, seconds)):
                self._warm = self._warm or begin >= WARMING
                heat = self._heat if self._warm else self._warming(begin / WARMING)
                list(pool.map(self._chunk, range(LEVELS), heat, seeds(self._rng, LEVELS)))
                self._layout.offer(self._states)
                self._layout.remember(self._states[:REMEMBERED])
                if self._warm:
                    self._exchange(number % 2)
        self._warm = self._warm and run.objective != before
        return run.objective != before

    def _warming(self, share: float) -> Floats:
        """Return the temperatures after this share of the levels' own searches."""
        hot = HOT * self._scale
        heat: Floats = hot * (self._heat / hot) ** share
        return heat

    def _admit(self) -> None:
        """Let the best placement take the coldest place, where another search has found it."""
        objective, known = self._run.objective, min(state.now[2] for state in self._states)
        if objective is not None and objective < known - 1e-9 * (1.0 + abs(known)):
            self._states[0] = self._layout.state(self._scale)

    def _chunk(self, level: int, heat: float, seed: int) -> None:
        """Anneal what has this level; the price of overload belongs to the level."""
        state = self._states[level]
        if not self._run.should_stop():
            state.now[1] = self._overload[level]
            anneal(self._layout, self._scale, heat, heat, state, seed)
            self._overload[level] = state.now[1]

    def _exchange(self, first: int) -> None:
        """Let neighbouring levels, from `first` on, exchange their placements at random.

        The chance is the Metropolis one of the pair, each at its own price of overload.
        """
        over = np.array([state.over.sum() for state in self._states])
        cost = np.array([state.now[0] for state in self._states]) - self._overload * over
        for x in range(first, LEVELS - 1, 2):
            y = x + 1
            colder = (cost[x] - cost[y] + self._overload[x] * (over[x] - over[y])) / self._heat[x]
            hotter = (cost[y] - cost[x] + self._overload[y] * (over[y] - over[x])) / self._heat[y]
            if np.log(1.0 - self._rng.random()) < colder + hotter:
                self._states[x], self._states[y] = self._states[y], self._states[x]


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
