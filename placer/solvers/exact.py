"""The group formulation solved to proof: columns, integer master, and the closing step.

Column generation gives a bound and prices. No solution better than the incumbent can use a group
whose reduced cost exceeds the gap, so the integer master over all other groups closes it: a proof
without a branching scheme of our own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from placer.solvers.backend_highs import solve_with_highs
from placer.solvers.closing import Closing, take_infeasible
from placer.solvers.column_generation import ColumnGeneration
from placer.solvers.columns import Columns
from placer.solvers.count_branching import branch
from placer.solvers.enumeration import GROUP_LIMIT, enumerate_groups
from placer.solvers.greedy import Greedy
from placer.solvers.growth import GrowthPricing
from placer.solvers.guided_fill import fill_guided
from placer.solvers.improving import share_of
from placer.solvers.integer_program import Backend
from placer.solvers.linear_bound import LinearBound
from placer.solvers.local import Local
from placer.solvers.master import Rows
from placer.solvers.neighbourhood import Neighbourhoods
from placer.solvers.pricing import PoolPricing, Pricing
from placer.solvers.relaxation import aggregate_proves_infeasible, raise_aggregate_bound
from placer.solvers.run import Run

SMALL_POOL = 2_000
"""Up to this many groups go into the integer master as they are."""

DESCENT_SECONDS = 0.4
"""The most that local search takes before the exact method begins, where time is limited."""

ANNEALING_SHARE, ANNEALING_SECONDS, IMPROVING_SHARE = 0.04, 12.0, 0.1
FILL_SHARE, FIRST_SHARE, DIVE_SHARE, NEIGHBOURS_SHARE = 0.1, 0.3, 0.2, 0.1
"""Of the time left, what each step may take before the linear bound is looked for; of seconds, the
first annealing."""

FIRST_STEP = 0.5
"""Seconds that each search for better placements gets at first; twice as many while one gains."""

FEW_REPLICAS, COUNTING_SHARE = 2_000, 0.6
"""With more replicas, whether a VM more is used matters little; the time to find out otherwise."""

COLUMNS_SHARE, SLOW_COLUMNS_SHARE, LARGE_COLUMNS_SHARE = 0.4, 0.15, 0.75
"""How much of the time left the linear bound may take before better placements are looked for; less
where exact pricing is so slow that it will hardly come to an end, and most of the time is for
annealing; more where linear values are large: placements are near them."""


class Groups:
    """The group formulation with HiGHS for the integer master."""

    name = "groups"
    exact = True
    small_pool = SMALL_POOL
    group_limit = GROUP_LIMIT

    def backend(self) -> Backend:
        """Return what solves the integer master."""
        return solve_with_highs

    def solve(self, run: Run) -> None:
        """Prove the optimum of the run's batch, or come as near as its clock lets it."""
        rows = Rows(run.batch)
        if run.best is None:
            first_placement(run)
        if not len(rows.kinds):
            run.offer({})
            run.raise_bound(0.0)
            return
        if run.best is None and aggregate_proves_infeasible(run):
            take_infeasible(run)
            return
        run.enter("groups")
        pool = enumerate_groups(run, self.group_limit)
        if run.should_stop():
            return
        if pool is not None:
            run.step = common_step(_all_costs(run, pool))
            if len(pool) <= self.small_pool:
                Closing(run, rows, self.backend()).whole(pool)
                return
        self._by_columns(run, rows, pool)

    def _by_columns(self, run: Run, rows: Rows, pool: Columns | None) -> None:
        closing = Closing(run, rows, self.backend())
        if pool is None:
            pricing: Pricing = GrowthPricing(run)
            share = self._without_pool(run, rows, pricing, closing)
        else:
            pricing, share = PoolPricing(run.batch, pool), COLUMNS_SHARE
        if run.should_stop():
            return
        run.enter("columns")
        with run.at_most(share * run.time_left()):
            generation = ColumnGeneration(run, rows.counting(), pricing, cutting=True)
            linear = generation.solve()
            done = linear is not None and linear.converged and not linear.infeasible
            if linear is not None and done and not closing.lost(pricing, linear):
                linear = self._counted(run, generation, linear)
        if run.should_stop():
            return
        if linear is not None and linear.infeasible:
            take_infeasible(run)
        elif linear is not None and self._hopeless(run, linear, closing):
            closing.improve(linear)
        elif linear is not None:
            if pool is None and linear.converged and not closing.evened:
                self._near_bound(run, linear, closing)
            closing.close(pricing, linear)
        elif run.best is not None:
            run.enter("neighbourhoods")
            Neighbourhoods(run, None).improve(run.time_left())

    def _near_bound(self, run: Run, linear: LinearBound, closing: Closing) -> None:
        """Look for better placements now that the bound is known: around, or by another dive."""
        if closing.many():
            closing.search_around(linear)
            return
        run.enter("diving again")
        with run.at_most(DIVE_SHARE * run.time_left()):
            closing.dive(linear)

    def _counted(self, run: Run, generation: ColumnGeneration, linear: LinearBound) -> LinearBound:
        """Return `linear` with a tree over how many VMs are used, where one VM more matters."""
        if run.batch.total_replicas > FEW_REPLICAS:
            return linear
        run.enter("counting VMs")
        with run.at_most(COUNTING_SHARE * run.time_left()):
            return branch(run, generation, linear)

    def _hopeless(self, run: Run, linear: LinearBound, closing: Closing) -> bool:
        """Return whether only better placements are left to look for: the bound is not done."""
        hurry = bool(np.isfinite(run.time_left()))
        return not linear.converged and hurry and closing.annealing() is not None

    def _without_pool(self, run: Run, rows: Rows, pricing: Pricing, closing: Closing) -> float:
        """Look for good placements and a quick bound where groups are too many to list.

        Return how much of the time left the linear bound may take.
        """
        run.enter("aggregate bound")
        raise_aggregate_bound(run, share_of(run))
        if not run.should_stop():
            run.enter("guided fill")
            with run.at_most(FILL_SHARE * run.time_left()):
                fill_guided(run)
        annealing = closing.annealing() if np.isfinite(run.time_left()) else None
        if annealing:
            run.enter("annealing")
            annealing.improve(min(ANNEALING_SECONDS, ANNEALING_SHARE * run.time_left()))
        if run.should_stop():
            return COLUMNS_SHARE
        run.enter("first columns")
        with run.at_most(FIRST_SHARE * run.time_left()):
            generation = ColumnGeneration(run, rows, pricing, outdone_by_bound=True, bounding=False)
            linear = generation.solve()
        if linear is None or run.should_stop():
            return COLUMNS_SHARE
        evened = closing.even_out(linear)
        if not evened:
            run.enter("diving")
            with run.at_most(DIVE_SHARE * run.time_left()):
                closing.dive(linear)
        run.promising.update(dict.fromkeys(linear.columns.states()))
        if not np.isfinite(run.time_left()) or run.should_stop():
            return COLUMNS_SHARE
        if closing.annealing():
            if generation.slow:
                return SLOW_COLUMNS_SHARE
            seconds = FIRST_STEP
            with run.at_most(IMPROVING_SHARE * run.time_left()):
                while not run.should_stop() and closing.improved(linear, seconds):
                    seconds *= 2.0
        elif run.best is not None and not evened:
            run.enter("first neighbourhoods")
            Neighbourhoods(run, linear).improve(NEIGHBOURS_SHARE * run.time_left())
        return LARGE_COLUMNS_SHARE if closing.large(linear) else COLUMNS_SHARE


