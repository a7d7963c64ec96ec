"""The group formulation solved to proof: columns, integer master, and the closing step.

Column generation gives a bound and prices. No solution better than the incumbent can use a group
whose reduced cost exceeds the gap, so the integer master over all other groups closes it: a proof
without a branching scheme of our own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from placer.errors import ConsistencyError
from placer.solvers.backend_highs import solve_with_highs
from placer.solvers.column_generation import ColumnGeneration, LinearBound
from placer.solvers.columns import Columns, assignment_of, columns_of, join
from placer.solvers.diving import dive
from placer.solvers.enumeration import GROUP_LIMIT, enumerate_groups
from placer.solvers.greedy import Greedy
from placer.solvers.growth import GrowthPricing
from placer.solvers.guided_fill import fill_guided
from placer.solvers.integer_program import Backend, IntegerProgram, IntegerResult
from placer.solvers.local import Local
from placer.solvers.master import Rows, integer_master
from placer.solvers.neighbourhood import Neighbourhoods
from placer.solvers.pricing import EFFORTS, PoolPricing, Pricing
from placer.solvers.relaxation import aggregate_proves_infeasible, raise_aggregate_bound
from placer.solvers.run import Run

SMALL_POOL = 2_000
"""Up to this many groups go into the integer master as they are."""

NARROW_FROM = 300
"""From this many groups on the gap is settled part by part."""

NARROW_SHARES = (0.125, 0.25, 0.375, 0.5, 0.65, 0.8)
"""Parts of the gap that are settled first where the whole takes many groups."""

SHRINKAGE = 0.75
"""How far the window must shrink for the closing step to begin again with fewer groups."""

KEPT_OPEN = 4
"""How many VMs of each column rounding down leaves for the integer master to decide."""

DESCENT_SECONDS = 0.4
"""The most that local search takes before the exact method begins, where time is limited."""

ROUNDING_SECONDS = 1.2
"""The most that looking for placements near the linear values takes, where time is limited."""

FILL_SHARE, FIRST_SHARE, DIVE_SHARE, NEIGHBOURS_SHARE = 0.1, 0.3, 0.2, 0.1
"""Of the time left, what each step may take before the linear bound is looked for."""

COLUMNS_SHARE = 0.4
"""How much of the time left the linear bound may take before better placements are looked for."""

CLOSING_LIMIT = 150_000
"""The most groups that one integer master is given."""


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
            _no_placement(run)
            return
        run.enter("groups")
        pool = enumerate_groups(run, self.group_limit)
        if run.should_stop():
            return
        if pool is not None:
            run.step = common_step(_all_costs(run, pool))
            if len(pool) <= self.small_pool:
                _Closing(run, rows, self.backend()).whole(pool)
                return
        self._by_columns(run, rows, pool)

    def _by_columns(self, run: Run, rows: Rows, pool: Columns | None) -> None:
        if pool is None:
            pricing: Pricing = GrowthPricing(run)
            self._without_pool(run, rows, pricing)
        else:
            pricing = PoolPricing(run.batch, pool)
        if run.should_stop():
            return
        run.enter("columns")
        with run.at_most(COLUMNS_SHARE * run.time_left()):
            linear = ColumnGeneration(run, rows, pricing).solve()
        if run.should_stop():
            return
        if linear is not None and linear.infeasible:
            _no_placement(run)
        elif linear is not None:
            _Closing(run, rows, self.backend()).close(pricing, linear)
        elif run.best is not None:
            run.enter("neighbourhoods")
            Neighbourhoods(run, None).improve(run.time_left())

    def _without_pool(self, run: Run, rows: Rows, pricing: Pricing) -> None:
        """Look for good placements and a quick bound where groups are too many to list."""
        run.enter("aggregate bound")
        raise_aggregate_bound(run, _share(run))
        if not run.should_stop():
            run.enter("guided fill")
            with run.at_most(FILL_SHARE * run.time_left()):
                fill_guided(run)
        if run.should_stop():
            return
        run.enter("first columns")
        with run.at_most(FIRST_SHARE * run.time_left()):
            linear = ColumnGeneration(
                run, rows, pricing, outdone_by_bound=True, most_effort=EFFORTS - 1
            ).solve()
        if linear is None or run.should_stop():
            return
        run.enter("diving")
        with run.at_most(DIVE_SHARE * run.time_left()):
            dive(run, rows, linear.columns)
        run.promising.update(dict.fromkeys(linear.columns.states()))
        if np.isfinite(run.time_left()) and not run.should_stop():
            run.enter("first neighbourhoods")
            Neighbourhoods(run, linear.guide).improve(NEIGHBOURS_SHARE * run.time_left())


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


def _no_placement(run: Run) -> None:
    """Take a proof that no placement exists; one at hand shows that the proof is wrong."""
    if run.best is not None:
        raise ConsistencyError(
            "the integer master has no solution, yet a placement is known: please report this "
            "instance"
        )
    run.proved_infeasible = True


class _Closing:
    """The integer steps after the linear bound."""

    def __init__(self, run: Run, rows: Rows, backend: Backend) -> None:
        self.run, self.rows, self.backend = run, rows, backend
        self._neighbourhoods: Neighbourhoods | None = None

    def whole(self, pool: Columns) -> None:
        """Solve the master over every group there is."""
        self.run.enter("integer master")
        before = self.run.objective
        self._take_proof(self._integer(pool), before)

    def close(self, pricing: Pricing, linear: LinearBound) -> None:
        """Find better placements among the columns, then prove over every group that could help."""
        run = self.run
        run.enter("integer columns")
        hurry = np.isfinite(run.time_left())
        with run.at_most(min(ROUNDING_SECONDS, _share(run)) if hurry else _share(run)):
            self._near_linear(linear)
        effort = _share(run)
        while not run.should_stop():
            window = np.inf if run.objective is None else self._window(linear)
            groups = pricing.within(linear.prices, window, CLOSING_LIMIT)
            if groups is not None:
                if len(groups) >= NARROW_FROM and self._narrow(pricing, linear):
                    continue
                run.enter(f"closing over {len(groups)} groups")
                if self._prove(self._with_incumbent(groups), linear, window):
                    return
                continue
            if self._search_near(linear, effort):
                continue
            before = run.objective
            exhausted = self._widen(pricing, linear, effort)
            if run.objective == before and exhausted and not np.isfinite(run.time_left()):
                return
            effort *= 2.0

    def _search_near(self, linear: LinearBound, seconds: float) -> bool:
        """Improve the incumbent a few VMs at a time; return whether that led anywhere."""
        run = self.run
        if run.best is None:
            return False
        run.enter("neighbourhoods")
        if self._neighbourhoods is None:
            self._neighbourhoods = Neighbourhoods(run, linear.guide)
        return self._neighbourhoods.improve(seconds)

    def _narrow(self, pricing: Pricing, linear: LinearBound) -> bool:
        """Settle whether a placement lies in the lower part of the gap, with few groups.

        Return whether that led to a better placement. Where none does, the bound rises.
        """
        run = self.run
        assert run.objective is not None
        before = run.objective
        for share in NARROW_SHARES:
            width = share * (before - linear.bound)
            cutoff = linear.bound + width
            groups = pricing.within(linear.prices, width, CLOSING_LIMIT)
            if run.should_stop() or groups is None:
                return False
            if run.bound is not None and cutoff <= run.bound:
                continue
            run.enter(f"narrow closing over {len(groups)} groups")
            with run.at_most(_share(run)):
                result = self._integer(groups, cutoff=cutoff)
            if result.infeasible:
                run.raise_bound(cutoff - 1e-9 * abs(cutoff))
            elif result.bound is not None:
                run.raise_bound(min(result.bound, cutoff - 1e-9 * abs(cutoff)))
            if run.objective < before or not (result.infeasible or result.complete):
                return run.objective < before
        return False

    def _prove(self, groups: Columns, linear: LinearBound, window: float) -> bool:
        """Solve the master over all groups that could help; return whether that is the end.

        It is not where a better placement makes far fewer groups worth looking at.
        """
        run, before = self.run, self.run.objective
        shrunk = False

        def improved() -> None:
            nonlocal shrunk
            if np.isfinite(window) and self._window(linear) < SHRINKAGE * window:
                shrunk = True
                run.recess()

        with run.at_most(np.inf):
            result = self._integer(groups, improved=improved)
        self._take_proof(result, before)
        return not shrunk or result.complete

    def _near_linear(self, linear: LinearBound) -> None:
        """Look for placements among the columns; near the linear values where these are large."""
        values = linear.values
        base = np.maximum(np.floor(values + 1e-7) - KEPT_OPEN, 0.0)
        if len(values) == len(linear.columns) and base.sum() >= 0.5 * values.sum():
            self._integer(linear.columns, base.astype(np.int64))
        else:
            self._integer(linear.columns)

    def _window(self, linear: LinearBound) -> float:
        assert self.run.objective is not None
        objective = self.run.objective
        return objective - linear.bound + 1e-9 * max(1.0, abs(objective))

    def _widen(self, pricing: Pricing, linear: LinearBound, seconds: float) -> bool:
        """Look for a better placement among more groups than the columns, without proof.

        Return whether these groups hold no better one.
        """
        run = self.run
        run.enter("wider columns")
        window = 1e-6 * max(1.0, abs(linear.bound))
        found = linear.columns
        while (more := pricing.within(linear.prices, window, CLOSING_LIMIT // 8)) is not None:
            found = more
            window *= 2.0
        with run.at_most(seconds):
            result = self._integer(self._with_incumbent(join([found, linear.columns])))
        return result.complete

    def _with_incumbent(self, groups: Columns) -> Columns:
        """Return `groups`, each once, and those that the incumbent uses."""
        run = self.run
        states = list(dict.fromkeys([*groups.states(), *(run.best or {})]))
        return groups if len(states) == len(groups) else columns_of(run.costs, states)

    def _integer(
        self,
        columns: Columns,
        base: NDArray[np.int64] | None = None,
        improved: Callable[[], None] | None = None,
        cutoff: float | None = None,
    ) -> IntegerResult:
        """Solve the master over `columns`, of each at least `base` VMs, and offer what it finds.

        `improved` is called after each better placement; placements above `cutoff` are not
        looked for.
        """
        run, n = self.run, len(columns)
        program = integer_master(self.rows, columns, run.best)
        if cutoff is not None:
            program = replace(program, start=None, cutoff=cutoff)
        fixed = np.zeros(len(program.cost), dtype=np.int64)
        if base is not None:
            fixed[:n] = base
            program = beyond(program, fixed)

        def offer(values: NDArray[np.int64]) -> None:
            if run.offer(assignment_of(columns, (fixed + values)[:n])) and improved is not None:
                improved()

        result = self.backend(program, run, offer)
        if result.values is not None:
            offer(result.values)
        return result

    def _take_proof(self, result: IntegerResult, before: float | None) -> None:
        """Take the bound of a master that lacked no group that could better the `before`."""
        if result.infeasible:
            _no_placement(self.run)
        elif result.bound is not None:
            self.run.raise_bound(min(result.bound, np.inf if before is None else before))


def beyond(program: IntegerProgram, fixed: NDArray[np.int64]) -> IntegerProgram:
    """Return what is left to decide once each variable is at least `fixed` (n,)."""
    used = program.matrix @ fixed
    return replace(
        program,
        upper=program.upper - fixed,
        row_lower=program.row_lower - used,
        row_upper=program.row_upper - used,
        start=None,
    )


def _share(run: Run) -> float:
    """Return the seconds that one search without proof may take."""
    left = run.time_left()
    return 60.0 if not np.isfinite(left) else max(1.0, min(20.0, left / 5))


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
