"""Pricing beyond enumeration: groups grow one member at a time and are cut by proven bounds.

A partial group is dropped when no group made of it by adding members can have a reduced cost
below what is asked for. The bound is that of a Lagrangian relaxed knapsack: what is left of
capacity and places at a price each, plus what every kind that may still join gains beyond those
prices. Members' costs enter by the interference's own floor, so the bound holds for tables with
helpful pairs and for monotone predictors alike. Where the frontier outgrows its limit, the least
promising are dropped and their bound is kept: what is returned stays proven, only weaker.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from placer.interference.tables import Groups
from placer.solvers.batch import Batch
from placer.solvers.columns import Columns, Prices, TogetherIndex, join
from placer.solvers.enumeration import grow, start_groups
from placer.solvers.group_costs import most_members
from placer.solvers.pricing import PER_ROUND, diverse
from placer.solvers.run import Run

Floats = NDArray[np.float64]

FIRST_BEAM = 100
LAST_BEAM = 32_000
NEGATIVE = -1e-9
COMPLETION_ROWS = 20_000


@dataclass(frozen=True)
class Frontier:
    """Partial groups of one VM type (n, degree), room beside them (n, R), bound of each (n,)."""

    groups: Groups
    room: Floats
    bound: Floats


@dataclass(frozen=True)
class Ground:
    """What growth stands on: the run, its batch (or what is left of it), and costs bounded below.

    least_cost: for each VM type what a replica of each kind costs at the least there (K,).
    """

    run: Run
    batch: Batch
    together: TogetherIndex
    least_cost: list[Floats]

    @classmethod
    def of(cls, run: Run) -> Ground:
        """Return the ground of the whole batch of `run`."""
        least = [run.costs.least_member_cost(t) for t in range(run.batch.types)]
        return cls(run, run.batch, TogetherIndex(run.batch), least)


class GrowthPricing:
    """Prices groups of one run without listing them all."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.batch = run.batch
        self._ground = Ground.of(run)
        self._beam = FIRST_BEAM
        self._recent: list[Columns] = []
        self._growing = [int(t) for t in np.flatnonzero(run.batch.vms_possible() > 0)]
        self._listed = self._listed_columns()

    def least(self, prices: Prices, *, free: bool = False) -> tuple[Floats, Columns]:
        """Return a lower bound of each type's least reduced cost (T,), and promising columns."""
        while True:
            least = np.full(self.batch.types, np.inf)
            listed = self._reduced(self._listed, prices, free)
            np.minimum.at(least, self._listed.vm_type, listed)
            found = [self._listed.take(diverse(self._listed.groups, listed, self.batch.kinds))]
            for t in self._growing:
                search = GroupSearch(self._ground, t, prices, free=free)
                least[t] = min(least[t], search.run(0.0, self._beam))
                found.append(search.columns())
                if self.run.should_stop():
                    unseen = self._growing[self._growing.index(t) + 1 :]
                    least[unseen] = -np.inf
                    break
            columns = join(found)
            cut_short = bool((least < NEGATIVE).any()) and not len(columns)
            if not cut_short or self._beam >= LAST_BEAM or self.run.should_stop():
                break
            self._beam *= 4  # what was dropped might hide a column: look further
        if len(columns):
            self._beam = max(FIRST_BEAM, self._beam // 4)
        self._recent = [*self._recent[-20:], columns]
        return least, columns

    def _listed_columns(self) -> Columns:
        """Return the groups that a table lists: their cost may lie below what growth bounds."""
        parts = []
        for t in self._growing:
            listed = self.batch.interference.listed(t)
            if listed is not None and len(listed):
                enough = np.ones(len(listed), dtype=bool)
                for kind in range(self.batch.kinds):
                    enough &= (listed == kind).sum(axis=1) <= self.batch.replicas[kind]
                rows = listed[enough]
                cost = self.run.costs.cost(t, rows)
                vm_type = np.full(len(rows), t, dtype=np.int32)
                parts.append(Columns(vm_type, rows, cost).take(np.isfinite(cost)))
        return join(parts)

    def _reduced(self, columns: Columns, prices: Prices, free: bool = False) -> Floats:
        worth = np.append(prices.kind, 0.0)
        reduced = columns.cost * (not free) - prices.vm_type[columns.vm_type]
        reduced -= worth[columns.groups].sum(axis=1)
        held: Floats = reduced - self._ground.together.held(columns.groups) @ prices.together
        return held

    def quick(self, prices: Prices) -> Columns:
        """Return columns of negative reduced cost among those found of late."""
        recent = join(self._recent)
        reduced = self._reduced(recent, prices)
        return recent.take(diverse(recent.groups, reduced, self.batch.kinds))

    def within(self, prices: Prices, window: float, limit: int) -> Columns | None:
        """Return every group whose reduced cost is at most `window`; None for over `limit`."""
        if not np.isfinite(window):
            return None
        found = [self._listed.take(self._reduced(self._listed, prices) <= window)]
        for t in self._growing:
            search = GroupSearch(self._ground, t, prices)
            complete = search.collect(window, limit - sum(map(len, found)))
            if not complete or self.run.should_stop():
                return None
            found.append(search.columns(limited=False))
        return join(found)


class GroupSearch:
    """Growth of the groups of one VM type at one set of prices.

    With `free`, groups cost nothing. `rates` saves working out the knapsack's prices, which any
    rates that are not negative may be.
    """

    def __init__(
        self,
        ground: Ground,
        t: int,
        prices: Prices,
        *,
        free: bool = False,
        rates: Floats | None = None,
    ) -> None:
        self._ground, self._t, self._prices, self._free = ground, t, prices, free
        self.rates = rates
        self._batch = ground.batch
        self._worth = np.append(prices.kind, 0.0)
        self._bonus = float(np.maximum(prices.together, 0.0).sum())
        self._found: list[Columns] = []
        self._reduced: list[Floats] = []
        self._most = most_members(self._batch, t)
        self._relax()

    def _relax(self) -> None:
        """Choose the prices of room and places at which the knapsack's bound is least."""
        batch, t = self._batch, self._t
        start, _ = start_groups(batch, t)
        kinds = start[:, 0]
        floor = np.zeros(batch.kinds) if self._free else self._ground.least_cost[t]
        gain = np.zeros(batch.kinds)
        gain[kinds] = np.maximum(self._prices.kind[kinds] - floor[kinds], 0.0)
        finite = np.isfinite(batch.capacity[t])
        self._finite = finite
        demand = np.column_stack([batch.demand[t][:, finite], np.ones(batch.kinds)])
        supply = np.append(batch.capacity[t][finite] + 1e-6, float(self._most))
        times = np.minimum(batch.replicas, self._most).astype(float)
        if self.rates is None:
            self.rates = best_rates(gain, demand, supply, times)
        self._times = times
        self._rent = demand @ self.rates
        self._kinds_that_fit = kinds
        burden = None if self._free else batch.interference.burden(t)
        price = self._ground.run.costs.slowdown_price(t)
        self._burden = None if burden is None else np.vstack([burden * price[:, None], 0 * price])

    def _completion(self, groups: Groups, room: Floats) -> Floats:
        """Return the most that members still to join can gain (n,)."""
        assert self.rates is not None
        places = self._most - groups.shape[1]
        if places <= 0 or not len(groups):
            return np.full(len(groups), self._bonus)
        left = np.maximum(room[:, self._finite], 0.0) + 1e-6
        result: Floats = left @ self.rates[:-1] + places * self.rates[-1] + self._bonus
        for begin in range(0, len(groups), COMPLETION_ROWS):
            part = slice(begin, begin + COMPLETION_ROWS)
            result[part] += self._surplus(groups[part], places)
        return result

    def _surplus(self, groups: Groups, places: int) -> Floats:
        """Return what kinds that may still join gain beyond the rent of what they take (n,)."""
        kinds = self._kinds_that_fit
        gain = np.broadcast_to(self._prices.kind[kinds], (len(groups), len(kinds)))
        if not self._free:
            gain = gain - self._joining_cost(groups, places)
        surplus = np.maximum(gain - self._rent[kinds], 0.0) * self._times[kinds]
        surplus[kinds < groups[:, -1:]] = 0.0
        total: Floats = surplus.sum(axis=1)
        return total

    def _joining_cost(self, groups: Groups, places: int) -> Floats:
        """Return the least that one replica of each kind that fits adds by joining (n, kinds)."""
        batch, costs, t = self._batch, self._ground.run.costs, self._t
        kinds = self._kinds_that_fit
        if not self._ground.run.costs.company_matters:
            return np.broadcast_to(self._ground.least_cost[t][kinds], (len(groups), len(kinds)))
        slowdown = batch.interference.joining(t, groups, places)[:, kinds]
        joins = np.broadcast_to(kinds, slowdown.shape)
        cost = costs.member_cost(t, joins, slowdown, slowdown)
        if self._burden is not None:
            for member in groups.T:
                cost += self._burden[member][:, kinds]
        return cost

    def run(self, ceiling: float, beam: int) -> float:
        """Grow groups that might be below `ceiling`; return a bound of the least reduced cost."""
        best, dropped = np.inf, np.inf
        groups, room = start_groups(self._batch, self._t)
        while len(groups):
            frontier = self._evaluate(groups, room, ceiling + NEGATIVE)
            if self._reduced:
                best = min(best, float(self._reduced[-1].min(initial=np.inf)))
            keep = np.flatnonzero(frontier.bound < min(ceiling, best) + NEGATIVE)
            if len(keep) > beam:
                order = np.argpartition(frontier.bound[keep], beam)
                dropped = min(dropped, float(frontier.bound[keep[order[beam:]]].min()))
                keep = keep[order[:beam]]
            if self._ground.run.should_stop():
                return -np.inf
            grown = grow(self._batch, self._t, groups[keep], frontier.room[keep], 2**62)
            assert grown is not None
            groups, room = grown
        return min(best, dropped)

    def collect(self, window: float, limit: int) -> bool:
        """Find every group of reduced cost at most `window`; return whether none is missing."""
        groups, room = start_groups(self._batch, self._t)
        work = 20 * limit
        while len(groups):
            frontier = self._evaluate(groups, room, window)
            keep = np.flatnonzero(frontier.bound <= window)
            if sum(map(len, self._found)) > limit or len(keep) > work:
                return False
            if self._ground.run.should_stop():
                return False
            grown = grow(self._batch, self._t, groups[keep], frontier.room[keep], work)
            if grown is None:
                return False
            groups, room = grown
        return True

    def _evaluate(self, groups: Groups, room: Floats, window: float) -> Frontier:
        """Keep the groups of reduced cost at most `window`, and bound what each can become."""
        costs, t = self._ground.run.costs, self._t
        value = self._worth[groups].sum(axis=1) + self._prices.vm_type[t]
        real = costs.service_cost(t, groups)
        cost = np.where(np.isfinite(real), 0.0, np.inf) if self._free else real
        held = self._ground.together.held(groups) @ self._prices.together
        reduced = cost - value - held
        good = np.flatnonzero(np.isfinite(reduced) & (reduced <= window))
        self._found.append(Columns(np.full(len(good), t, dtype=np.int32), groups[good], real[good]))
        self._reduced.append(reduced[good])
        floor = np.zeros(len(groups)) if self._free else self._floor_cost(groups)
        bound = floor - value - self._completion(groups, room)
        return Frontier(groups, room, bound)

    def _floor_cost(self, groups: Groups) -> Floats:
        """Return a lower bound of the cost of every group made of each by adding members (n,).

        What the members to come cost themselves is left to the completion.
        """
        batch, costs, t = self._batch, self._ground.run.costs, self._t
        more = np.full(len(groups), max(self._most - groups.shape[1], 0))
        slowdown = batch.interference.floor(t, groups, more)
        upper = batch.interference.upper_floor(t, groups, more)
        own = costs.member_cost(t, groups, slowdown, upper).sum(axis=1)
        price = batch.instance.objective.price * batch.price[t]
        total: Floats = np.where(np.isnan(own), np.inf, own) + price
        return total

    def best_group(self) -> tuple[int, ...] | None:
        """Return the group of least reduced cost among those found, None where none was."""
        found = join(self._found)
        if not len(found):
            return None
        row = found.groups[int(np.concatenate(self._reduced).argmin())]
        return tuple(int(kind) for kind in row if kind >= 0)

    def columns(self, limited: bool = True) -> Columns:
        """Return the groups found, the best of them where `limited`."""
        found = join(self._found)
        if not len(found) or not limited:
            return found
        reduced = np.concatenate(self._reduced)
        return found.take(diverse(found.groups, reduced, self._batch.kinds)[:PER_ROUND])


def best_rates(gain: Floats, demand: Floats, supply: Floats, times: Floats) -> Floats:
    """Return rates (R,) at which rates @ supply + sum of surplus is least.

    gain (K,), demand (K, R), supply (R,), times (K,): each kind joins at most `times` times. Any
    rates that are not negative give a valid bound; these come from the knapsack's linear dual.
    """
    from scipy.optimize import linprog

    useful = gain > 0
    if not useful.any():
        return np.zeros(len(supply))
    solved = linprog(
        -gain[useful],
        A_ub=demand[useful].T,
        b_ub=supply,
        bounds=np.column_stack([np.zeros(useful.sum()), times[useful]]),
        method="highs",
    )
    if solved.status != 0:
        return np.zeros(len(supply))
    rates: Floats = np.maximum(-solved.ineqlin.marginals, 0.0)
    return rates