class GroupsCpSat(Groups):
    """The group formulation with CP-SAT for the integer master."""

    name = "cp-sat"

    def backend(self) -> Backend:
        from placer.solvers.backend_cpsat import solve_with_cpsat

        return solve_with_cpsat


class GroupsMilp(Groups):
    """The group formulation with a solver that PuLP finds for the integer master."""

    name = "milp"

    def backend(self) -> Backend:
        from placer.solvers.backend_pulp import solve_with_pulp

        return solve_with_pulp


def first_placement(run: Run) -> None:
    """Offer a good placement soon: greedy, then a short descent."""
    run.enter("greedy")
    Greedy().solve(run)
    if not run.should_stop():
        run.enter("local search")
        hurry = np.isfinite(run.time_left())  # without a limit no clock decides what is found
        with run.at_most(min(DESCENT_SECONDS, run.time_left() / 8) if hurry else np.inf):
            Local(rounds=0).solve(run)


def _all_costs(run: Run, pool: Columns) -> NDArray[np.float64]:
    unplaced = run.batch.unplaced_cost
    return pool.cost if unplaced is None else np.concatenate([pool.cost, unplaced])


def common_step(costs: NDArray[np.float64]) -> float:
    """Return the largest step of which all `costs` are multiples, 0 where there is none.

    Looked for among multiples of a millionth, with room for the rounding of sums.
    """
    scaled = costs * 1e6
    whole = np.rint(scaled)
    if not len(costs) or np.abs(whole).max() > 1e15 or np.abs(scaled - whole).max() > 1e-3:
        return 0.0
    step = int(np.gcd.reduce(np.abs(whole).astype(np.int64)))
    return step / 1e6 if step > 1 else 0.0
