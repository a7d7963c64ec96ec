"""The integer steps after the linear bound: better placements, then the proof.

No placement better than the incumbent can use a group whose reduced cost exceeds the gap, so the
integer master over all other groups closes it: a proof without a branching scheme of our own.
Where those are too many, neighbourhoods and local search go on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from placer.errors import ConsistencyError
from placer.solvers.annealing import Annealing
from placer.solvers.annealing_layout import annealable
from placer.solvers.columns import Columns, columns_of, including, join
from placer.solvers.diving import dive
from placer.solvers.improving import LEAST_REPLICAS, Improving, share_of
from placer.solvers.integer_program import Backend, IntegerResult
from placer.solvers.linear_bound import Leaf, LinearBound, Parts
from placer.solvers.listing import (
    Listing,
    groups_in,
    list_groups,
    list_lower_part,
    settled,
    too_wide,
)
from placer.solvers.master import Rows, integer_master, solve_and_offer
from placer.solvers.pricing import Pricing
from placer.solvers.rounding import Rounding
from placer.solvers.run import Run

NARROW_FROM = 300
"""From this many groups on the gap is settled from below, with ever more of them."""

NARROW_TIME = 0.25
"""Of the time left, what settling one part may take."""

SHRINKAGE = 0.75
"""How far the window must shrink for the closing step to begin again with fewer groups."""

FIRST_EFFORT, LARGE_EFFORT = 0.25, 0.5
"""Of what a search without proof may take, what each takes at first, and where linear values are
large; twice as much in vain."""

STEPS = 4
"""Searches for a better placement in a row before wider columns are looked at."""

AROUND_SHARE = 0.7
"""Of the time left, what searches around dear VMs may take before the gap is settled from below."""

ANNEALED = 0.85
"""Where only better placements are left to look for: annealing's share of the time."""

COLUMNS_SHARE, COLUMNS_SECONDS = 0.15, 1.2
"""The most that looking for placements among the columns takes, where time is limited."""

ROUNDING_SHARE, EVENING_SHARE = 0.5, 0.5
"""And near the linear values, by integer programs and by their lattice."""

QUICK_CLOSING = 30_000
"""The most groups that a clock leaves hope for; with more the incumbent is improved first."""

CLOSING_LIMIT = 150_000
"""The most groups that one integer master is given."""


def take_infeasible(run: Run) -> None:
    """Take a proof that no placement exists; one at hand shows that the proof is wrong."""
    if run.best is not None:
        raise ConsistencyError(
            "the integer master has no solution, yet a placement is known: please report this "
            "instance"
        )
    run.proved_infeasible = True


