"""One solve in progress: best assignment, proven bound, clock, and the wish to stop.

Every solver is one method, `solve(run)`, that offers assignments and raises the bound until
`run.should_stop()`. What came of it is read from the run, status apart from why it stopped.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from placer.problem import TOLERANCE
from placer.solvers.batch import Batch
from placer.solvers.group_costs import GroupCosts
from placer.status import Status, StoppedBy, gap_between

State = tuple[int, tuple[int, ...]]
"""The content of one VM: its type's number, and the kinds on it in ascending order."""

Assignment = Mapping[State, int]
"""How many VMs hold each content; replicas that no VM holds are unplaced."""

POLL_SECONDS = 0.05

ROUNDING = 1e-10
"""Error of a sum of costs, relative to the sum of their sizes, that two orders of adding cause."""


@dataclass(frozen=True)
class Options:
    """What a user may ask of any solver.

    time_limit in seconds (None: none), gap as in the placement file, workers (threads), seed,
    milp_solver: the name of a solver that PuLP finds, for the solvers that use PuLP.
    """

    time_limit: float | None = None
    gap: float = 1e-6
    workers: int = 1
    seed: int = 0
    milp_solver: str = "highs"


@dataclass(frozen=True)
class Progress:
    """Where a solve stands: objective and bound (None: unknown), gap, seconds, and a phase name."""

    objective: float | None
    bound: float | None
    gap: float | None
    seconds: float
    phase: str


class Solver(Protocol):
    """A way to place a batch."""

    name: str
    exact: bool

    def solve(self, run: Run) -> None:
        """Offer assignments to `run` and raise its bound until it is told to stop or is done."""


T = TypeVar("T")


