"""The linear master solved by columns: a proven bound, and the groups that matter.

Duals are smoothed towards those of the best bound (Wentges 1997), which takes far fewer rounds
than the master's own, and every bound is Lagrange's, valid whatever the duals are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from placer.solvers.backend_highs import LinearMaster, cost_scale
from placer.solvers.budget import Budget
from placer.solvers.columns import (
    Columns,
    Prices,
    columns_of,
    holds_two,
    join,
    numbers_of_vms,
)
from placer.solvers.linear_bound import Leaf, LinearBound
from placer.solvers.master import Rows
from placer.solvers.pricing import EFFORTS, Pricing
from placer.solvers.run import Run, State
from placer.solvers.subset_rows import separate

Floats = NDArray[np.float64]

SMOOTHING, TAIL = 0.6, 0.5
"""How far duals are drawn towards others, and by which factor less once few columns are missing."""

NEAR = 0.02
"""A bound that is farther from the master's value, relative to it, says little of good duals."""

FEW, FEW_OF_KINDS = 10, 0.04
"""Fewer new columns than this call for a deeper search; than this share of the kinds, too, where
little effort was made."""

DEARER = 4.0
"""How much longer an effort takes than the one below it, about: it must find more to be kept up.

The full effort is not, however much it finds.
"""

CONVERGED = 1e-9
LACKING = 1e-7
SURELY_LACKING = 1e-4
"""What must lack a place for infeasibility to be claimed: far above the tolerances of an LP."""

ARTIFICIAL_PRICES = 5

LESS, PROOFS = 0.7, 25
"""By which factor that which replicas are worth less than the master says shrinks from one proof of
an unfinished pricing to the next, and how many proofs are tried."""

CUTS_A_ROUND, MOST_CUTS, IDLE_CUTS = 60, 500, 3
LEAST_GAIN, NO_GAIN, LONG = 0.01, 0.001, 0.01
"""Of the gap: rounds of cuts that gain less are idle, and one that gains hardly anything is the
last where it takes longer than this share of the time left."""


