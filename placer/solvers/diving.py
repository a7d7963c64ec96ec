"""A placement dived for along the linear master: fix what it nearly uses whole, solve again.

After each fixing the groups are priced anew for the replicas that are left, since the columns at
hand overlap with those already placed (restricted master dives, Sadykov et al. 2019). The numbers
of VMs are made whole before: a master that may use a fifth of a VM leaves it to the last replicas
to do without. Its end, where a dive loses most, is then filled anew by the exact group master, and
then more of it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from placer.solvers.backend_highs import LinearMaster, cost_scale
from placer.solvers.columns import Columns, Prices, assignment_of, join, numbers_of_vms
from placer.solvers.covering import WIDE
from placer.solvers.fleet import CostMemo, Fleet
from placer.solvers.frontier import Ground
from placer.solvers.greedy import Plan, by_size, construct
from placer.solvers.group_costs import most_members
from placer.solvers.group_search import GroupSearch
from placer.solvers.master import Rows
from placer.solvers.refilling import GROUPS, REPAIR_SECONDS, Hole, refilled
from placer.solvers.run import Assignment, Run, replicas_placed, within_limits
from placer.solvers.whole_counts import make_counts_whole

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_WIDTH = 12
"""The most groups grown from each kind after each fixing."""

CELLS = 60_000_000
"""Group x kind cells that one pricing may look at."""

NEARLY_WHOLE = 0.8
SHARE_A_STEP = 0.06
RANDOM = 0.6
"""How much of a column's value does not count in a dive that is partly random."""

ROUNDS, WORTH = 6, 1e-4
"""How often groups are priced anew after each fixing, and the gain that is worth it."""

FEW_REPLICAS = 2_000
FEW_TYPES = 12
"""With more VM types, groups are grown on those alone that the linear master uses."""

ENDS = (60, 100, 150)
"""So many replicas are placed anew in the end, then so many, ..."""

END_SHARE = 18.0
"""A group for that is dearer than it is worth by at most this share, over the size of the end, of
what the whole end is."""

END_GROUPS, END_SECONDS, END_TIME = 1_500, 4.0, 0.03
"""For ends after the first, or with each replica one of a kind: the most groups, and the most time
that the integer program takes, also as a share of what is left."""


@dataclass(frozen=True)
class End:
    """Where so many replicas or fewer were left: what was placed, and the master's prices."""

    size: int
    before: Assignment
    prices: Prices


@dataclass(frozen=True)
class Dived:
    """The columns that a dive added, and the placement it ended in, which may lack replicas."""

    columns: Columns
    placement: Assignment


def dive(run: Run, rows: Rows, columns: Columns, rng: np.random.Generator | None = None) -> Dived:
    """Offer the placement that a dive from `columns` ends in.

    With `rng` it fixes columns in an order that is partly random.
    """
    dived = _Dive(run, rows, columns, rng)
    placement = dived.descend()
    return Dived(dived.columns.take(np.arange(len(columns), len(dived.columns))), placement)