@dataclass
class Run:
    """The state of one solve that solver and caller share.

    `step`: every feasible objective is a multiple of it (0: unknown), which lets a bound be
    rounded up to the next one. `promising`: VM contents that heuristics found useful, as first
    columns for the exact method.
    """

    batch: Batch
    costs: GroupCosts
    options: Options = field(default_factory=Options)
    on_incumbent: Callable[[Progress], None] | None = None
    on_progress: Callable[[Progress], None] | None = None
    started: float = field(default_factory=time.monotonic)
    phase: str = "start"
    best: dict[State, int] | None = None
    objective: float | None = None
    bound: float | None = None
    proved_infeasible: bool = False
    interrupted: bool = False
    timed_out: bool = False
    notes: list[str] = field(default_factory=list)
    step: float = 0.0
    promising: dict[State, None] = field(default_factory=dict)
    _noise: float = 0.0
    _recess: float = math.inf
    _offering: threading.RLock = field(default_factory=threading.RLock)

    def seconds(self) -> float:
        """Return the seconds since the solve began."""
        return time.monotonic() - self.started

    def time_left(self) -> float:
        """Return the seconds left to the work at hand, infinite where there is no limit."""
        return max(0.0, min(self._whole_time_left(), self._recess - self.seconds()))

    def _whole_time_left(self) -> float:
        limit = self.options.time_limit
        return math.inf if limit is None else max(0.0, limit - self.seconds())

    @contextmanager
    def at_most(self, seconds: float) -> Iterator[None]:
        """Give the work inside `with` at most these seconds; the run itself goes on after it."""
        before = self._recess
        self._recess = min(before, self.seconds() + seconds)
        try:
            yield
        finally:
            self._recess = before

    def cost_to_beat(self) -> float:
        """Return the objective of the best placement, infinite where there is none."""
        return math.inf if self.objective is None else self.objective

    def gap(self) -> float | None:
        """Return the proven gap, None where objective or bound is unknown."""
        return gap_between(self.objective, self.bound)

    def closed(self) -> bool:
        """Return whether the gap asked for is reached, or infeasibility is proved."""
        gap = self.gap()
        return self.proved_infeasible or (gap is not None and gap <= self.options.gap)

    def recess(self) -> None:
        """End the work inside the innermost `at_most` now."""
        self._recess = min(self._recess, self.seconds())

    def should_stop(self) -> bool:
        """Return whether to stop now: closed, out of time, or interrupted."""
        if self._whole_time_left() <= 0.0 and not self.closed():
            self.timed_out = True
        return self.interrupted or self.time_left() <= 0.0 or self.closed()

    def enter(self, phase: str) -> None:
        """Say what the solver does next."""
        self.phase = phase
        self._report(self.on_progress)

    def raise_bound(self, bound: float) -> None:
        """Take a proven lower bound; one that is not finite or no better changes nothing.

        What stands above the objective, or below it, by no more than the rounding error of the
        sums behind both is the objective.
        """
        if not math.isfinite(bound):
            return
        if self.step > 0:
            slack = max(1e-6, 1e-9 * abs(bound) / self.step)
            bound = max(bound, math.ceil(bound / self.step - slack) * self.step)
        if self.objective is not None and abs(self.objective - bound) <= self._noise:
            bound = self.objective
        if self.bound is None or bound > self.bound:
            self.bound = bound
            self._report(self.on_progress)

    def offer(self, assignment: Assignment) -> bool:
        """Keep `assignment` if it is feasible and the best so far; return whether it was kept.

        Threads may do so at the same time.
        """
        used = {state: count for state, count in assignment.items() if count > 0}
        objective = self.objective_of(used)
        with self._offering:
            if objective is None or (self.objective is not None and objective >= self.objective):
                return False
            self.best, self.objective = used, objective
            cost = state_costs(self.costs, list(used))
            size = float(np.abs(cost) @ np.array(list(used.values()), float))
            self._noise = ROUNDING * (1e-3 + size)
            self._report(self.on_incumbent)
            self._report(self.on_progress)
        return True

    def objective_of(self, assignment: Assignment) -> float | None:
        """Return the objective of `assignment`, None where it breaks a rule of the instance."""
        batch = self.batch
        states = list(assignment)
        counts = np.array([assignment[state] for state in states], dtype=np.int64)
        used = vms_used(batch, assignment)
        cost = state_costs(self.costs, states)
        missing = batch.replicas - replicas_placed(batch, assignment)
        if not np.isfinite(cost).all() or (missing < 0).any() or not within_limits(batch, used):
            return None
        unplaced = batch.unplaced_cost
        if unplaced is None and missing.any():
            return None
        if not together_holds(batch, states, missing):
            return None
        penalty = 0.0 if unplaced is None else float(missing @ unplaced)
        return math.fsum(cost * counts) + penalty

    def call(self, work: Callable[[], T], cancel: Callable[[], None]) -> T:
        """Run `work`, a long call into a solver library, so that Ctrl-C and the clock reach it.

        `cancel` asks the library to return early. What `work` raises is raised here.
        """
        outcome: dict[str, Any] = {}

        def target() -> None:
            try:
                outcome["value"] = work()
            except BaseException as error:
                outcome["error"] = error

        thread = threading.Thread(target=target, daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(POLL_SECONDS)
            if thread.is_alive() and (self.interrupted or self.time_left() <= 0.0):
                cancel()
        if "error" in outcome:
            raise outcome["error"]
        value: T = outcome["value"]
        return value

    def status(self) -> Status:
        """Return what is proved by now."""
        if self.best is not None:
            gap = self.gap()
            proved = gap is not None and gap <= self.options.gap
            return Status.OPTIMAL if proved else Status.FEASIBLE
        return Status.INFEASIBLE if self.proved_infeasible else Status.UNKNOWN

    def stopped_by(self) -> StoppedBy:
        """Return why the solve stopped."""
        status, gap = self.status(), self.gap()
        if status == Status.INFEASIBLE:
            return StoppedBy.PROOF
        if status == Status.OPTIMAL:
            return StoppedBy.PROOF if gap is not None and gap <= 1e-6 else StoppedBy.GAP
        if self.interrupted:
            return StoppedBy.INTERRUPT
        if self.timed_out or self._whole_time_left() <= 0.0:
            return StoppedBy.TIME
        return StoppedBy.COMPLETE

    def progress(self) -> Progress:
        """Return where the solve stands."""
        return Progress(self.objective, self.bound, self.gap(), self.seconds(), self.phase)

    def _report(self, listener: Callable[[Progress], None] | None) -> None:
        if listener is not None:
            listener(self.progress())


@dataclass
class PartRun(Run):
    """The solve of a part of a batch, which ends with the solve of the whole."""

    whole: Run | None = None

    def time_left(self) -> float:
        """Return the seconds left to the part and to the whole."""
        if self.whole is None or self.whole.interrupted:
            return 0.0
        return min(super().time_left(), self.whole.time_left())


def state_costs(costs: GroupCosts, states: list[State]) -> NDArray[np.float64]:
    """Return the cost of each state (n,), infinite where its group may not be formed."""
    result = np.full(len(states), np.inf)
    by_type: dict[int, list[int]] = {}
    for index, (t, _) in enumerate(states):
        by_type.setdefault(t, []).append(index)
    for t, indices in by_type.items():
        result[indices] = costs.cost(t, rows_of([states[i][1] for i in indices]))
    return result


def rows_of(groups: list[tuple[int, ...]]) -> NDArray[np.int32]:
    """Return groups given as tuples as rows padded with -1 (n, width)."""
    width = max((len(group) for group in groups), default=1) or 1
    rows = np.full((len(groups), width), -1, dtype=np.int32)
    for row, group in zip(rows, groups, strict=True):
        row[: len(group)] = group
    return rows


def replicas_placed(batch: Batch, assignment: Assignment) -> NDArray[np.int64]:
    """Return how many replicas of each kind `assignment` places (K,)."""
    placed = np.zeros(batch.kinds, dtype=np.int64)
    for (_, group), count in assignment.items():
        for kind in group:
            placed[kind] += count
    return placed


def vms_used(batch: Batch, assignment: Assignment) -> NDArray[np.int64]:
    """Return how many VMs of each type `assignment` uses (T,)."""
    used = np.zeros(batch.types, dtype=np.int64)
    for (t, _), count in assignment.items():
        used[t] += count
    return used


def together_holds(batch: Batch, states: list[State], missing: NDArray[np.int64]) -> bool:
    """Return whether each together rule has its VM, or nothing of it is placed at all."""
    for rule in batch.together:
        members = np.flatnonzero(rule)
        if (missing[members] >= batch.replicas[members]).all():
            continue
        if not any(holds(group, rule) for _, group in states):
            return False
    return True


def holds(group: tuple[int, ...], rule: NDArray[np.int64]) -> bool:
    """Return whether `group` holds at least the replicas that `rule` (K,) counts."""
    return all(group.count(int(kind)) >= rule[kind] for kind in np.flatnonzero(rule))


def within_limits(batch: Batch, used: NDArray[Any]) -> bool:
    """Return whether `used` VMs of each type (T,) keep the counts, max_vms and max_price."""
    return bool(
        (used <= batch.count).all()
        and used.sum() <= batch.max_vms
        and float(used @ batch.price) <= batch.max_price + TOLERANCE
    )
