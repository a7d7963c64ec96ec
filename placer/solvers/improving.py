"""Better placements by several searches in turn, the more often the more a search has gained.

Neighbourhoods, annealing, dives that are partly random, dives for a part alone, and the integer
master over all that these came across, so that what is good in several placements comes together.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from placer.solvers.annealing import Annealing
from placer.solvers.columns import Columns, columns_of, join
from placer.solvers.diving import dive
from placer.solvers.linear_bound import LinearBound
from placer.solvers.local import Local
from placer.solvers.master import Rows
from placer.solvers.neighbourhood import Neighbourhoods, Ways
from placer.solvers.pricing import lowest
from placer.solvers.rediving import redive
from placer.solvers.run import PartRun, Run

LONG = 1_000_000
"""Rounds of a local search that a clock ends."""

LONGER = {"annealing": 4.0, "diving again": 4.0, "diving around": 4.0, "diving afresh": np.inf}
"""Searches that find more in one go than in two, and how much longer than others they go on."""

DIVED = 40_000
"""Columns of dives that are kept, the last ones."""

LEAST_PART, MOST_PART, LEAST_REPLICAS = 60.0, 0.3, 200
"""Replicas of the parts that are dived for anew, the most as a share of all; with fewer replicas
the whole is, and a dive and the closing step are sooner than searches around what is dear.
"""

PARTS_IN_VAIN = 4
"""Parts dived for without a gain after which, beside neighbourhoods without one, it is enough."""

NEXT_PART = 0.5
"""How often a dive takes the part of the least bound, or of the others that of the least, ..."""

MASTER = 12_000
"""The most groups that the integer master chooses from on the way."""


class Improving:
    """The searches of one run that has a placement and a linear bound."""

    def __init__(
        self,
        run: Run,
        rows: Rows,
        linear: LinearBound,
        annealing: Annealing | None,
        choose: Callable[[LinearBound, Columns], object],
        even_out: Callable[[LinearBound], object] | None = None,
    ) -> None:
        """`choose` offers the best placement it finds in time, of the bound's columns and others.

        annealing: where the batch is one for it. even_out: where that led to placements right at
        the linear values, what offers more of them in time; dives and moves lead nowhere then.
        """
        self._run, self._rows, self._linear, self._choose = run, rows, linear, choose
        self._rng = np.random.default_rng(run.options.seed + 1)
        self._neighbourhoods = [
            Neighbourhoods(run, linear, number) for number in range(run.options.workers)
        ]
        self._annealing, self._even_out = annealing, even_out
        self._dived: list[Columns] = []
        self._begin()

    def _begin(self) -> None:
        """Begin with each search in turn."""
        self._searches = self._possible()
        self._ways = Ways(list(self._searches), self._rng)
        self._untried = 2 * list(self._searches)

    def _possible(self) -> dict[str, Callable[[float], object]]:
        """Return the searches that lead anywhere, by name."""
        searches: dict[str, Callable[[float], object]] = {}
        if even_out := self._even_out:
            searches["evening out"] = lambda _: even_out(self._linear)
        many = self._annealing and self._run.batch.total_replicas >= LEAST_REPLICAS
        afresh = many and self._linear.converged and not even_out
        if afresh:
            searches["diving afresh"] = lambda _: self._dive_afresh()
        searches["neighbourhoods"] = lambda _: self.near()
        if not even_out:
            searches["annealing" if self._annealing else "local search"] = self._locally
            if not afresh:
                searches["diving again"] = self._dive
        searches["wider columns"] = self._recombine
        if many and not even_out:
            searches["diving around"] = self._dive_around
        return searches

    def follow(self, linear: LinearBound) -> None:
        """Take another linear bound to go by."""
        if linear is not self._linear:
            self._linear = linear
            for near in self._neighbourhoods:
                near.follow(linear)
            self._begin()

    def step(self, seconds: float) -> bool:
        """Let one search run for about these seconds, some LONGER; return whether that gained."""
        run = self._run
        before = run.objective
        name = self._untried.pop(0) if self._untried else self._ways.choose()
        run.enter(name)
        seconds *= LONGER.get(name, 1.0)
        with run.at_most(seconds):
            self._searches[name](min(seconds, run.time_left()))
        gained = run.objective != before
        self._ways.tell(name, gained)
        if gained and "wider columns" not in self._untried:
            self._untried.append("wider columns")
        return gained

    def near(self) -> None:
        """Search neighbourhoods in all threads, until time is over or little is found."""
        with ThreadPoolExecutor(len(self._neighbourhoods)) as pool:
            list(pool.map(Neighbourhoods.search, self._neighbourhoods))

    def around(self) -> None:
        """Search neighbourhoods and dive for parts in turn, until time is over or neither gains."""
        run = self._run
        while not run.should_stop():
            self.near()
            before = run.objective
            for _ in range(PARTS_IN_VAIN):
                if run.objective == before and not run.should_stop():
                    self._dive_for_part()
            if run.objective == before:
                return

    def _locally(self, seconds: float) -> None:
        if self._annealing:
            self._annealing.improve(seconds)
        elif np.isfinite(self._run.time_left()):
            Local(rounds=LONG).solve(self._run)
        else:
            Local().solve(self._run)

    def _dive(self, seconds: float) -> None:
        """Dive until the time is over, once where there is no clock.

        One at a time: their ends have so many seconds, and all threads for them.
        """
        run, parts = self._run, self._linear.parts()
        while not run.should_stop():
            start = join([self._linear.columns, self._incumbent()])
            part = parts[min(int(self._rng.geometric(NEXT_PART)), len(parts)) - 1]
            dived = dive(run, part.rows(self._rows), start, self._rng)
            self._dived.append(dived.columns)
            if self._annealing:
                self._annealing.adopt(dived.placement)
                if "annealing" not in self._untried:
                    self._untried.insert(0, "annealing")
            while sum(map(len, self._dived)) > DIVED:
                self._dived.pop(0)
            if not np.isfinite(seconds):
                return

    def _dive_afresh(self) -> None:
        """Dive from the bound's columns, and search around where that ends, beside the best.

        How far the searches around one placement come depends on where they begin. As many dives
        as there are workers go side by side: one alone keeps few of them busy.
        """
        with ThreadPoolExecutor(len(self._neighbourhoods)) as pool:
            ends = list(pool.map(self._dived_apart, self._rng.spawn(len(self._neighbourhoods))))
        self._dived += [columns for _, columns in ends]
        for apart in sorted((apart for apart, _ in ends), key=Run.cost_to_beat):
            if apart.best is not None:
                Improving(apart, self._rows, self._linear, None, self._choose).around()
                self._run.promising.update(apart.promising)
                self._run.offer(apart.best)

    def _dived_apart(self, rng: np.random.Generator) -> tuple[Run, Columns]:
        """Return a run of the whole batch that begins where a dive ends, and what that added."""
        run, part = self._run, self._linear.parts()[0]
        options = replace(run.options, time_limit=None)
        apart = PartRun(run.batch, run.costs, options, whole=run)
        dived = dive(apart, part.rows(self._rows), self._linear.columns, rng)
        return apart, dived.columns

    def _dive_around(self, seconds: float) -> None:
        """Dive for parts around VMs that the linear bound would not use, until the time is over."""
        while not self._run.should_stop():
            self._dive_for_part()
            if not np.isfinite(seconds):
                return

    def _dive_for_part(self) -> None:
        """Dive for replicas around a VM that the linear bound would not use."""
        most = max(LEAST_PART, MOST_PART * self._run.batch.total_replicas)
        size = LEAST_PART * (most / LEAST_PART) ** self._rng.random()
        redive(self._run, self._neighbourhoods[0].open("linear", size), self._linear.columns)

    def _recombine(self, seconds: float) -> None:
        """Choose among the groups that any search came across, the most promising of them."""
        run, prices = self._run, self._linear.guide
        every = join([columns_of(run.costs, list(run.promising)), *self._dived])
        chosen = every.take(lowest(every.cost - prices.worth(every), MASTER))
        self._choose(self._linear, chosen)

    def _incumbent(self) -> Columns:
        return columns_of(self._run.costs, list(self._run.best or {}))


def share_of(run: Run) -> float:
    """Return the seconds that one search without proof may take."""
    left = run.time_left()
    return 60.0 if not np.isfinite(left) else max(1.0, min(20.0, left / 5))
