"""Annealing replica by replica, where slowdowns are sums over pairs, again and again.

Placements on the way may ask for a little more than a VM has, at a price that follows how often
that happens (after the strategic oscillation of Glover 1989); a VM has the cheapest type that
holds it. The moves themselves are compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from placer.solvers.annealing_layout import Layout
from placer.solvers.annealing_types import State
from placer.solvers.run import Assignment, Run

Ints = NDArray[np.int64]

HOT, WARM, COLD = 0.08, (0.03, 0.042), 0.025
"""Temperatures, in VM costs: where a start is forgotten, where a placement begins to cool again,
and at the end.

It begins anywhere in a range: where good VMs last and poor ones do not differs from batch to batch.
"""

MOVES = 100_000
"""Moves of one placement between two looks at the clock: a chunk."""

PLACEMENTS, LEAST = 10, 2
"""Placements that are cooled at first, more where there is a clock, and many workers; and how many
of them are left at the end of a search."""

FIRST_SHARE = 0.1
"""Of a search's time, what the first placements take. Each is then moved as often every time."""

FORGETTING = 0.1
"""For this share of its cooling a new placement is near the one that it began from."""

CHUNKS, ROUNDS = 25, 8
"""How often a placement is moved, and how often all are cooled again, where there is no clock."""

STALE, KEPT = 4, 0.5
"""After so many times all without a better one, which share of them stays beside new ones."""

ENOUGH, MOST_SEARCHES = 200_000, 8
"""How often each replica is tried in place of each other before another search, apart, leads
further than a longer one; and the most of them. The last begins with what the others found.
"""

CALMER, CALMEST = 0.5, 0.125
"""What becomes of the lowest temperatures each time that all were in vain again, at the least."""

LONGER = 2.0
"""With so many times the time of before all are new: hasty ones are too much alike."""

JOINING = 0.5
"""After this share of the last search the best placement known joins; from the start, it takes
over."""


