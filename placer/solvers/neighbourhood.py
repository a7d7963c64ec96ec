"""Large neighbourhood search whose repair step is the exact group master on a few VMs.

A few VMs are emptied and their replicas placed anew at the least cost there is, with the rest of
the placement left as it is. Which VMs is chosen in several ways, the more often the more a way has
gained of late (Ropke and Pisinger 2006). With prices at hand only groups that could be part of a
better placement go into the master.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from placer.solvers.columns import Columns, columns_of
from placer.solvers.frontier import Ground
from placer.solvers.linear_bound import LinearBound
from placer.solvers.linear_company import LinearCompany
from placer.solvers.refilling import GROUPS, Hole, refilled
from placer.solvers.run import Run, State, holds, replicas_placed, state_costs

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FIRST_SIZE, PRICED_SIZE = 14, 60
"""Replicas of the first neighbourhoods, and where there are prices."""

BY_LINEAR = 10.0
"""How much likelier than any other it is that VMs are chosen by the linear master's values, when
all have gained as much: by far the most gains come from there."""

LARGEST_SIZE = 200
QUICK_SECONDS, PRICED_SECONDS = 0.25, 0.6
"""A repair that is done sooner makes the next neighbourhoods larger; where there are prices."""

IDLE = 60
"""Neighbourhoods without gain after which a search without a clock ends."""

MEMORY = 0.9
"""How much of what a way of choosing gained before counts beside what it gains now."""

SKEW = 4.0
"""How strongly the worst VMs are preferred where the worst are looked for."""

PRICED_SHARE, PRICED_GROUPS = 20.0, 1_500
"""Where there are prices: a group that a repair chooses from is dearer than it is worth by at most
this share, over the size of the neighbourhood, of what all that is freed is; and the most groups.
"""

MOST_ALIKE = 2
"""VMs of the same content that are emptied together."""

FAULT, FAULTY = 1e-7, 2.5
"""From which part of its cost on a VM is dearer than the bound, and how far such VMs come to the
front, against chance of about 1."""


@dataclass
class Ways:
    """The ways to choose VMs, and what each has gained of late: an adaptive roulette wheel."""

    names: list[str]
    rng: np.random.Generator
    score: dict[str, float] = field(default_factory=dict)
    chance: dict[str, float] = field(default_factory=dict)

    def choose(self) -> str:
        """Return a way, in proportion to its score, and to its `chance` where that is not 1."""
        scores = np.array([self.score.get(n, 1.0) * self.chance.get(n, 1.0) for n in self.names])
        return str(self.rng.choice(self.names, p=scores / scores.sum()))

    def tell(self, name: str, gained: bool) -> None:
        """Take note of whether the way has gained."""
        now = self.score.get(name, 1.0)
        self.score[name] = max(0.1, MEMORY * now + (1.0 - MEMORY) * (4.0 if gained else 0.0))


class Neighbourhoods:
    """Improves a run's best placement, a few VMs at a time."""

    def __init__(self, run: Run, linear: LinearBound | None, number: int = 0) -> None:
        """By the prices of the linear bound it is told which groups cannot help.

        number: which of several searches of the run this is, each with a seed of its own.
        """
        self.run = run
        self._rng = np.random.default_rng(run.options.seed + number)
        self._ground = Ground.of(run)
        self._size = float(FIRST_SIZE if linear is None else PRICED_SIZE)
        names = ["random", "degradation", "price", "related"]
        names += ["prices", "linear"] if linear is not None else []
        self._ways = Ways(names, self._rng, chance={"linear": BY_LINEAR})
        self._choose: dict[str, Callable[[list[State], Floats, float], Ints]] = {
            "random": self._random,
            "degradation": self._by_degradation,
            "price": self._by_price,
            "related": self._related,
            "prices": self._by_prices,
            "linear": self._by_linear,
        }
        self.follow(linear)

    def follow(self, linear: LinearBound | None) -> None:
        """Take another linear bound to go by."""
        self.prices = None if linear is None else linear.guide
        self._company = None if linear is None else LinearCompany(linear, self.run.batch.kinds)

    def improve(self, seconds: float) -> bool:
        """Search for at most these seconds; return whether a better placement was found."""
        run = self.run
        before = run.objective
        with run.at_most(seconds):
            self.search()
        return before is None or (run.objective is not None and run.objective < before)

    def search(self) -> None:
        """Search until the time is over or little is found; several may do so in threads."""
        idle = 0
        while not self.run.should_stop() and idle < IDLE:
            way = self._ways.choose()
            gained = self._step(way)
            self._ways.tell(way, gained)
            idle = 0 if gained else idle + 1

    def _step(self, way: str) -> bool:
        """Open one neighbourhood and close it again at the least cost; return whether it gained."""
        hole = self.open(way, self._size)
        if not hole.vms:
            return False
        began = self.run.seconds()
        gained = self._close(hole)
        quick = self.run.seconds() - began < (PRICED_SECONDS if self.prices else QUICK_SECONDS)
        self._size = float(np.clip(self._size * (1.05 if quick else 0.9), 8, LARGEST_SIZE))
        return gained

    def open(self, way: str, size: float) -> Hole:
        """Choose VMs of the best placement, in one `way` or another, for `size` replicas."""
        run = self.run
        assert run.best is not None
        states = [s for s in run.best if not any(holds(s[1], r) for r in run.batch.together)]
        counts = np.array([run.best[s] for s in states], dtype=np.float64)
        chosen: Counter[State] = Counter()
        placed = 0
        for index in self._choose[way](states, counts, size).tolist() if states else ():
            state = states[index]
            take = min(int(counts[index]), MOST_ALIKE)
            chosen[state] += take
            placed += take * len(state[1])
            if placed >= size:
                break
        freed = replicas_placed(run.batch, chosen)
        return Hole(chosen, freed + self._unplaced(size))

    def _unplaced(self, most: float) -> Ints:
        """Return some of the replicas that have no place (K,)."""
        batch = self.run.batch
        missing = batch.replicas - replicas_placed(batch, self.run.best or {})
        for rule in batch.together:  # whose VM stays as it is
            missing[rule > 0] = 0
        kinds = self._rng.permutation(np.repeat(np.arange(batch.kinds), np.minimum(missing, 8)))
        return np.bincount(kinds[: int(most)], minlength=batch.kinds)

    def _close(self, hole: Hole) -> bool:
        run = self.run
        assert run.best is not None
        limits: tuple[float, int] = 1.0, GROUPS
        if self.prices is not None:
            limits = min(1.0, PRICED_SHARE / self._size), PRICED_GROUPS
        found = refilled(run, self._ground, run.best, hole, self.prices, *limits)
        return found is not None and run.offer(found)

    def _random(self, states: list[State], counts: Floats, size: float) -> Ints:
        return self._weighted(np.ones(len(states)), counts)

    def _by_degradation(self, states: list[State], counts: Floats, size: float) -> Ints:
        """Prefer VMs that cost much beyond what their replicas cost alone, price left out."""
        batch, costs = self.run.batch, self.run.costs
        price = batch.instance.objective.price * batch.price
        own = state_costs(costs, states) - price[[t for t, _ in states]]
        return self._weighted(own / np.array([len(group) for _, group in states]), counts)

    def _by_price(self, states: list[State], counts: Floats, size: float) -> Ints:
        """Prefer VMs that are dear for what they hold."""
        price = self.run.batch.price[[t for t, _ in states]]
        return self._weighted(price / np.array([len(group) for _, group in states]), counts)

    def _by_prices(self, states: list[State], counts: Floats, size: float) -> Ints:
        """Prefer VMs that a linear bound would not use, by however much they are too dear."""
        used, dearer = self._faults(states)
        faulty = dearer > FAULT * np.abs(used.cost)
        return np.argsort(-(FAULTY * faulty + self._rng.gumbel(size=len(states))), kind="stable")

    def _by_linear(self, states: list[State], counts: Floats, size: float) -> Ints:
        """Take a VM that a linear bound would not use, and those it would mix with it."""
        assert self._company is not None
        used, dearer = self._faults(states)
        times = np.minimum(counts, MOST_ALIKE).astype(np.int64)
        return self._company.order(used, times, np.maximum(dearer, 0.0), size, self._rng)

    def _faults(self, states: list[State]) -> tuple[Columns, Floats]:
        """Return VMs as columns, and how much dearer than the bound each is."""
        assert self.prices is not None
        used = columns_of(self.run.costs, states)
        return used, used.cost - self.prices.worth(used)

    def _related(self, states: list[State], counts: Floats, size: float) -> Ints:
        """Take a VM at random, and those whose replicas get on best with one of its own."""
        batch, costs = self.run.batch, self.run.costs
        seed = int(self._rng.integers(len(states)))
        t, group = states[seed]
        kind = int(self._rng.choice(group))
        others = np.arange(batch.kinds, dtype=np.int32)
        pairs = np.sort(np.column_stack([np.full_like(others, kind), others]), axis=1)
        cost, alone = costs.cost(t, pairs), self._ground.least_cost[t]
        able = np.isfinite(cost) & np.isfinite(alone)
        together = np.subtract(cost, alone, out=np.zeros(len(cost)), where=able)
        together[~able] = together.max(initial=0.0)
        best = np.array([together[list(group)].min() for _, group in states])
        best[seed] = -np.inf
        spread = float(np.ptp(np.delete(best, seed))) if len(best) > 1 else 0.0
        return np.argsort(best + 0.05 * spread * self._rng.gumbel(size=len(best)), kind="stable")

    def _weighted(self, badness: Floats, counts: Floats) -> Ints:
        """Return an order at random in which contents of higher badness tend to come first."""
        rank = np.argsort(np.argsort(badness, kind="stable"), kind="stable")
        weight = np.exp(SKEW * rank / max(1, len(rank) - 1)) if np.ptp(badness) > 0 else 1.0
        keys = np.log(self._rng.random(len(badness))) / (weight * np.sqrt(counts))
        return np.argsort(-keys, kind="stable")
