"""A batch as annealing wants it: arrays for the compiled moves, and placements back and forth."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from placer.problem import TOLERANCE
from placer.solvers.annealing_fits import fits_of, least_prices
from placer.solvers.annealing_types import Rules, State, Task
from placer.solvers.compiled import may_compile
from placer.solvers.group_costs import most_members
from placer.solvers.pair_search import classes_of, searchable
from placer.solvers.run import Assignment, Run

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

OVERLOAD = 15.0
"""The price of asking for twice what a VM has at first, relative to what a VM costs."""

CHEAPEST, DEAREST = 0.1, 30.0
"""How far that price may fall and rise, relative to the one at first."""

PRICES = 30
"""Prices of overload for which it is worked out what a VM costs at the least."""

LARGEST = 2_000
"""The most replicas; with more, moves of single ones lead nowhere in time."""

CELLS = 20_000_000
"""Class x slot x kind cells that one search may keep."""

MOST_PROMISING = 50_000
"""With so many promising contents no more are kept."""

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


class Layout:
    """One run's batch in arrays. task, rules: as the kernel wants them."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._classes = classes_of(run)
        types = np.concatenate([c.types for c in self._classes])
        self._types = types[np.argsort(run.batch.price[types], kind="stable")]
        self.task, self.rules = self._task(), self._rules()
        self._least: tuple[float, Floats] | None = None

    def _task(self) -> Task:
        """Return what the replicas are, and what their VMs could be."""
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
        capacity = np.ascontiguousarray(np.maximum(capacity, TOLERANCE))
        bench = batch.unplaced_cost
        price = batch.instance.objective.price * batch.price[types]
        rate = np.zeros(demand.shape[::2])
        for number in range(len(classes)):
            own = class_of[types] == number
            rate[number] = rents(price[own], capacity[own], batch.replicas @ demand[number])
        lone += (demand * rate[:, None, :]).sum(axis=2)
        kind = np.repeat(np.arange(batch.kinds), batch.replicas)
        return Task(
            kind=kind,
            price=price,
            class_of=class_of[types],
            most=most,
            fleet=batch.vms_possible()[types],
            capacity=capacity,
            lone=lone,
            alone=np.ascontiguousarray(lone[:, kind]),
            pair=pair,
            demand=demand,
            rate=rate,
            bench=np.zeros(batch.kinds) if bench is None else bench,
            effect=np.array([c.effect for c in classes]),
            slack=np.array([c.slack for c in classes]),
            fits=fits_of(capacity, class_of[types]),
        )

    def _rules(self) -> Rules:
        """Return what limits the fleet, and what there is to look at."""
        batch = self._run.batch
        weight = batch.instance.objective.price
        limited = weight > 0 and np.isfinite(batch.max_price)
        return Rules(
            has_slo=self._run.costs.has_slo,
            has_bench=batch.unplaced_cost is not None,
            max_vms=batch.max_vms,
            max_price=weight * batch.max_price if limited else np.inf,
        )

    def overload_prices(self, scale: float) -> tuple[float, float]:
        """Return the lowest and the highest price of asking for twice what a VM has."""
        return CHEAPEST * OVERLOAD * scale, DEAREST * OVERLOAD * scale

    def least_prices(self, scale: float) -> Floats:
        """Return what VMs cost at the least by their load, as `least_prices` does.

        The prices of overload are a geometric series from the lowest to the highest.
        """
        if self._least is None or self._least[0] != scale:
            prices = np.geomspace(*self.overload_prices(scale), PRICES)
            task = self.task
            self._least = scale, least_prices(task.capacity, task.class_of, task.price, prices)
        return self._least[1]

    def scale(self) -> float:
        """Return what a VM of the best placement costs.

        Where its members cost, or gain, more than its price, halfway between the two.
        """
        best = self._run.best or {}
        count = max(1, sum(best.values()))
        price = self._run.batch.price * self._run.batch.instance.objective.price
        spent = sum(float(price[t]) * n for (t, _), n in best.items())
        members = abs((self._run.objective or 0.0) - spent)
        return max(spent, (spent + members) / 2.0, 1e-9) / count

    def state(self, scale: float, placement: Assignment | None = None) -> State:
        """Return a placement, the best one where none is given, as a state of the search."""
        task = self.task
        chosen = placement if placement is not None else self._run.best or {}
        n, (classes, kinds, resources) = len(task.kind), task.demand.shape
        slots = n + 2
        place = {int(t): number for number, t in enumerate(self._types)}
        waiting = [np.flatnonzero(task.kind == k).tolist() for k in range(kinds)]
        slot, vm_type = np.full(n, slots - 1), np.full(slots, -1)
        s = 0
        for (t, group), count in chosen.items():
            for _ in range(count):
                vm_type[s] = place[t]
                for k in group:
                    slot[waiting[k].pop()] = s
                s += 1
        wide = int(task.most.max()) + 1
        objective = self._run.objective_of(chosen)
        best = np.inf if objective is None else objective
        return State(
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
            stay=np.zeros((classes, n)),
            new_load=np.zeros((classes, resources)),
            new_own=np.zeros(classes),
            enter=np.zeros((classes, slots)),
            leaves=np.zeros(n),
            enters=np.zeros(n),
            change=np.zeros(n),
            best_slot=slot.copy(),
            best_type=vm_type.copy(),
            now=np.array([0.0, OVERLOAD * scale, best, 0.0, 0.0, 0.0, 0.0]),
        )

    def most_states(self) -> int:
        """Return how many states may be kept at once, for their size."""
        classes, kinds, _ = self.task.demand.shape
        return max(1, 2 * CELLS // (classes * len(self.task.kind) * kinds))

    def offer(self, states: list[State]) -> None:
        """Offer the best placements of searches, where they are better than the best so far."""
        run = self._run
        for state in states:
            if run.objective is None or state.now[2] < run.objective:
                run.offer(self.placement(state.best_slot, state.best_type))

    def remember(self, states: list[State]) -> None:
        """Keep the contents of what searches found as promising, while they are few."""
        promising = self._run.promising
        for state in states if len(promising) < MOST_PROMISING else ():
            promising.update(dict.fromkeys(self.placement(state.best_slot, state.best_type)))

    def has(self, vm_type: Ints) -> bool:
        """Return whether the fleet has VMs of these types; -1 stands for none."""
        task, rules = self.task, self.rules
        asked = np.bincount(vm_type[vm_type >= 0], minlength=len(task.fleet))
        if asked.sum() > rules.max_vms or asked @ task.price > rules.max_price:
            return False
        return bool((asked <= task.fleet).all())

    def placement(self, slot: Ints, vm_type: Ints) -> Assignment:
        """Return the VMs of a state; replicas in slot -1, or on the bench, are left out."""
        members: dict[int, list[int]] = {}
        for i in np.flatnonzero((slot >= 0) & (slot < len(vm_type) - 1)).tolist():
            members.setdefault(int(slot[i]), []).append(int(self.task.kind[i]))
        contents = [
            (int(self._types[vm_type[s]]), tuple(sorted(kinds))) for s, kinds in members.items()
        ]
        return Counter(contents)


def rents(price: Floats, capacity: Floats, demand: Floats) -> Floats:
    """Return rates (R,) of room at which no VM is cheaper than its capacity (T, R).

    Of these, those at which the whole `demand` (R,) is dearest.
    """
    from scipy.optimize import linprog

    if not len(demand):
        return demand
    solved = linprog(-demand, A_ub=capacity, b_ub=price, method="highs")
    return np.maximum(solved.x, 0.0) if solved.status == 0 else np.zeros(len(demand))
