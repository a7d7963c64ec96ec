"""Beyond one solve: a batch split into balanced parts, solved in parallel, joined and repaired.

Every part has its share of each kind's replicas and of each VM type's count, so that it looks like
the whole (POP, Narayanan et al., SOSP 2021). The joined placement is where the whole's own solve
begins: it repairs the seams, and its bound is one of the whole.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from placer.errors import UsageError
from placer.parallel import Workers, as_done
from placer.placement import PlacedModel, PlacedVm, Placement
from placer.problem import Instance
from placer.result import Result
from placer.solvers.run import Progress
from placer.solving import solve
from placer.status import Status

REPAIR_SHARE = 0.35
"""How much of the time limit is left for the whole once its parts are solved."""


@dataclass(frozen=True)
class Part:
    """One part as a worker takes it: the instance as plain data, and how to solve it."""

    number: int
    instance: dict[str, Any]
    file: str | None
    options: dict[str, Any]


def solve_in_parts(
    instance: Instance,
    parts: int,
    workers: Workers | None = None,
    *,
    time_limit: float | None = None,
    gap: float = 1e-6,
    threads: int | None = None,
    seed: int = 0,
    on_progress: Callable[[Progress], None] | None = None,
) -> Result:
    """Solve `parts` parts of the batch in parallel, join them, and go on with the whole.

    A part that fails or finds nothing leaves its replicas to the whole. Raises InputError and
    UsageError as `solve` does.
    """
    if parts < 2:
        raise UsageError(f"--parts: found {parts}, expected 2 or more")
    began = time.monotonic()
    limit = None if time_limit is None else time_limit * (1.0 - REPAIR_SHARE)
    options = {"time_limit": limit, "gap": gap, "workers": 1, "seed": seed}
    pieces = split(instance, parts, seed, options)
    placements: list[Placement] = []
    for done, (failure, data) in enumerate(as_done(_solve_part, pieces, workers or Workers()), 1):
        if failure:
            raise UsageError(f"a part could not be solved: {failure}")
        if data is not None:
            placements.append(Placement.from_dict(data))
        if on_progress is not None:
            seconds = time.monotonic() - began
            on_progress(Progress(None, None, None, seconds, f"part {done} of {len(pieces)}"))
    left = None if time_limit is None else max(1.0, time_limit - (time.monotonic() - began))
    return solve(
        instance,
        time_limit=left,
        gap=gap,
        workers=threads,
        seed=seed,
        start=join_parts(placements),
        on_progress=on_progress,
    )


def split(instance: Instance, parts: int, seed: int, options: dict[str, Any]) -> list[Part]:
    """Return the parts of an instance; rules over models that part company are left to the whole.

    Replicas are dealt out kind by kind from a random part on; kinds of a together rule, and the
    counts of VM types, go round in the same way.
    """
    rng = np.random.default_rng(seed)
    data = instance.to_dict()
    bound_together = {name for rule in instance.rules.together for name in rule}
    share = np.zeros((parts, len(instance.models)), dtype=np.int64)
    first = int(rng.integers(parts))
    for k in rng.permutation(len(instance.models)).tolist():
        model = instance.models[k]
        if model.name in bound_together:
            share[0, k] = model.replicas  # so that the rule can hold in one of them
            continue
        share[:, k] = model.replicas // parts
        for extra in range(model.replicas % parts):
            share[(first + extra) % parts, k] += 1
        first = (first + model.replicas) % parts
    pieces = []
    for number in range(parts):
        used = [k for k in range(len(instance.models)) if share[number, k] > 0]
        if not used:
            continue
        piece = _piece(instance, data, share[number], used, number, parts)
        file = None if instance.file is None else str(instance.file)
        pieces.append(Part(number, piece, file, options))
    return pieces


def _piece(
    instance: Instance,
    data: dict[str, Any],
    share: np.ndarray,
    used: Sequence[int],
    number: int,
    parts: int,
) -> dict[str, Any]:
    names = {instance.models[k].name for k in used}
    rules = instance.rules
    kept: dict[str, Any] = {
        "apart": [rule for names_ in rules.apart if len(rule := _of(names_, names)) > 1],
        "together": [list(rule) for rule in rules.together if set(rule) <= names],
    }
    if rules.max_vms is not None:
        kept["max_vms"] = _portion(rules.max_vms, number, parts)
    if rules.max_price is not None:
        kept["max_price"] = rules.max_price / parts
    vm_types = [
        {
            **vm_type,
            **({} if vm_type.get("count") is None else {
                "count": _portion(int(vm_type["count"]), number, parts)
            }),
        }
        for vm_type in data["vm_types"]
    ]  # fmt: skip
    models = [{**data["models"][k], "replicas": int(share[k])} for k in used]
    interference = _restricted(data.get("interference", {"kind": "none"}), names)
    return {
        **data,
        "name": f"{instance.name} part {number + 1}",
        "vm_types": vm_types,
        "models": models,
        "interference": interference,
        "rules": kept,
        "objective": _with_unplaced(instance, data),
    }


def _of(rule: Sequence[str], names: set[str]) -> list[str]:
    return [name for name in rule if name in names]


def _portion(count: int, number: int, parts: int) -> int:
    return count // parts + (1 if number < count % parts else 0)


def _with_unplaced(instance: Instance, data: dict[str, Any]) -> dict[str, Any]:
    """Let a part leave out what its share of a scarce fleet does not hold: the whole places it."""
    objective = dict(data.get("objective", {}))
    if instance.objective.unplaced_penalty is None:
        dearest = max((v.price for v in instance.vm_types), default=1.0)
        weight = instance.objective.degradation + instance.objective.latency
        objective["unplaced"] = {
            "penalty": 1e3 * (instance.objective.price * dearest + weight + 1.0)
        }
    return objective


def _restricted(interference: dict[str, Any], names: set[str]) -> dict[str, Any]:
    """Return the part of a table that speaks of `names` alone."""
    kind = interference["kind"]
    if kind == "pairwise":
        return {**interference, "slowdown": _pairs_of(interference.get("slowdown", {}), names)}
    if kind == "groups":
        kept = {
            vm_type: [entry for entry in entries if set(entry["models"]) <= names]
            for vm_type, entries in interference.get("slowdown", {}).items()
        }
        pairs = interference.get("pairwise")
        more = (
            {} if pairs is None else {"pairwise": _restricted({**pairs, "kind": "pairwise"}, names)}
        )
        return {**interference, "slowdown": kept, **more}
    return interference


def _pairs_of(table: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {
        vm_type: {
            target: {other: value for other, value in row.items() if other in names}
            for target, row in rows.items()
            if target in names
        }
        for vm_type, rows in table.items()
    }


def _solve_part(part: Part) -> tuple[str, dict[str, Any] | None]:
    """Solve a part, here or on another machine; return what failed, and the placement's data."""
    from placer.errors import PlacerError

    try:
        file = None if part.file is None else Path(part.file)
        piece = Instance.from_dict(part.instance, file=file)
        result = solve(piece, explain=False, **part.options)
    except PlacerError as error:
        return str(error), None
    if result.score is None:
        return "", None
    return "", result.placement.to_dict()


def join_parts(placements: Sequence[Placement]) -> Placement:
    """Return the VMs of all `placements` as one placement, without any claim about it."""
    numbers: Counter[str] = Counter()
    vms = []
    for placement in placements:
        for vm in placement.vms:
            name = f"{vm.vm_type}-{numbers[vm.vm_type]}"
            numbers[vm.vm_type] += 1
            models = [PlacedModel(name=model.name) for model in vm.models]
            vms.append(PlacedVm(name=name, vm_type=vm.vm_type, models=models))
    return Placement(status=Status.FEASIBLE, vms=vms)