class Annealing:
    """Annealing of one run's batch: placements that cooled are warmed a little, and cool again.

    Each time they keep most of what is good in them, which a fresh start would have to find anew
    (after the thermal cycling of Möbius et al. 1997). The worst of them are given up, one by one.
    """

    def __init__(self, run: Run) -> None:
        self._run, self._layout = run, Layout(run)
        self._rng = np.random.default_rng(run.options.seed)
        self._placements: list[State] = []
        self._first = 0  # how many there were in the beginning
        self._horizon = 0.0
        self._seconds = 1.0  # that a chunk takes, all workers together
        self._vain = 0  # placements cooled again since the last better one
        self._ends: list[State] = []  # the best of searches that came to their end
        self._adopted: list[tuple[float, Assignment]] = []
        self._waiting: list[Assignment] = []

    def adopt(self, placement: Assignment) -> None:
        """Let a placement that another search found be one of them, where it is a good one."""
        cost = self._run.objective_of(placement)
        if cost is not None:
            known = [*self._adopted, (cost, placement)]
            self._adopted = sorted(known, key=itemgetter(0))[:PLACEMENTS]
            self._waiting.append(placement)

    def improve(self, seconds: float) -> bool:
        """Search for about these seconds (a fixed number of moves without a limit).

        Return whether that gained. It goes on from where the one before ended, unless there is
        much more time now. The contents of what was found are promising.
        """
        run, before, began = self._run, self._run.objective, self._run.seconds()
        hurry, scale = bool(np.isfinite(seconds)), self._layout.scale()
        with run.at_most(seconds), ThreadPoolExecutor(run.options.workers) as pool:
            known = self._placements or self._ends
            if not known or (hurry and seconds > LONGER * self._horizon):
                self._placements, self._ends, self._horizon = [], [], seconds
                self._waiting = [placement for _, placement in self._adopted]
            number = self._searches(pool, scale, seconds) if hurry else 1
            for left in range(number, 0, -1):
                if run.should_stop():
                    break
                if left == 1:
                    self._placements += self._ends
                share = (seconds - (run.seconds() - began)) / left
                self._search_apart(pool, scale, share, last=left == 1)
        return run.objective != before

    def _searches(self, pool: ThreadPoolExecutor, scale: float, seconds: float) -> int:
        """Return how many searches, one after another, there is time for."""
        state, n = self._layout.state(scale), len(self._layout.task.kind)
        trial = [copied(state) for _ in range(self._run.options.workers)]
        for _ in range(2):  # the first may compile
            self._search(pool, partial(self._move, scale, WARM[0], WARM[0]), trial, len(trial))
        longest = ENOUGH * n * n / MOVES * self._seconds
        return max(1, min(MOST_SEARCHES, int(seconds / longest)))

    def _search_apart(
        self, pool: ThreadPoolExecutor, scale: float, seconds: float, *, last: bool
    ) -> None:
        """Cool all again, ever fewer of them, until the time is over, or nothing better comes.

        In the `last` search new ones take the place of some then. Of others the best is kept.
        """
        run, rounds, since, joined = self._run, 0, 0.0, False
        began, hurry = run.seconds(), bool(np.isfinite(seconds))
        if not self._placements or self._ends:
            self._renew(pool, scale, FIRST_SHARE * seconds)
        for placement in self._waiting:
            self._join(self._layout.state(scale, placement))
        self._waiting = []
        while not run.should_stop():
            share = (run.seconds() - began) / seconds if hurry else rounds / ROUNDS
            if share >= 1.0:
                break
            if last and share >= JOINING and not joined:
                joined = True
                self._join(self._layout.state(scale))
            self._give_up((share - since) / (1.0 - since))
            self._cool_again(pool, scale, self._chunks(seconds))
            rounds += 1
            if self._vain >= STALE * self._first:
                if not last:
                    break
                since = share
                self._renew(pool, scale, FIRST_SHARE * seconds)
        if last:
            self._ends = []
        else:
            self._ends.append(min(self._placements, key=cost_of))
            self._placements = []

    def _chunks(self, seconds: float) -> int:
        """Return how often a placement is moved: as often as each was in the beginning."""
        if not np.isfinite(seconds):
            return CHUNKS
        return max(1, round(FIRST_SHARE * seconds / (self._seconds * self._first)))

    def _give_up(self, share: float) -> None:
        """Give up the worst after this share of a search: in the end, all but the LEAST."""
        number = max(LEAST, round((1.0 - share) * self._first))
        self._placements = sorted(self._placements, key=cost_of)[:number]

    def _join(self, state: State) -> None:
        """Let a placement take the place of the worst one, where it is better."""
        placements = self._placements
        worst = max(range(len(placements)), key=lambda x: cost_of(placements[x]))
        if cost_of(state) < cost_of(placements[worst]) and differs(state, placements):
            placements[worst] = state

    def _renew(self, pool: ThreadPoolExecutor, scale: float, seconds: float) -> None:
        """Cool new placements within these seconds; the best of the old ones stay.

        What they found while hot, twins of the placement they began from, counts only where none
        has come as far as that one in the time there is.
        """
        run, layout = self._run, self._layout
        number = max(PLACEMENTS, 2 * run.options.workers) if np.isfinite(seconds) else PLACEMENTS
        self._vain, self._first = 0, min(number, layout.most_states())
        known = sorted(self._placements, key=cost_of)[: int(KEPT * self._first)]
        start = layout.state(scale)
        number = self._first - len(known)
        fresh = [unmoved(start, start.slot, start.vm_type) for _ in range(number)]
        twins: list[State] = []
        for begin, end in shares(run, seconds):
            hot, cold = (scale * temperature(HOT, share) for share in (begin, end))
            if begin >= FORGETTING and not twins:
                twins = [copied(state) for state in fresh]
                forget(fresh)
            self._search(pool, partial(self._move, scale, hot, cold), fresh, len(fresh))
        if twins and min(map(cost_of, fresh)) > cost_of(start):
            fresh = [min(pair, key=cost_of) for pair in zip(fresh, twins, strict=True)]
        self._placements = known + fresh

    def _cool_again(self, pool: ThreadPoolExecutor, scale: float, chunks: int) -> None:
        """Cool copies of all from a little warmer; those that are better take their place.

        The best are cooled again twice where workers would be idle.
        """
        placements, layout = self._placements, self._layout
        workers = self._run.options.workers
        turns = range(-(-len(placements) // workers) * workers)
        own = [x % len(placements) for x in turns]
        found = [unmoved(placements[x], placements[x].best_slot, placements[x].best_type)
                 for x in own]  # fmt: skip
        self._search(pool, partial(self._cool, scale, chunks), found, chunks * len(found))
        layout.remember(found)
        self._vain += len(found)
        for x, state in zip(own, found, strict=True):
            if cost_of(state) < cost_of(placements[x]) and differs(state, placements):
                placements[x], self._vain = state, 0

    def _search(
        self,
        pool: ThreadPoolExecutor,
        search: Callable[[State, int], None],
        states: list[State],
        chunks: int,
    ) -> None:
        """Search from all states, each with a seed of its own, which takes so many chunks."""
        began = self._run.seconds()
        list(pool.map(search, states, seeds(self._rng, len(states))))
        if not self._run.should_stop():  # else not all of them were moved
            self._seconds = max(1e-9, (self._run.seconds() - began) / chunks)
        self._layout.offer(states)

    def _cool(self, scale: float, chunks: int, state: State, seed: int) -> None:
        rng = np.random.default_rng(seed)
        warm = rng.uniform(*WARM)
        calmest = max(CALMEST, CALMER ** max(0, self._vain // self._first - 1))
        calm = scale * calmest ** rng.random()
        for x, own in enumerate(seeds(rng, chunks)):
            hot, cold = (calm * temperature(warm, y / chunks) for y in (x, x + 1))
            self._move(scale, hot, cold, state, own)

    def _move(self, scale: float, hot: float, cold: float, state: State, seed: int) -> None:
        if not self._run.should_stop():
            anneal(self._layout, scale, hot, cold, state, seed)


def forget(states: list[State]) -> None:
    """Let nothing count as found so far: it may be little else than where the states began."""
    for state in states:
        state.now[2] = np.inf


def cost_of(state: State) -> float:
    """Return what the best placement costs that a search came through."""
    return float(state.now[2])


def differs(state: State, others: list[State]) -> bool:
    """Return whether no other costs the same."""
    return not any(np.isclose(cost_of(state), cost_of(other), rtol=1e-9) for other in others)


def copied(state: State) -> State:
    """Return a copy that can be moved by itself."""
    return State._make(array.copy() for array in state)


def unmoved(state: State, slot: Ints, vm_type: Ints) -> State:
    """Return a copy of a state that begins at another placement and has found none itself."""
    begun = copied(state)
    begun.slot[:], begun.vm_type[:] = slot, vm_type
    forget([begun])
    return begun


def temperature(hot: float, share: float) -> float:
    """Return the temperature after this share of a search from `hot` to cold, in VM costs."""
    return 1.0 / (1.0 / hot + share * (1.0 / COLD - 1.0 / hot))


def anneal(layout: Layout, scale: float, hot: float, cold: float, state: State, seed: int) -> None:
    """Make random moves of one state, from one temperature to another."""
    from placer.solvers import annealing_kernel

    annealing_kernel.anneal(
        layout.task, layout.rules, state, seed, MOVES, hot, cold,
        layout.least_prices(scale), *layout.overload_prices(scale),
    )  # fmt: skip


def shares(run: Run, seconds: float) -> Iterator[tuple[float, float]]:
    """Yield from which share of a cooling to which the next chunk goes, until time is over.

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
