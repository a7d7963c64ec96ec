"""`solve`: instance in, checked placement out."""

from __future__ import annotations

import math
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from placer._version import __version__
from placer.checker import check
from placer.errors import ConsistencyError, InputError, UsageError
from placer.explain import explain_infeasible, explain_unplaced
from placer.interference.binding import extrapolation_notes
from placer.interference.measured import measured_notes
from placer.parallel import processors
from placer.placement import (
    EqualVms,
    PlacedModel,
    Placement,
    SolverRecord,
    Terms,
    UnplacedModel,
)
from placer.problem import Instance
from placer.repeated import Repeated
from placer.result import Result
from placer.scoring import Score, VmScore, score
from placer.solvers.batch import compile_batch
from placer.solvers.greedy import completed
from placer.solvers.group_costs import GroupCosts
from placer.solvers.registry import get_solver
from placer.solvers.run import Assignment, Options, Progress, Run, State, replicas_placed
from placer.status import Status, gap_between

Listener = Callable[[Progress], None]


def solve(
    instance: Instance,
    *,
    solver: str = "auto",
    time_limit: float | None = None,
    gap: float = 1e-6,
    workers: int | None = None,
    seed: int = 0,
    start: Placement | None = None,
    on_incumbent: Listener | None = None,
    on_progress: Listener | None = None,
    milp_solver: str = "highs",
    explain: bool = True,
) -> Result:
    """Place the batch and return the best placement found, checked, with its proven bound.

    time_limit in seconds, gap relative, workers in threads (None: as many as there are cores),
    start a placement to begin from. `on_incumbent` is called with each better placement's
    progress. Ctrl-C ends the solve with the best so far.
    Raises InputError and UsageError for what cannot be used, ConsistencyError for a fault.
    """
    options = _options(time_limit, gap, workers, seed, milp_solver)
    chosen = get_solver(solver)
    batch = compile_batch(instance)
    run = Run(batch, GroupCosts(batch), options, on_incumbent, on_progress)
    if start is not None:
        _offer_start(run, start)
    with interrupts_noted(run):
        if not run.should_stop():
            chosen.solve(run)
        return _result(run, chosen.name, explain=explain)


def _options(
    time_limit: float | None, gap: float, workers: int | None, seed: int, milp_solver: str
) -> Options:
    if time_limit is not None and not (math.isfinite(time_limit) and time_limit > 0):
        raise UsageError(f"time limit: found {time_limit:g}, expected a number of seconds above 0")
    if not (math.isfinite(gap) and gap >= 0):
        raise UsageError(f"gap: found {gap:g}, expected a number that is not below 0")
    if workers is not None and workers < 1:
        raise UsageError(f"workers: found {workers}, expected a whole number above 0")
    return Options(time_limit, gap, workers or processors(), seed, milp_solver)


def _offer_start(run: Run, start: Placement) -> None:
    """Begin from `start`, completed where it lacks replicas; say so where it breaks a rule."""
    instance = run.batch.instance
    types = {v.name: t for t, v in enumerate(instance.vm_types)}
    kinds = {m.name: k for k, m in enumerate(instance.models)}
    assignment: Counter[State] = Counter()
    for i, (vm_type, names) in enumerate(start.assignment()):
        if vm_type not in types:
            raise InputError(f"unknown VM type {vm_type!r}", path=f"vms[{i}].vm_type")
        for j, name in enumerate(names):
            if name not in kinds:
                raise InputError(f"unknown model {name!r}", path=f"vms[{i}].models[{j}].name")
        if names:
            assignment[types[vm_type], tuple(sorted(kinds[name] for name in names))] += 1
    if not (run.offer(assignment) or completed(run, assignment)):
        run.notes.append("the start placement breaks a rule of this instance, so it was not used")