@dataclass
class ColumnGeneration:
    """The linear master of one run, grown until its bound is the best there is.

    With `free`, groups cost nothing and the value is how many replicas must lack a place: above
    0, that proves that no placement exists. With `outdone_by_bound` it stops once the run has a
    better bound than this one can become. Unless it is `bounding` it stops where pricing finds few
    more columns, and need not have a bound. With `cutting` the bound is raised by subset-row cuts
    where there are some.

    `slow` tells whether the full effort of a compiled search was too much at its first try.
    """

    run: Run
    rows: Rows
    pricing: Pricing
    free: bool = False
    outdone_by_bound: bool = False
    bounding: bool = True
    cutting: bool = False
    slow: bool = False
    parts: list[Columns] = field(default_factory=list)
    _known: set[bytes] = field(default_factory=set)

    def solve(self, first: Columns | None = None) -> LinearBound | None:
        """Return the linear bound, None where it was stopped before there was one."""
        self._triples = np.zeros((0, 3), dtype=np.int64)
        self._part = False
        self._start(first if first is not None else self._first_columns())
        for _ in range(ARTIFICIAL_PRICES):
            converged, lacking = self._rounds()
            if not self.bounding:
                return self._outcome(False)
            if self._unfinished:
                converged = self._settle()
            if self.free or not converged or lacking <= LACKING or self.run.should_stop():
                if self.cutting and converged and self.pricing.takes_cuts():
                    self._cut()
                return self._outcome(converged)
            reach = ColumnGeneration(self.run, self.rows, self.pricing, free=True)
            reached = reach.solve(join(self.parts))
            if reached is None or not reached.converged:
                return self._outcome(False)
            if reached.bound > SURELY_LACKING:
                return self._outcome(True, infeasible=True)
            self._add(reached.columns)
            self._artificial_price *= 100.0
            self._lp.charge(self._artificial_price)
        return self._outcome(False)

    def _start(self, first: Columns) -> None:
        entries, cost, upper = self.rows.other_entries()
        cost = cost * (not self.free)
        sizes = np.concatenate([self._cost(first), cost])
        self._lp = LinearMaster(self.rows.lower, self.rows.upper, cost_scale(sizes))
        self._others = len(cost)
        self._lp.add(cost, upper, entries.row, entries.column, entries.value)
        self._add(first)
        largest = float(np.abs(sizes).max(initial=0.0))
        self._artificial_price = 1.0 if self.free else 10.0 * (largest or 1.0)
        self._lp.charge(self._artificial_price)
        self._best = -math.inf
        self._best_duals: Floats | None = None
        self._last: Floats | None = None
        self._own: Floats | None = None
        self._uncut: Floats | None = None
        self._unfinished = False
        self._budget = Budget.of(self.run)

    def _cost(self, columns: Columns) -> Floats:
        return columns.cost * (not self.free)

    def _first_columns(self) -> Columns:
        """Return each replica alone, the incumbent's groups, and those that heuristics used."""
        batch = self.run.batch
        singles: list[State] = [
            (int(t), (int(k),))
            for t in np.flatnonzero(batch.vms_possible() > 0)
            for k in self.rows.kinds
        ]
        used = [*singles, *(self.run.best or {}), *self.run.promising]
        return columns_of(self.run.costs, list(dict.fromkeys(used)))

    def _add(self, columns: Columns) -> int:
        """Add those of `columns` that are new; return how many."""
        new = []
        for i in range(len(columns)):
            row = columns.groups[i]
            key = columns.vm_type[i].tobytes() + row[row >= 0].tobytes()
            if key not in self._known:
                self._known.add(key)
                new.append(i)
        added = columns.take(np.array(new, dtype=np.intp))
        if new:
            self.parts.append(added)
            entries = self.rows.group_entries(added)
            limit = np.full(len(added), np.inf)
            column, row = np.nonzero(holds_two(added.groups, self._triples))
            self._lp.add(
                self._cost(added),
                limit,
                np.concatenate([entries.row, row + self.rows.count]),
                np.concatenate([entries.column, column]),
                np.concatenate([entries.value, np.ones(len(row))]),
            )
        return len(new)

    def _cut(self) -> None:
        """Raise the bound by cuts, until they are worth little, too many, or time is over."""
        run, idle, self._uncut = self.run, 0, self._own
        while not run.should_stop() and idle < IDLE_CUTS and len(self._triples) < MOST_CUTS:
            if self._lp.solve(run) is None:
                return
            values, columns = self._lp.values()[self._others :], join(self.parts)
            replicas = run.batch.replicas
            triples = separate(columns, values, replicas, self._triples, CUTS_A_ROUND)
            if not len(triples):
                return
            before, began = self._best, run.seconds()
            column, row = np.nonzero(holds_two(columns.groups, triples))
            self._lp.add_rows(np.ones(len(triples)), row, column + self._others)
            self._triples = np.concatenate([self._triples, triples])
            self._best_duals, self._last = self._longer(self._best_duals), self._longer(self._last)
            converged, _ = self._rounds()
            if not converged:
                return
            left = run.cost_to_beat() - self._best
            idle = idle + 1 if self._best - before < LEAST_GAIN * left else 0
            slow = run.seconds() - began > LONG * run.time_left()
            if slow and self._best - before < NO_GAIN * left:
                return

    def counts(self) -> Floats:
        """Return how many VMs of each type, and in all, the linear master uses (T + 1,)."""
        columns, values = join(self.parts), self._lp.values()[self._others :]
        types = self.run.batch.types
        if len(values) != len(columns):
            return np.zeros(types + 1)
        return numbers_of_vms(columns.vm_type, values, types)

    def within_counts(self, lower: Floats, upper: Floats, *, cutting: bool = False) -> Leaf:
        """Return the bound of all placements whose counts of VMs are between these (T + 1,).

        Only for a generation whose rows count VMs. With `cutting`, cuts raise it.
        """
        self.rows, self._part = self.rows.counting(lower, upper), True
        self._lp.change_rows(self.rows.lower, self.rows.upper)
        self._last = self._longer(self._last if self._best_duals is None else self._best_duals)
        self._best, self._best_duals = -math.inf, None
        converged, _ = self._rounds()
        if cutting and converged:
            self._cut()
        duals = np.zeros(self.rows.count) if self._best_duals is None else self._best_duals
        return Leaf(self._best, self._prices(duals), lower, upper, self.counts(), cutting)

    def _longer(self, duals: Floats | None) -> Floats | None:
        """Return `duals` with zeros for the rows that are new."""
        if duals is None:
            return None
        return np.append(duals, np.zeros(self.rows.count + len(self._triples) - len(duals)))

    def _prices(self, duals: Floats) -> Prices:
        """Return what `duals` of rows and cuts say."""
        count = self.rows.count
        prices = self.rows.prices(duals[:count])
        cut = np.minimum(duals[count : count + len(self._triples)], 0.0)
        used = np.flatnonzero(cut)
        return replace(
            prices,
            triples=self._triples[: len(cut)][used],
            cut=cut[used],
            constant=prices.constant + float(cut.sum()),
        )

    def _rounds(self) -> tuple[bool, float]:
        """Add columns until the bound meets the master's value; return success and what lacks.

        Columns are looked for with more effort the fewer there are; the full effort bounds the
        least reduced cost too. A compiled search makes it at once, where it comes to an end.
        """
        smoothing, effort = SMOOTHING, 0
        found = np.full(EFFORTS + 2, np.inf)  # columns, the last time that such an effort was made
        lacking = math.inf
        while not self.run.should_stop():
            solved = self._lp.solve(self.run)
            if solved is None:
                return False, lacking
            value, duals, lacking = solved
            self._own = duals
            tolerance = CONVERGED * max(abs(value), 1e-9)
            if value - self._best <= tolerance or self._outdone():
                return True, lacking
            if self.outdone_by_bound and lacking <= LACKING and value < (self.run.bound or value):
                return False, lacking
            known = 0 if self.free else self._add(self.pricing.quick(self._prices(duals)))
            if known >= FEW:
                continue
            drawn = smoothing if effort < EFFORTS or self._stepwise() else 0.0
            added = known + self._price(self._smoothed(value, duals, drawn), effort)
            found[effort] = added
            if self._unfinished and not self._stepwise():
                self.slow, effort = True, 0
            if added >= self._few(effort):
                smoothing, effort = SMOOTHING, self._after_many(effort, found)
            elif effort < self._most_effort():
                effort = effort + 1 if self._stepwise() else EFFORTS
            elif not self.bounding or (self._unfinished and np.isfinite(self.run.time_left())):
                return False, lacking
            elif added and effort > EFFORTS:
                effort = EFFORTS
            elif added:
                smoothing *= TAIL
            elif drawn > 0:
                smoothing = 0.0  # the smoothed prices misled: ask at the master's own
            elif self._unfinished and effort == EFFORTS:
                effort += 1
            else:
                return not self._unfinished, lacking
        return False, lacking

    def _stepwise(self) -> bool:
        """Return whether there are efforts worth making between the least and the full one."""
        return self.slow or not self.pricing.takes_cuts()

    def _most_effort(self) -> int:
        return EFFORTS if self.bounding or not self._stepwise() else EFFORTS - 1

    def _few(self, effort: int) -> float:
        """Return how many new columns are enough to go on with this effort or less."""
        return FEW if effort else max(FEW, FEW_OF_KINDS * len(self.rows.kinds))

    def _after_many(self, effort: int, found: Floats) -> int:
        """Return the effort after one that found enough; found (E,): how many each did last."""
        if effort >= EFFORTS:
            return effort - 1 if self._stepwise() or effort > EFFORTS else 0
        return effort - 1 if effort and DEARER * found[effort - 1] >= found[effort] else effort

    def _outdone(self) -> bool:
        """Return whether the part that is looked at holds nothing better than the incumbent."""
        objective = self.run.objective
        return self._part and objective is not None and self._best >= objective

    def _smoothed(self, value: float, duals: Floats, smoothing: float) -> Floats:
        """Return `duals` drawn towards those of the best bound, or the last while it is bad."""
        centre = self._last
        if self._best_duals is not None and value - self._best <= NEAR * abs(value):
            centre = self._best_duals
        return duals if centre is None else smoothing * centre + (1.0 - smoothing) * duals

    def _price(self, duals: Floats, effort: int) -> int:
        self._last = duals
        prices = self._prices(duals)
        least, columns = self.pricing.least(
            prices, free=self.free, effort=effort, near=self._used()
        )
        bound = prices.bound(self.run.batch, least)
        if not self.free and self.run.objective is not None:
            slack = self._budget.slack(least, self.run.objective)
            bound = max(bound, min(prices.constant - slack, self.run.objective))
        self._unfinished = effort >= EFFORTS and bool(np.isneginf(least).any())
        if self._unfinished and not self.free:
            each = min(0.0, self.pricing.by_member(prices))
            bound = max(bound, prices.constant + self.run.batch.total_replicas * each)
        self._take(bound, duals)
        return self._add(columns)

    def _used(self) -> Columns:
        """Return the columns that the last master uses."""
        return join(self.parts).take(np.flatnonzero(self._lp.values()[self._others :] > 0.0))

    def _settle(self) -> bool:
        """Raise the bound of a pricing that was left unfinished; return whether as far as it goes.

        That no reduced cost is negative is proved the sooner the less a replica is worth.
        """
        if self._own is None or self.free:
            return False
        less = self.pricing.by_member(self._prices(self._own))
        for _ in range(PROOFS if np.isfinite(less) else 0):
            less *= LESS
            duals = self._own.copy()
            duals[: len(self.rows.kinds)] += less
            self._price(duals, EFFORTS + 1)
            if self._unfinished or self.run.should_stop():
                return False
        return bool(np.isfinite(less))

    def _take(self, bound: float, duals: Floats) -> None:
        """Take a bound that `duals` prove."""
        if bound > self._best:
            self._best, self._best_duals = bound, duals
            if not self.free and not self._part:
                self.run.raise_bound(bound)

    def _outcome(self, converged: bool, infeasible: bool = False) -> LinearBound | None:
        duals = self._best_duals if self._best_duals is not None else self._last
        if duals is None:
            return None
        values = self._lp.values()[self._others :]
        return LinearBound(
            self._best,
            self._prices(duals),
            self._prices(next(d for d in (self._uncut, self._own, duals) if d is not None)),
            join(self.parts),
            values,
            converged,
            infeasible,
        )