class _Dive:
    def __init__(
        self, run: Run, rows: Rows, columns: Columns, rng: np.random.Generator | None
    ) -> None:
        self.run, self.columns, self._rng = run, columns, rng
        rows = rows.counting() if run.batch.total_replicas <= FEW_REPLICAS else rows
        self.rows = rows
        self.left = run.batch.replicas.copy()
        self.fixed = np.zeros(len(columns), dtype=np.int64)
        self._ground = Ground.of(run)
        self._lp = LinearMaster(rows.lower, rows.upper, cost_scale(columns.cost))
        entries, cost, upper = rows.other_entries()
        self._others = len(cost)
        self._lp.add(cost, upper, entries.row, entries.column, entries.value)
        self._add_to_master(columns)
        self._lp.charge(10.0 * float(np.abs(columns.cost).max(initial=1.0)))

    def descend(self) -> Assignment:
        """Fix columns until nothing is left, then place what found no column greedily."""
        ends: list[End] = []
        if self.rows.counted and len(self.columns):
            vm_type = self.columns.vm_type
            self.rows = make_counts_whole(self.run, self.rows, self._lp, vm_type, self._rng)
        while self.left.any() and not self.run.should_stop():
            values = self._solved()
            if values is None:
                break
            size = min((end for end in ENDS if end >= self.left.sum()), default=np.inf)
            if size < (ends[-1].size if ends else np.inf):
                ends.append(End(int(size), assignment_of(self.columns, self.fixed), self._prices))
            if not self._fix(values):
                break
            self._restrict()
        memo = CostMemo(self.run.costs)
        fleet = Fleet(self.run.batch, memo)
        fleet.load(assignment_of(self.columns, self.fixed))
        plan = Plan(by_size(self.run.batch))
        placement: Assignment = construct(self.run, plan, memo, fleet).assignment()
        self.run.offer(placement)
        if self.run.batch.together or self.run.objective_of(placement) is None:
            return placement
        for end in reversed(ends):
            placement = self._mended(placement, end)
        return placement

    def _mended(self, placement: Assignment, end: End) -> Assignment:
        """Return `placement` with what it has beyond that before its end placed anew; offer it."""
        run, batch = self.run, self.run.batch
        kept = Counter(placement) & Counter(end.before)
        hole = Hole(Counter(placement) - kept, batch.replicas - replicas_placed(batch, kept))
        if not hole.vms or hole.replicas.sum() > 2 * end.size or run.should_stop():
            return placement
        limits: tuple[int, float] = GROUPS, REPAIR_SECONDS
        if end.size > ENDS[0] or hole.replicas.max() <= 1:
            limits = END_GROUPS, min(END_SECONDS, END_TIME * run.time_left())
        share = min(1.0, END_SHARE / end.size)
        with run.at_most(END_TIME * run.time_left()):
            found = refilled(run, self._ground, placement, hole, end.prices, share, *limits, WIDE)
        if found is None:
            return placement
        run.offer(found)
        return found

    def _solved(self) -> Floats | None:
        """Return the master's values once groups were priced for what is left, None if stopped."""
        before = np.inf
        for _ in range(ROUNDS if self.run.batch.total_replicas <= FEW_REPLICAS else 1):
            solved = self._optimum()
            if solved is None:
                return None
            value, values = solved
            if before - value <= WORTH * abs(value):
                return values
            before = value
            used = np.unique(self.columns.vm_type[values > 1e-6])
            if not self._price(self._prices, used):
                return values
        solved = self._optimum()
        return None if solved is None else solved[1]

    def _optimum(self) -> tuple[float, Floats] | None:
        """Return the master's least value and where it is, and note its prices; None if stopped."""
        solved = self._lp.solve(self.run)
        if solved is None:
            return None
        value, duals, _ = solved
        self._prices = self.rows.prices(duals)
        return value, self._lp.values()[self._others :]

    def _fix(self, values: Floats) -> int:
        """Fix the whole part of `values`, and the columns nearest to whole; return how many VMs."""
        whole = np.floor(values + 1e-6).astype(np.int64)
        fixed = 0
        for column in np.flatnonzero(whole).tolist():
            fixed += self._take(column, int(whole[column]))
        part = values - whole
        chance = 1.0 if self._rng is None else self._rng.uniform(1.0 - RANDOM, 1.0, len(part))
        order = np.argsort(-part * chance, kind="stable")
        enough = max(1, int(SHARE_A_STEP * values.sum()))
        for column in order.tolist():
            if part[column] <= 1e-6 or (fixed >= enough and part[column] < NEARLY_WHOLE):
                break
            fixed += self._take(column, 1)
        return fixed

    def _take(self, column: int, times: int) -> int:
        """Fix `column` as often as asked for and as the replicas and VMs left allow."""
        group = self.columns.groups[column]
        kinds, needed = np.unique(group[group >= 0], return_counts=True)
        times = min(times, int((self.left[kinds] // needed).min()))
        while times > 0 and not self._allowed(column, times):
            times -= 1
        if times > 0:
            self.left[kinds] -= times * needed
            self.fixed[column] += times
        return max(0, times)

    def _allowed(self, column: int, times: int) -> bool:
        batch = self.run.batch
        used = numbers_of_vms(self.columns.vm_type, self.fixed, batch.types)
        used[[self.columns.vm_type[column], -1]] += times
        return within_limits(batch, used[:-1]) and bool((used <= self.rows.counts[1]).all())

    def _restrict(self) -> None:
        """Leave to the master what is not fixed, and only columns that still fit it."""
        entries = self.rows.group_entries(self.columns)
        used = np.zeros(self.rows.count)
        np.add.at(used, entries.row, entries.value * self.fixed[entries.column])
        self._lp.change_rows(self.rows.lower - used, self.rows.upper - used)
        left = np.append(self.left, np.iinfo(np.int64).max)
        groups = self.columns.groups
        fits = np.ones(len(groups), dtype=bool)
        for member in groups.T:
            fits &= (groups == member[:, None]).sum(axis=1) * (member >= 0) <= left[member]
        number = np.arange(len(groups)) + self._others
        self._lp.change_uppers(number, np.where(fits, np.inf, 0.0))

    def _price(self, prices: Prices, used: NDArray[np.int32]) -> int:
        """Add groups of the replicas that are left; return how many.

        Of many VM types only those in `used` are looked at.
        """
        ground = replace(self._ground, batch=replace(self._ground.batch, replicas=self.left))
        found: list[Columns] = []
        kinds, types = int((self.left > 0).sum()), self.run.batch.types
        most = max(most_members(ground.batch, t) for t in range(types))
        types = min(types, FEW_TYPES)
        width = int(np.clip(CELLS / max(1, kinds**2 * types * most), 1, MOST_WIDTH))
        possible = np.flatnonzero(self.run.batch.vms_possible() > 0)
        for t in (possible if self.run.batch.types <= FEW_TYPES else used).tolist():
            search = GroupSearch(ground, t, prices)
            search.seed(width)
            found.append(search.columns())
            if self.run.should_stop():
                break
        columns = join(found)
        if len(columns):
            self.columns = join([self.columns, columns])
            self.fixed = np.append(self.fixed, np.zeros(len(columns), dtype=np.int64))
            self._add_to_master(columns)
        return len(columns)

    def _add_to_master(self, columns: Columns) -> None:
        entries = self.rows.group_entries(columns)
        upper = np.full(len(columns), np.inf)
        self._lp.add(columns.cost, upper, entries.row, entries.column, entries.value)
