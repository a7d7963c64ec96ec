"""Simulated annealing replica by replica, where slowdowns are sums over pairs.

Placements on the way may ask for a little more than a VM has, at a price that follows how often
that happens (after the strategic oscillation of Glover 1989); a VM has the cheapest type that
holds it. The moves themselves are compiled, and each worker has a search of its own.
"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from placer.problem import TOLERANCE
from placer.solvers.compiled import may_compile
from placer.solvers.group_costs import most_members
from placer.solvers.pair_search import classes_of, searchable
from placer.solvers.run import Assignment, Run

if TYPE_CHECKING:
    from placer.solvers.annealing_kernel import Rules, State, Task

Ints = NDArray[np.int64]

HOT, COLD = 0.15, 0.02
"""Temperatures at the beginning and at the end, relative to what a VM costs."""

OVERLOAD = 1.5
"""The least price of asking for twice what a VM has, relative to what a VM costs."""

LARGEST = 2_000
"""The most replicas; with more, moves of single ones lead nowhere in time."""

CELLS = 20_000_000
"""Class x slot x kind cells that one search may keep."""

MOVES_A_SECOND = 2_000_000
CHUNK_SECONDS = 0.1
CHUNKS = 100
"""Chunks of a search without a clock."""

BANNED = 1e6
"""What a pair costs that may not share a VM, relative to the largest cost there is."""


def annealable(run: Run) -> bool:
    """Return whether annealing can improve the best placement of `run`."""
    batch = run.batch
    if run.best is None or not 1 < batch.total_replicas <= LARGEST or not searchable(run):
        return False
    if batch.total_replicas * batch.kinds * batch.types > CELLS:
        return False
    from placer.solvers import annealing_kernel

    return may_compile(run, annealing_kernel.anneal)


class Annealing:
    """Annealing of one run's best placement, a search a worker."""

    def __init__(self, run: Run) -> None:
        from placer.solvers import annealing_kernel

        self._kernel = annealing_kernel
        self._run = run
        self._classes = classes_of(run)
        types = np.concatenate([c.types for c in self._classes])
        self._types = types[np.argsort(run.batch.price[types], kind="stable")]
        self._task, self._rules = self._lay_out()
        self._rng = np.random.default_rng(run.options.seed)

    def improve(self, seconds: float, heat: float = 1.0) -> bool:
        """Anneal once in about these seconds (a fixed number of moves without a limit).

        With less `heat` the search begins colder, nearer to the best placement so far. Return
        whether that gained. The contents of the placements on the way are promising.
        """
        run = self._run
        before = run.objective
        scale = self._scale()
        states = [self._state(scale) for _ in range(max(1, run.options.workers))]
        timed = np.isfinite(seconds)
        moves = int(MOVES_A_SECOND * (min(CHUNK_SECONDS, seconds / 4) if timed else CHUNK_SECONDS))
        began, share = run.seconds(), 0.0
        with run.at_most(seconds), ThreadPoolExecutor(len(states)) as pool:
            while share < 1.0 and not run.should_stop():
                passed = (run.seconds() - began) / seconds if timed else share
                share = min(1.0, passed + (CHUNK_SECONDS / seconds if timed else 1.0 / CHUNKS))
                chunk = partial(self._chunk, moves, scale, heat, passed, share)
                list(pool.map(chunk, states, self._rng.integers(2**31, size=len(states)).tolist()))
                self._take(states, remember=share > 0.5)
        return before is None or (run.objective is not None and run.objective < before)

    def _chunk(
        self,
        moves: int,
        scale: float,
        heat: float,
        begin: float,
        end: float,
        state: State,
        seed: int,
    ) -> None:
        """Anneal `state` from one share of the search to another."""
        hot, cold = scale * temperature(begin, heat), scale * temperature(end, heat)
        least_price = OVERLOAD * scale
        self._kernel.anneal(self._task, self._rules, state, seed, moves, hot, cold, least_price)

    def _lay_out(self) -> tuple[Task, Rules]:
        """Return the batch as the kernel wants it."""
        batch, classes, types = self._run.batch, self._classes, self._types
        class_of = np.zeros(batch.types, dtype=np.int64)
        for number, c in enumerate(classes):
            class_of[c.types] = number
        lone = np.array([c.lone for c in classes])
        pair = np.array([c.pair for c in classes])
        known = np.concatenate([lone.ravel(), pair.ravel()])
        banned = BANNED * max(1.0, np.abs(known[np.isfinite(known)]).max(initial=0.0))
        lone[np.isinf(lone)] = banned
        pair[np.isinf(pair)] = banned
        demand = np.array([c.demand for c in classes])
        most = np.array([most_members(batch, int(t)) for t in types])
        capacity = np.minimum(batch.capacity[types], demand.max(axis=0).T @ batch.replicas + 1.0)
        bench = batch.unplaced_cost
        price = batch.instance.objective.price
        task = self._kernel.Task(
            kind=np.repeat(np.arange(batch.kinds), batch.replicas),
            price=price * batch.price[types],
            class_of=class_of[types],
            most=most,
            fleet=batch.vms_possible()[types],
            capacity=np.ascontiguousarray(np.maximum(capacity, TOLERANCE)),
            lone=lone,
            pair=pair,
            demand=demand,
            bench=np.zeros(batch.kinds) if bench is None else bench,
            effect=np.array([c.effect for c in classes]),
            slack=np.array([c.slack for c in classes]),
        )
        limited = price > 0 and np.isfinite(batch.max_price)
        rules = self._kernel.Rules(
            has_slo=self._run.costs.has_slo,
            has_bench=bench is not None,
            max_vms=batch.max_vms,
            max_price=price * batch.max_price if limited else np.inf,
        )
        return task, rules

    def _scale(self) -> float:
        """Return what a VM of the best placement costs without what its members cost."""
        best = self._run.best or {}
        count = sum(best.values())
        price = self._run.batch.price * self._run.batch.instance.objective.price
        spent = sum(float(price[t]) * n for (t, _), n in best.items())
        return max(spent / max(count, 1), 1e-9)

    def _state(self, scale: float) -> State:
        """Return the best placement as a state of the search."""
        task, best = self._task, self._run.best or {}
        n, (classes, kinds, resources) = len(task.kind), task.demand.shape
        slots = n + 2
        place = {int(t): number for number, t in enumerate(self._types)}
        waiting = [np.flatnonzero(task.kind == k).tolist() for k in range(kinds)]
        slot, vm_type = np.full(n, slots - 1), np.full(slots, -1)
        s = 0
        for (t, group), count in best.items():
            for _ in range(count):
                vm_type[s] = place[t]
                for k in group:
                    slot[waiting[k].pop()] = s
                s += 1
        wide = int(task.most.max()) + 1
        objective = np.inf if self._run.objective is None else self._run.objective
        return self._kernel.State(
            slot=slot,
            vm_type=vm_type,
            members=np.zeros((slots, wide), np.int64),
            size=np.zeros(slots, np.int64),
            load=np.zeros((classes, slots, resources)),
            own=np.zeros((classes, slots)),
            beside=np.zeros((classes, slots, kinds)),
            cost=np.zeros(slots),
            over=np.zeros(slots),
            free=np.zeros(len(self._types), np.int64),
            best_slot=slot.copy(),
            best_type=vm_type.copy(),
            now=np.array([0.0, OVERLOAD * scale, objective]),
        )

    def _take(self, states: list[State], *, remember: bool) -> None:
        """Offer the best placements; keep contents that are no overload, if they are worth it."""
        run = self._run
        for state in states:
            if run.objective is None or state.now[2] < run.objective:
                run.offer(self._placement(state.best_slot, state.best_type))
            if remember:
                keep = (state.over <= 0)[state.slot]
                contents = self._placement(np.where(keep, state.slot, -1), state.vm_type)
                run.promising.update(dict.fromkeys(contents))

    def _placement(self, slot: Ints, vm_type: Ints) -> Assignment:
        """Return the VMs of a state; replicas in slot -1, or on the bench, are left out."""
        members: dict[int, list[int]] = {}
        for i in np.flatnonzero((slot >= 0) & (slot < len(vm_type) - 1)).tolist():
            members.setdefault(int(slot[i]), []).append(int(self._task.kind[i]))
        contents = [
            (int(self._types[vm_type[s]]), tuple(sorted(kinds))) for s, kinds in members.items()
        ]
        return Counter(contents)


def temperature(share: float, heat: float) -> float:
    """Return the temperature after this share of a search, relative to what a VM costs."""
    return float(heat * HOT * (COLD / HOT) ** share)
