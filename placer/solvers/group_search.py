"""Growth of the groups of one VM type at one set of prices, cut by proven bounds.

A group grows one member at a time, the most rewarding kinds first. A larger group is looked at
only where it, or some group made of it by adding members, could have a reduced cost below what is
asked for: what the members cost now, what a newcomer costs at the least beside them, and what the
places still free could gain, each at the most, room at a price (the knapsack's Lagrangian bound).
That holds for tables with helpful pairs and for monotone predictors alike. Where more groups are
left than the beam takes, the least promising are dropped and their bound is kept: what is returned
stays proven, only weaker.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from placer.problem import TOLERANCE
from placer.solvers.columns import Columns, Prices, join, no_columns
from placer.solvers.enumeration import start_groups
from placer.solvers.frontier import Children, Frontier, Ground, best_of_each, distinct, lowest_each
from placer.solvers.group_costs import most_members
from placer.solvers.joining import JoiningCosts
from placer.solvers.pricing import PER_ROUND, diverse

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NEGATIVE = -1e-9
CELLS = 2_000_000
"""Group x kind cells worked on at once, to bound memory."""

ROWS = 100_000
"""Groups whose costs are asked for at once."""

WIDE_BEAM = 100_000
"""With a narrower beam many columns are looked for, with a wider one the least reduced cost."""

WORK = 10
"""Groups looked at for each that is asked for, before listing them is given up."""

ROOM = 1e-6
"""What rounding may add to the room in a VM."""


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
        self._stopped = False
        self._found: list[Columns] = []
        self._reduced: list[Floats] = []
        self._most = most_members(self._batch, t)
        self._arrange()

    def _arrange(self) -> None:
        """Choose the prices of room at which the knapsack's bound is least, and an order of kinds.

        The kinds that gain most beyond the rent of what they take come first.
        """
        batch, t = self._batch, self._t
        start, _ = start_groups(batch, t)
        kinds = start[:, 0]
        floor = np.zeros(batch.kinds) if self._free else self._ground.least_cost[t]
        gain = self._prices.kind[kinds] - floor[kinds]
        self._finite = np.isfinite(batch.capacity[t])
        demand = batch.demand[t][kinds][:, self._finite]
        times = np.minimum(batch.replicas[kinds], self._most)
        if self.rates is None:
            self.rates = self._rates(np.maximum(gain, 0.0), demand, times)
        rent = demand @ self.rates[:-1]
        order = np.argsort(-(gain - rent), kind="stable")
        self._kinds, self._demand = kinds[order], demand[order]
        self._rent, self._times = rent[order], times[order]
        self._gain = self._prices.kind[self._kinds]
        self._apart = batch.apart[np.ix_(self._kinds, self._kinds)] if batch.apart.any() else None
        costs = self._ground.run.costs
        self._joining = JoiningCosts(costs, t, self._kinds, floor)

    def _rates(self, gain: Floats, demand: Floats, times: Ints) -> Floats:
        """Return the prices of room and places at which the knapsack's bound is least."""
        places = np.column_stack([demand, np.ones(len(demand))])
        supply = np.append(self._batch.capacity[self._t][self._finite] + ROOM, float(self._most))
        return best_rates(gain, places, supply, times.astype(float))

    def run(self, ceiling: float, beam: int) -> float:
        """Grow groups that might be below `ceiling`; return a bound of the least reduced cost."""
        best = dropped = np.inf
        frontier: Frontier | None = self._root()
        while frontier is not None and len(frontier.base):
            below = (min(ceiling, best) if beam > WIDE_BEAM else ceiling) + NEGATIVE
            children = Children()
            for part in self._children(frontier, below):
                children.add(*part)
                if children.count > 4 * beam + 10_000:
                    dropped = min(dropped, children.cut(beam))
                if self._ground.run.should_stop():
                    return -np.inf
            dropped = min(dropped, children.cut(beam))
            row, place, _ = children.whole()
            before = len(self._reduced)
            frontier = self._evaluate(frontier, row, place, ceiling + NEGATIVE)
            if self._stopped:
                return -np.inf
            best = min([best, *(float(r.min(initial=np.inf)) for r in self._reduced[before:])])
        return min(best, dropped)

    def collect(self, window: float, limit: int) -> bool:
        """Find every group of reduced cost at most `window`; return whether none is missing."""
        frontier: Frontier | None = self._root()
        above = np.nextafter(window, np.inf)
        while frontier is not None and len(frontier.base):
            children = Children()
            for part in self._children(frontier, above):
                children.add(*part)
                if self._ground.run.should_stop() or children.count > WORK * limit:
                    return False
            row, place, _ = children.whole()
            frontier = self._evaluate(frontier, row, place, window)
            if self._stopped or sum(map(len, self._reduced)) > limit:
                return False
        return True

    def seed(self, width: int, window: float = NEGATIVE) -> None:
        """Grow at most `width` groups at once from each kind: many columns, no bound.

        Groups of reduced cost at most `window` are kept.
        Whoever fits a group best joins it, whatever the order of kinds.
        """
        frontier: Frontier | None = self._root()
        rent = self._rent_alone()
        while frontier is not None and len(frontier.base) and not self._ground.run.should_stop():
            places = frontier.places
            row, place, score = self._likeliest(frontier, width, rent)
            first = places[row, 0] if places.shape[1] else place
            chosen = best_of_each(first, score, width)
            row, place = distinct(places, row[chosen], place[chosen])
            frontier = self._evaluate(frontier, row, place, window, hopeful=False)

    def _rent_alone(self) -> Floats:
        """Return the rent of what each kind takes, with help that may never come left out."""
        own = 0.0 if self._free else self._ground.run.costs.lone_cost(self._t)[self._kinds]
        gain = np.maximum(self._gain - np.nan_to_num(own, posinf=np.inf), 0.0)
        return self._demand @ self._rates(gain, self._demand, self._times)[:-1]

    def _likeliest(self, frontier: Frontier, width: int, rent: Floats) -> tuple[Ints, Ints, Floats]:
        """Return row, place and score of the `width` likeliest children of each group."""
        degree = frontier.places.shape[1]
        each = len(self._kinds) if degree == 0 else width if degree == 1 else max(1, width // 4)
        step = max(1, CELLS // max(1, len(self._kinds)))
        found = []
        for begin in range(0, len(frontier.base), step):
            part = frontier.part(slice(begin, begin + step))
            scores = self._scores(part, rent) + part.base[:, None]
            row, place = lowest_each(scores, each)
            found.append((row + begin, place, scores[row, place]))
        row, place, score = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return row, place, score

    def _scores(self, frontier: Frontier, rent: Floats) -> Floats:
        """Return how good a member each kind would make for each group: the less the better."""
        free = self._most - frontier.places.shape[1]
        score = (rent if free > 1 else 0.0) - self._gain
        result = np.tile(score, (len(frontier.base), 1))
        if not self._free:
            result += self._joining.of(self._kinds[frontier.places], frontier.floors, 1)[0]
        result[self._barred(frontier.places, frontier.room, ordered=False)] = np.inf
        return result

    def _root(self) -> Frontier:
        batch, t = self._batch, self._t
        price = 0.0 if self._free else batch.instance.objective.price * batch.price[t]
        base = np.array([price - self._prices.vm_type[t]])
        none = np.zeros((1, 0))
        return Frontier(none.astype(np.int32), none, batch.capacity[t][self._finite][None], base)

    def _children(self, frontier: Frontier, below: float) -> Iterator[tuple[Ints, Ints, Floats]]:
        """Yield row, place and bound of groups that are one larger and bounded `below`.

        Rows with later last members are looked at together, and with the kinds after those alone.
        """
        degree = frontier.places.shape[1]
        last = frontier.places[:, -1] if degree else np.zeros(len(frontier.base), dtype=np.int32)
        order = np.argsort(last, kind="stable")
        done = 0
        while done < len(order) and len(self._kinds):
            begin = int(last[order[done]])
            rows = order[done : done + max(1, CELLS // (len(self._kinds) - begin))]
            bound = self._bounds(frontier.part(rows), begin)
            row, place = np.nonzero(bound < below)
            yield rows[row], place + begin, bound[row, place]
            done += len(rows)

    def _bounds(self, frontier: Frontier, begin: int) -> Floats:
        """Return a bound of every group made of each by adding one of each kind, and more (n, k).

        Of the kinds, those from place `begin` on; infinite where one may not join, or comes before
        the last member.
        """
        places, room = frontier.places, frontier.room
        free = self._most - places.shape[1]
        worth, rent = self._gain[begin:], self._rent[begin:]
        if self._free:
            first = later = np.zeros((len(places), len(worth)))
        else:
            groups = self._kinds[places]
            first, later = self._joining.of(groups, frontier.floors, free, begin)
        barred = self._barred(places, room, begin)
        gain = worth - first
        gain[barred] = -np.inf
        bound = frontier.base[:, None] - gain - self._bonus
        if free > 1:
            assert self.rates is not None
            rest = gain if later is first else np.where(barred, -np.inf, worth - later)
            rest = np.maximum(rest - rent, 0.0)
            room_worth = (np.maximum(room, 0.0) + ROOM) @ self.rates[:-1]
            bound += rent - room_worth[:, None] - self._best_later(rest, free - 1, begin)
        return bound

    def _barred(
        self, places: NDArray[np.int32], room: Floats, begin: int = 0, *, ordered: bool = True
    ) -> NDArray[np.bool_]:
        """Return which kinds from `begin` on may not join which group (n, k).

        `ordered`: nor those before its last, which gives each group by one order of its members.
        """
        demand = self._demand[begin:]
        barred = np.zeros((len(places), len(demand)), dtype=bool)
        for resource in range(room.shape[1]):
            barred |= demand[:, resource] > room[:, resource, None] + TOLERANCE
        if places.shape[1]:
            if ordered:
                barred |= np.arange(begin, len(self._kinds)) < places[:, -1:]
            for member in places[:, -1:].T if ordered else places.T:
                same = (places == member[:, None]).sum(axis=1)
                full = same >= self._times[member]
                barred[np.flatnonzero(full), member[full] - begin] = True
            if self._apart is not None:
                for member in places.T:
                    barred |= self._apart[member, begin:]
        return barred

    def _best_later(self, surplus: Floats, most: int, begin: int) -> Floats:
        """Return the most that `most` replicas, from each place in the order on, gain (n, k)."""
        onward = np.maximum.accumulate(surplus[:, ::-1], axis=1)[:, ::-1]
        if most == 1:
            return onward
        everyone = surplus * self._times[begin:]
        limit = np.minimum(most * onward, np.cumsum(everyone[:, ::-1], axis=1)[:, ::-1])
        top = min(most, surplus.shape[1])
        chosen = np.argpartition(-surplus, top - 1, axis=1)[:, :top]
        value = np.take_along_axis(surplus, chosen, axis=1)
        order = np.argsort(-value, axis=1)
        value = np.take_along_axis(value, order, axis=1)
        times = self._times[np.take_along_axis(chosen, order, axis=1) + begin]
        taken = np.clip(most - (np.cumsum(times, axis=1) - times), 0, times)
        total = (value * taken).sum(axis=1)
        result: Floats = np.minimum(limit, total[:, None])
        return result

    def _evaluate(
        self, parents: Frontier, row: Ints, place: Ints, window: float, *, hopeful: bool = True
    ) -> Frontier | None:
        """Cost the children, keep those of reduced cost at most `window`, and return them all.

        Their base is a bound for all that they may grow to, or what they cost if not `hopeful`.
        """
        parts = []
        for i in range(0, len(row), ROWS):
            if self._ground.run.should_stop():
                self._stopped = True
                return None
            rows, places = row[i : i + ROWS], place[i : i + ROWS]
            parts.append(self._evaluate_part(parents, rows, places, window, hopeful))
        if not parts:
            return None
        return Frontier(
            np.concatenate([part.places for part in parts]),
            np.concatenate([part.floors for part in parts]),
            np.concatenate([part.room for part in parts]),
            np.concatenate([part.base for part in parts]),
        )

    def _evaluate_part(
        self, parents: Frontier, row: Ints, place: Ints, window: float, hopeful: bool
    ) -> Frontier:
        costs, t = self._ground.run.costs, self._t
        places = np.column_stack([parents.places[row], place]).astype(np.int32)
        free = self._most - places.shape[1]
        groups = self._kinds[places]
        order = np.argsort(groups, axis=1, kind="stable")
        groups = np.take_along_axis(groups, order, axis=1)
        real, floor, floors = costs.cost_and_floor(t, groups, max(free, 0) * hopeful)
        value = self._worth[groups].sum(axis=1) + self._prices.vm_type[t]
        held = self._ground.together.held(groups) @ self._prices.together
        reduced = np.where(np.isfinite(real), 0.0 if self._free else real, np.inf) - value - held
        good = np.flatnonzero(reduced <= window)
        self._found.append(Columns(np.full(len(good), t, dtype=np.int32), groups[good], real[good]))
        self._reduced.append(reduced[good])
        least = np.where(np.isfinite(floor), 0.0, np.inf) if self._free else floor
        alive = np.flatnonzero(np.isfinite(least)) if free > 0 else np.zeros(0, dtype=np.int64)
        back = np.argsort(order[alive], axis=1, kind="stable")
        return Frontier(
            places[alive],
            np.take_along_axis(floors[alive], back, axis=1),
            parents.room[row[alive]] - self._demand[place[alive]],
            (least - value)[alive],
        )

    def best_group(self) -> tuple[int, ...] | None:
        """Return the group of least reduced cost among those found, None where none was."""
        found = join(self._found)
        if not len(found):
            return None
        row = found.groups[int(np.concatenate(self._reduced).argmin())]
        return tuple(int(kind) for kind in row if kind >= 0)

    def columns(self, limited: bool = True) -> Columns:
        """Return the groups found, the best of them where `limited`."""
        found = join(self._found) if self._found else no_columns()
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
