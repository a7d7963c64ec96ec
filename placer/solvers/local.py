"""Local search: from a greedy placement downhill, then out of the valley and down again.

Descent takes moves and swaps of single replicas, unions, divisions and changes of type of whole
VMs, each for as many equal VMs as there are. When none gains, a few VMs are taken apart and
placed anew, and what is no better is undone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from placer.interference.tables import Floats
from placer.solvers.fleet import CostMemo, Fleet
from placer.solvers.greedy import Plan, barred_kinds, best_greedy, construct
from placer.solvers.moves import Change, Deltas, Moves
from placer.solvers.run import Run
from placer.solvers.vm_moves import merges, retypes, splits

LEAST_GAIN = 1e-9
"""Gains below this, relative to the objective, are rounding."""

ROUNDS = 20
"""Rounds without improvement after which the search ends."""

WORK_LIMIT = 2_500_000
"""Group costs after which a search without a time limit begins no further round: a few seconds,
counted so that the same search repeats exactly."""

CELL_LIMIT = 30_000_000
"""Costs kept for contents, used and not, before those not in use are forgotten."""

REPLACING_LIMIT = 6_000_000
"""Content x member x kind cells up to which every swap is looked at."""

ADDING_LIMIT = 20_000_000
"""Content x kind cells up to which single replicas are moved; above, whole VMs alone are."""

PROMISING = 20_000
"""Contents of valleys that are kept, the last ones."""

OPENINGS = (1.0, 0.6, 0.3)


class Local:
    """Greedy if there is no placement yet, then steepest descent with seeded perturbation."""

    name = "local"
    exact = False

    def __init__(self, rounds: int = ROUNDS) -> None:
        """`rounds` without improvement end the search; 0 is a descent alone."""
        self.rounds = rounds

    def solve(self, run: Run) -> None:
        """Offer every improvement to `run` until none is found any more, or it must stop."""
        memo = CostMemo(run.costs)
        fleet = Fleet(run.batch, memo)
        if run.best is None:
            fleet.load(best_greedy(run, memo).assignment())
        else:
            fleet.load(run.best)
        run.enter("local search")
        Search(run, fleet).improve(self.rounds)


class Search:
    """One local search on one fleet."""

    def __init__(self, run: Run, fleet: Fleet) -> None:
        self.run = run
        self.fleet = fleet
        self._rng = np.random.default_rng(run.options.seed)
        self._bench = _bench_costs(run, fleet)
        self._deltas = self._new_deltas()
        self._merged: set[int] = set()
        self._divided: set[int] = set()

    def improve(self, rounds: int) -> None:
        """Descend, then perturb until `rounds` in a row brought nothing."""
        begun = self.fleet.memo.rows
        self.descend()
        self.run.offer(self.fleet.assignment())
        idle, best = 0, self.objective()
        while idle < rounds and not self.run.should_stop():
            if np.isinf(self.run.time_left()) and self.fleet.memo.rows - begun > WORK_LIMIT:
                return
            before = self.fleet.snapshot()
            self._perturb()
            self.descend()
            self._remember()
            objective = self.objective()
            if objective < best - self._least(best):
                idle, best = 0, objective
                self.run.offer(self.fleet.assignment())
            else:
                idle += 1
                self.fleet.restore(before)
            self._forget()

    def _remember(self) -> None:
        """Keep the contents of this valley for the exact method to choose from."""
        promising = self.run.promising
        promising.update(dict.fromkeys(self.fleet.assignment()))
        for state in list(promising)[: max(0, len(promising) - PROMISING)]:
            del promising[state]

    def objective(self) -> float:
        """Return the objective, broken bans counted as dearer than anything else."""
        fleet = self.fleet
        total = fleet.total() + float(fleet.remaining @ np.nan_to_num(self._bench))
        held, placed = fleet.held(), fleet.batch.replicas - fleet.remaining
        for rule, vms in zip(fleet.batch.together, held.tolist(), strict=True):
            if vms == 0 and placed[rule > 0].any():
                total += float(np.nan_to_num(self._bench).max() + 1.0) * 1e3
        return total

    def descend(self) -> None:
        """Apply changes that gain until none is left, the cheapest to find first."""
        by_replica = len(self.fleet.alive()) * self.fleet.batch.kinds <= ADDING_LIMIT
        phases: list[Callable[[float], Iterable[Change]]] = [
            lambda least: self._move(least) if by_replica else (),
            lambda least: retypes(self.fleet, least),
            lambda least: self._exchange(least) if by_replica and self._deltas.replacing else (),
            lambda least: merges(self.fleet, self._rng, least, self._merged),
            lambda least: splits(self.fleet, self._rng, least, self._divided),
        ]
        phase = 0
        while phase < len(phases) and not self.run.should_stop():
            changes = phases[phase](self._least(self.objective()))
            phase = 0 if self._apply(changes) else phase + 1

    def _move(self, least: float) -> Iterable[Change]:
        """Return moves; when they have gained nothing, exchanges start from the same figures."""
        barred = np.array(sorted(barred_kinds(self.fleet)), dtype=np.int64)
        self._moves = Moves(self.fleet, self._deltas, self._bench, barred)
        return self._moves.moves(least)

    def _exchange(self, least: float) -> Iterable[Change]:
        return self._moves.exchanges(least)

    def _apply(self, changes: Iterable[Change]) -> bool:
        """Apply each change whose VMs no earlier one touched; return whether any was."""
        fleet, touched = self.fleet, set[int]()
        for change in changes:
            if any(fleet.degree[row] and row in touched for row in change.sources):
                continue
            targets = fleet.rows(change.targets).tolist()
            sources = list(change.sources)
            times = fleet.most_times(sources, targets)
            if times <= 0:
                continue
            paired = list(zip(sources, targets, strict=True))
            for source, target in paired:
                fleet.shift(source, target, times)
            touched.update(sources)
        return bool(touched)

    def _perturb(self) -> None:
        """Take a few VMs apart and place their replicas anew, in another order."""
        fleet, rng = self.fleet, self._rng
        rows = fleet.alive()
        if not len(rows):
            return
        chosen = rng.choice(rows, size=min(len(rows), int(rng.integers(2, 7))), replace=False)
        bulk = rng.random() < 0.5
        for row in chosen.tolist():
            vms = int(fleet.count[row]) if bulk else 1
            fleet.shift(row, int(fleet.type_of[row]), vms)
        opening = OPENINGS[int(rng.integers(len(OPENINGS)))]
        construct(self.run, Plan(rng.permutation(fleet.batch.kinds), opening), fleet.memo, fleet)

    def _forget(self) -> None:
        """Start anew with the contents in use alone, once too many have been seen."""
        if self._deltas.cells > CELL_LIMIT or self.fleet.size > 200_000:
            fleet = Fleet(self.fleet.batch, self.fleet.memo)
            fleet.load(self.fleet.assignment())
            self.fleet = fleet
            self._deltas = self._new_deltas()
            self._merged, self._divided = set(), set()

    def _new_deltas(self) -> Deltas:
        fleet = self.fleet
        members = int(fleet.degree[fleet.alive()].sum())
        return Deltas(fleet, replacing=members * fleet.batch.kinds <= REPLACING_LIMIT)

    def _least(self, objective: float) -> float:
        return LEAST_GAIN * max(1.0, min(abs(objective), 1e3))


def _bench_costs(run: Run, fleet: Fleet) -> Floats:
    """Return what one replica left out costs (K,): the penalty, or more than placing it ever could.

    Where leaving out is forbidden, a replica that has no host yet waits at that cost.
    """
    penalty = run.batch.unplaced_cost
    if penalty is not None:
        return penalty
    empty = np.arange(run.batch.types)
    alone = [fleet.cost_with(empty, (kind,)) for kind in range(run.batch.kinds)]
    finite = [float(c) for costs in alone for c in costs if np.isfinite(c)]
    dearest = max([1.0, *finite, float(fleet.cost.max(initial=0.0))])
    return np.full(run.batch.kinds, 1e4 * dearest)