@contextmanager
def interrupts_noted(run: Run) -> Iterator[None]:
    """Turn Ctrl-C into the wish to stop; a second one ends the program as usual."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def note(signum: int, frame: object) -> None:
        if run.interrupted:
            raise KeyboardInterrupt
        run.interrupted = True

    before = signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _result(run: Run, solver: str, *, explain: bool) -> Result:
    instance = run.batch.instance
    status, stopped_by = run.status(), run.stopped_by()
    record = SolverRecord(
        name=solver,
        version=__version__,
        seconds=round(run.seconds(), 3),
        seed=run.options.seed,
        workers=run.options.workers,
        stopped_by=stopped_by.value,
    )
    if run.best is None:
        bound = run.bound if status == Status.UNKNOWN else None
        placement = Placement(
            instance=instance.name, status=status, bound=bound, vms=[], solver=record
        )
        causes = explain_infeasible(run) if explain and status == Status.INFEASIBLE else []
        return Result(instance, placement, None, causes, run.notes)
    scored = score(instance, _named(instance, run.best))
    placement = build_placement(run, scored, status, record)
    _refuse_violations(instance, placement, run)
    assignment = placement.assignment()
    notes = [*run.notes, *measured_notes(instance, assignment)]
    notes += extrapolation_notes(instance, assignment)
    return Result(instance, placement, scored, [], notes)


def _named(instance: Instance, assignment: Assignment) -> Repeated[tuple[str, list[str]]]:
    """Return each VM of `assignment` by names, types in the instance's order."""
    counted = sorted(assignment.items())
    names = [
        (instance.vm_types[t].name, [instance.models[k].name for k in group])
        for (t, group), _ in counted
    ]
    return Repeated(names, [count for _, count in counted])


def build_placement(run: Run, scored: Score, status: Status, record: SolverRecord) -> Placement:
    """Return the placement file's content for the run's best assignment."""
    instance, assert_best = run.batch.instance, run.best
    assert assert_best is not None
    objective = scored.objective
    bound = run.bound
    if bound is not None and objective < bound <= objective + 1e-6 * max(1.0, abs(objective)):
        bound = objective  # the two sums differ by rounding alone
    contents, counts = [], []
    for vm, places in scored.vms.runs():
        assert vm is not None
        contents.append((vm.vm_type, _placed_models(vm)))
        counts.append(len(places))
    missing = run.batch.replicas - replicas_placed(run.batch, assert_best)
    reasons = explain_unplaced(run, missing)
    unplaced: list[str | UnplacedModel] = [
        UnplacedModel(name=model.name, reason=reasons.get(k))
        for k, model in enumerate(instance.models)
        for _ in range(int(missing[k]))
    ]
    return Placement.model_construct(  # whose fields are what they should be, and VMs many
        instance=instance.name,
        status=status,
        objective=objective,
        bound=bound,
        gap=gap_between(objective, bound),
        terms=Terms(**scored.terms),
        vms=EqualVms(contents, counts),
        unplaced=unplaced,
        solver=record,
    )


def _placed_models(vm: VmScore) -> list[PlacedModel]:
    placed = []
    for replica in vm.replicas:
        fields: dict[str, Any] = {
            "name": replica.model,
            "slowdown": replica.slowdown,
            "latency_ms": replica.latency_ms,
            "slo_ms": replica.slo_ms,
        }
        if replica.slowdown_upper != replica.slowdown:
            fields["slowdown_upper"] = replica.slowdown_upper
        placed.append(PlacedModel(**fields))
    return placed


def _refuse_violations(instance: Instance, placement: Placement, run: Run) -> None:
    """Hold what is about to leave the program against the instance, solver-free."""
    report = check(instance, placement)
    if report.ok:
        return
    first = report.violations[0]
    raise ConsistencyError(
        f"the placement of solver {placement.solver.name if placement.solver else '?'} failed its "
        f"check and was not written: {first.path}: {first.message}"
        + (f" (and {len(report.violations) - 1} more)" if len(report.violations) > 1 else "")
    )
