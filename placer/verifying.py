"""A second opinion: the same instance by another formulation, and what contradicts the first."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from placer.errors import ConsistencyError, UsageError
from placer.files import to_json, write_text
from placer.problem import Instance
from placer.result import Result
from placer.solvers.run import Progress
from placer.solving import solve
from placer.status import Status

SECOND = ("cp-sat-direct", "milp-direct", "cp-sat", "groups")
"""Who is asked, the first that takes the instance and is not who solved it."""

TOLERANCE = 1e-6


@dataclass(frozen=True)
class Verified:
    """The better of two results, and what the second one said, in a sentence."""

    result: Result
    second: Result
    words: str


def verify(
    result: Result,
    *,
    time_limit: float | None = None,
    workers: int | None = None,
    seed: int = 0,
    on_progress: Callable[[Progress], None] | None = None,
    folder: str | Path = ".",
) -> Verified:
    """Solve the instance of `result` anew by another formulation and compare.

    Nothing of the first solve is handed on. Raises ConsistencyError where the two contradict each
    other, after saving the instance and both placements in `folder`.
    """
    instance = result.instance
    first = result.placement.solver.name if result.placement.solver else ""
    second = _second(instance, first, time_limit, workers, seed, on_progress)
    contradiction = contradicts(result, second)
    if contradiction:
        file = _save(instance, result, second, Path(folder))
        raise ConsistencyError(
            f"two formulations contradict each other: {contradiction}; please report {file}, "
            "which holds the instance and both placements"
        )
    return Verified(_better(result, second), second, _words(result, second))


def _second(
    instance: Instance,
    first: str,
    time_limit: float | None,
    workers: int | None,
    seed: int,
    on_progress: Callable[[Progress], None] | None,
) -> Result:
    family = {"auto": "groups", "milp": "groups"}.get(first, first)
    second: Result | None = None
    for name in SECOND:
        if name == family:
            continue
        try:
            second = solve(
                instance, solver=name, time_limit=time_limit, workers=workers, seed=seed,
                on_progress=on_progress, explain=False,
            )  # fmt: skip
        except UsageError:
            continue  # the assignment model takes neither every form of interference nor every size
        if second.status != Status.UNKNOWN:
            break
    if second is None:
        raise UsageError("--verify: no second formulation takes this instance")
    return second


def contradicts(a: Result, b: Result) -> str:
    """Return how two results of one instance contradict each other, "" where they do not."""
    for one, other in ((a, b), (b, a)):
        if one.status == Status.INFEASIBLE and other.score is not None:
            return f"{_name(one)} proved that there is no placement, {_name(other)} found one"
        if one.bound is None or other.objective is None:
            continue
        if one.bound > other.objective + TOLERANCE * max(1.0, abs(other.objective)):
            return (
                f"{_name(one)} proved that none costs less than {one.bound:.9g}, {_name(other)} "
                f"found one at {other.objective:.9g}"
            )
    return ""


def _name(result: Result) -> str:
    return result.placement.solver.name if result.placement.solver else "?"


def _better(a: Result, b: Result) -> Result:
    """Return the result of lower objective, with the higher of the two bounds."""
    chosen = a
    if b.objective is not None and (a.objective is None or b.objective < a.objective - 1e-12):
        chosen = b
    bounds = [r.bound for r in (a, b) if r.bound is not None]
    if chosen.objective is None or not bounds:
        return chosen
    bound = min(max(bounds), chosen.objective)
    gap = (chosen.objective - bound) / max(abs(chosen.objective), 1e-9)
    status = Status.OPTIMAL if Status.OPTIMAL in (a.status, b.status) else chosen.status
    update = {"bound": bound, "gap": gap, "status": status if gap <= TOLERANCE else chosen.status}
    placement = chosen.placement.model_copy(update=update)
    return Result(chosen.instance, placement, chosen.score, chosen.explanation, chosen.notes)


def _words(first: Result, second: Result) -> str:
    name = _name(second)
    if first.status == second.status == Status.INFEASIBLE:
        return f"verified: {name} also proved that there is no placement"
    if first.status == second.status == Status.OPTIMAL:
        return f"verified: {name} proved the same optimum, {second.objective:.9g}"
    if second.score is None and second.bound is None:
        return f"not verified: {name} found neither a placement nor a bound in its time"
    found = "no placement" if second.objective is None else f"a placement at {second.objective:.9g}"
    bound = "no bound" if second.bound is None else f"the bound {second.bound:.9g}"
    return f"no contradiction: {name} found {found} and proved {bound} in its time"


def _save(instance: Instance, a: Result, b: Result, folder: Path) -> Path:
    file = folder / f"placer-disagreement-{_file_name(instance.name)}.json"
    data = {
        "instance": json.loads(to_json(instance.to_dict())),
        "placements": [a.placement.to_dict(), b.placement.to_dict()],
    }
    write_text(file, to_json(data))
    return file


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name)[:80] or "unnamed"