class Closing:
    """The integer steps after the linear bound."""

    def __init__(self, run: Run, rows: Rows, backend: Backend) -> None:
        self.run, self.rows, self.backend = run, rows, backend
        self._annealing: Annealing | None = None
        self._improving: Improving | None = None
        self._listing: Listing | None = None
        self._rng = np.random.default_rng(run.options.seed)
        self._too_many: float | None = None
        self._lost: float | None = None
        self._too_hard = np.inf
        self.evened = False  # whether placements right at the linear values were found

    def whole(self, pool: Columns) -> None:
        """Solve the master over every group there is."""
        run = self.run
        run.enter("integer master")
        before = run.cost_to_beat()
        result = self._integer(pool)
        if result.infeasible:
            take_infeasible(run)
        elif result.bound is not None:
            run.raise_bound(min(result.bound, before))

    def dive(self, linear: LinearBound) -> None:
        """Dive from the linear master's columns; annealing may go on from where that ends."""
        dived = dive(self.run, self.rows, linear.columns)
        if annealing := self.annealing():
            annealing.adopt(dived.placement)

    def search_around(self, linear: LinearBound) -> None:
        """Search around VMs that are too dear until little is found, in a part of the time."""
        self.run.enter("neighbourhoods")
        with self.run.at_most(AROUND_SHARE * self.run.time_left()):
            self._searches(linear).around()

    def many(self) -> bool:
        """Return whether searches around what is dear lead further than a dive of the whole."""
        return bool(self.annealing()) and self.run.batch.total_replicas >= LEAST_REPLICAS

    def lost(self, pricing: Pricing, linear: LinearBound) -> bool:
        """Return whether the gap is so wide that there is only time for better placements."""
        run, ceiling = self.run, self._ceiling()
        if not self.many() or not np.isfinite(min(ceiling, run.time_left())):
            return False
        if self._lost is None or self._is_less(ceiling, self._lost, linear):
            lost = too_wide(run, pricing, linear, ceiling, CLOSING_LIMIT)
            self._lost = ceiling if lost else None
        return self._lost is not None

    def large(self, linear: LinearBound) -> bool:
        """Return whether the linear values are large: most VMs are settled by them."""
        return self._rounding(linear) is not None

    def even_out(self, linear: LinearBound, *, again: bool = False) -> bool:
        """Look for a placement right at linear values that are large; return if it is better.

        `again` is for another time, as long as there is time.
        """
        near = self._rounding(linear)
        if near is None:
            return False
        self.run.enter("evening out")
        share = 1.0 if again else EVENING_SHARE
        with self.run.at_most(share * self.run.time_left()):
            better = near.even_out(self._rng, quick=not linear.converged, again=again)
        self.evened = self.evened or better
        return better

    def close(self, pricing: Pricing, linear: LinearBound) -> None:
        """Find better placements among the columns, then prove over every group that could help."""
        run = self.run
        large = self.large(linear)
        rounded = large and not self._few_may_help(pricing, linear)
        if rounded and not self.even_out(linear):
            self._near_linear(linear)
        effort = (LARGE_EFFORT if large else FIRST_EFFORT) * share_of(run)
        while not run.should_stop():
            before = run.objective
            if self.lost(pricing, linear):
                self.improved(linear, effort)
                continue
            window = self._ceiling() - linear.bound
            parts = self._all_that_may_help(pricing, linear)
            groups = np.inf if parts is None else groups_in(parts)
            if groups >= NARROW_FROM and self._narrow(pricing, linear):
                continue
            hurry = np.isfinite(run.time_left())
            if parts is not None and (groups <= QUICK_CLOSING or not hurry):
                run.enter(f"closing over {groups} groups")
                if self._prove(parts, linear, window):
                    return
                continue
            if not rounded:
                self._near_linear(linear)
                rounded = True
            if run.best is not None and self.improved(linear, effort):
                continue
            exhausted = self._widen(pricing, linear, effort)
            if run.objective == before and exhausted and not np.isfinite(run.time_left()):
                return
            effort *= 2.0

    def _few_may_help(self, pricing: Pricing, linear: LinearBound) -> bool:
        """Return whether a proof is at hand: better placements use but few groups."""
        if self.run.objective is None:
            return False
        return linear.within(pricing, self._ceiling(), NARROW_FROM - 1) is not None

    def _all_that_may_help(self, pricing: Pricing, linear: LinearBound) -> Parts | None:
        """Return every group of placements better than the incumbent, None if too many.

        Where there is none, every group there is: a proof that no placement exists needs them all.
        """
        ceiling = self._ceiling()
        if self._listing is not None and self._listing.ceiling >= ceiling:
            return self._listing.below(ceiling)
        if self._too_many is not None and not self._is_less(ceiling, self._too_many, linear):
            return None
        most = CLOSING_LIMIT if np.isfinite(ceiling) else QUICK_CLOSING
        listing = list_groups(self.run, pricing, linear, ceiling, most)
        if listing is None:
            self._too_many = ceiling
            return None
        self._listing = listing
        return listing.below(ceiling)

    def _is_less(self, ceiling: float, before: float | None, linear: LinearBound) -> bool:
        """Return whether the gap has become much less than it was at the ceiling before."""
        return before is not None and ceiling - linear.bound < SHRINKAGE * (before - linear.bound)

    def improve(self, linear: LinearBound) -> None:
        """Improve the incumbent until time is over, by annealing most of it."""
        annealing = self.annealing()
        if annealing is not None:
            self.run.enter("annealing")
            annealing.improve(ANNEALED * self.run.time_left())
        while not self.run.should_stop():
            self.improved(linear, share_of(self.run))

    def annealing(self) -> Annealing | None:
        """Return the run's annealing, None where its batch is not one for it."""
        if self._annealing is None and annealable(self.run):
            self._annealing = Annealing(self.run)
        return self._annealing

    def _searches(self, linear: LinearBound) -> Improving:
        """Return the searches for better placements, which go on where they ended."""
        if self._improving is None:
            hurry = np.isfinite(self.run.time_left())
            even_out = partial(self.even_out, again=True) if hurry and self.evened else None
            self._improving = Improving(
                self.run, self.rows, linear, self.annealing(), self._recombine, even_out
            )
        self._improving.follow(linear)
        return self._improving

    def improved(self, linear: LinearBound, seconds: float) -> bool:
        """Improve the incumbent by each search in turn; return whether one led anywhere."""
        improving = self._searches(linear)
        return any(improving.step(seconds) for _ in range(STEPS))

    def _recombine(self, linear: LinearBound, others: Columns) -> None:
        """Offer the best placement found among the linear master's columns and others.

        Near the linear values where these are large: far from them HiGHS did not heed its clock.
        """
        if near := self._rounding(linear):
            near.search(self.run.time_left(), self._rng)
        else:
            self._integer(self._with_incumbent(join([linear.columns, others])))

    def _narrow(self, pricing: Pricing, linear: LinearBound) -> bool:
        """Settle whether a placement lies in the lower part of the gap, with few groups.

        Return whether that led to a better placement. Where none does, the bound rises.
        """
        run = self.run
        if run.objective is None or not np.isfinite(linear.bound):
            return False
        before, ceiling = run.objective, self._ceiling()
        most = QUICK_CLOSING if np.isfinite(run.time_left()) else CLOSING_LIMIT
        listing = self._listing
        if listing is None and np.isinf(self._too_hard):
            listing = list_lower_part(run, pricing, linear, ceiling, most)
            self._listing = listing
        if listing is None:
            self._too_hard = linear.bound
            return False
        for cutoff in listing.cutoffs(NARROW_FROM):
            if run.bound is not None and settled(cutoff) <= run.bound:
                continue
            if run.should_stop() or cutoff >= min(self._too_hard, before):
                return False
            parts = listing.below(cutoff)
            if groups_in(parts) > most:
                return False
            run.enter(f"narrow closing over {groups_in(parts)} groups")
            with run.at_most(max(share_of(run), NARROW_TIME * run.time_left())):
                complete = self._settle(parts, cutoff)
            if not complete:
                self._too_hard = cutoff
                return run.objective < before
            if run.objective < before:
                return True
        return False

    def _settle(
        self, parts: Parts, cutoff: float, improved: Callable[[], None] | None = None
    ) -> bool:
        """Find the best placement of at most `cutoff`, part by part; return whether to the end.

        The bound rises to that placement, or to the cutoff where there is none.
        """
        run, complete = self.run, True
        bounds = [settled(cutoff)] if np.isfinite(cutoff) else []
        for leaf, groups in parts:
            ceiling = min(cutoff, self._ceiling())
            result = self._integer(groups, improved=improved, cutoff=ceiling, leaf=leaf)
            if not result.infeasible:
                bounds.append(max(leaf.bound, -np.inf if result.bound is None else result.bound))
            complete = complete and (result.infeasible or result.complete)
        if bounds:
            run.raise_bound(min(*bounds, run.cost_to_beat()))
        else:
            take_infeasible(run)
        return complete

    def _prove(self, parts: Parts, linear: LinearBound, window: float) -> bool:
        """Solve the master over all groups that could help; return whether that is the end.

        It is not where a better placement makes far fewer groups worth looking at.
        """
        run = self.run
        shrunk = False

        def improved() -> None:
            nonlocal shrunk
            if np.isfinite(window) and self._ceiling() - linear.bound < SHRINKAGE * window:
                shrunk = True
                run.recess()

        with run.at_most(np.inf):
            complete = self._settle(parts, self._ceiling(), improved)
        return not shrunk or complete

    def _near_linear(self, linear: LinearBound) -> None:
        """Look for placements among the columns; near the linear values where these are large."""
        run, hurry = self.run, np.isfinite(self.run.time_left())
        if near := self._rounding(linear):
            run.enter("rounding")
            share = ROUNDING_SHARE * run.time_left() if hurry else share_of(run)
            near.search(max(COLUMNS_SECONDS, share), self._rng)
            return
        run.enter("integer columns")
        most = max(COLUMNS_SECONDS, COLUMNS_SHARE * run.time_left()) if hurry else np.inf
        with run.at_most(min(most, share_of(run))):
            self._integer(linear.columns)

    def _rounding(self, linear: LinearBound) -> Rounding | None:
        """Return how to round the linear values, None where they are not large."""
        return Rounding.of(self.run, self.rows, self.backend, linear)

    def _ceiling(self) -> float:
        """Return what a placement no worse than the incumbent costs at the most, rounding included.

        Infinite where there is no incumbent.
        """
        least = self.run.cost_to_beat()
        return least + 1e-9 * max(1.0, abs(least))

    def _widen(self, pricing: Pricing, linear: LinearBound, seconds: float) -> bool:
        """Look for a better placement among more groups than the columns, without proof.

        Return whether these groups hold no better one.
        """
        run = self.run
        if near := self._rounding(linear):
            run.enter("rounding")
            near.search(seconds, self._rng)
            return False
        run.enter("wider columns")
        window = 1e-6 * max(1.0, abs(linear.bound))
        if run.objective is not None:
            window = max(window, (run.objective - linear.bound) / 64)
        found = linear.columns
        most = CLOSING_LIMIT // 8 if np.isfinite(linear.bound) else 0
        while most and (more := linear.within(pricing, linear.bound + window, most)) is not None:
            found = more
            window *= 2.0
        with run.at_most(seconds):
            promising = columns_of(run.costs, list(run.promising))
            result = self._integer(self._with_incumbent(join([linear.columns, found, promising])))
        return result.complete

    def _with_incumbent(self, groups: Columns) -> Columns:
        """Return `groups`, each once, and those that the incumbent uses."""
        return including(self.run.costs, groups, self.run.best or {})

    def _integer(
        self,
        columns: Columns,
        improved: Callable[[], None] | None = None,
        cutoff: float | None = None,
        leaf: Leaf | None = None,
    ) -> IntegerResult:
        """Solve the master over `columns`, and offer what it finds.

        `improved` is called after each better placement; with a `cutoff` placements above it are
        not looked for, with a `leaf` none outside of it.
        """
        run = self.run
        rows = self.rows if leaf is None else leaf.rows(self.rows)
        program = integer_master(rows, columns, run.best if rows is self.rows else None)
        if cutoff is not None and np.isfinite(cutoff):
            known = run.objective is not None and run.objective <= cutoff
            program = replace(program, cutoff=cutoff, start=program.start if known else None)
        return solve_and_offer(self.backend, program, run, columns, improved=improved)
