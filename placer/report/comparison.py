"""The same batch under placement that sees no interference, for comparison."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from placer.checker import CheckReport, check
from placer.placement import PlacedModel, PlacedVm, Placement, UnplacedModel
from placer.problem import Instance
from placer.report.facts import Facts, facts_of, shared_vms
from placer.report.text import plural
from placer.solvers.baselines import blind_assignment
from placer.solvers.batch import Batch, compile_batch
from placer.solvers.run import Assignment, replicas_placed

POLICIES = {"least-loaded": "least-loaded", "first-fit-decreasing": "first-fit"}
"""The policies that a placement is compared with, and what they are called in the table."""


@dataclass(frozen=True)
class Compared:
    """One policy's placement: its figures, the objective, and why it is not allowed ("": it is).

    facts and objective are None where a group has no slowdown, so that nothing can be said.
    """

    policy: str
    vms: int
    facts: Facts | None
    objective: float | None
    breaks: str


def compare(instance: Instance, seed: int = 0) -> list[Compared]:
    """Return what each of POLICIES makes of `instance`, scored and checked like any placement."""
    batch = compile_batch(instance)
    return [_compared(batch, policy, blind_assignment(batch, policy, seed)) for policy in POLICIES]


def _compared(batch: Batch, policy: str, assignment: Assignment) -> Compared:
    instance = batch.instance
    report = check(instance, placement_of(batch, assignment))
    vms = sum(assignment.values())
    if report.score is None:
        return Compared(POLICIES[policy], vms, None, None, breaches(report))
    facts = facts_of(instance, shared_vms(report.score.vms))
    return Compared(POLICIES[policy], vms, facts, report.score.objective, breaches(report))


def placement_of(batch: Batch, assignment: Assignment) -> Placement:
    """Return `assignment` as a placement without figures."""
    instance = batch.instance
    placed = [PlacedModel(name=model.name) for model in instance.models]
    vms: list[PlacedVm] = []
    for (t, group), count in sorted(assignment.items()):
        models, vm_type = [placed[k] for k in group], instance.vm_types[t].name
        for _ in range(count):
            name = f"{vm_type}-{len(vms)}"
            vms.append(PlacedVm.model_construct(name=name, vm_type=vm_type, models=models))
    missing = batch.replicas - replicas_placed(batch, assignment)
    left = [
        UnplacedModel(name=model.name)
        for model, count in zip(instance.models, missing, strict=True)
        for _ in range(int(count))
    ]
    return Placement.model_construct(instance=instance.name, vms=vms, unplaced=left)


def breaches(report: CheckReport) -> str:
    """Return what a placement breaks in a few words, "" where it is allowed."""
    counts = Counter(violation.code for violation in report.violations)
    said: list[str] = []
    if counts["slo"]:
        said.append(f"breaks {plural(counts['slo'], 'SLO')}")
    if counts["group-not-listed"]:
        said.append("forms a group that is not listed")
    if counts["not-placed"]:
        left = sum(
            int(v.message.split(" ", 1)[0]) for v in report.violations if v.code == "not-placed"
        )
        said.append(f"leaves {left} unplaced")
    other = counts.keys() - {"slo", "group-not-listed", "not-placed"}
    said += [f"breaks {code.replace('-', '_')}" for code in sorted(other)]
    return ", ".join(said)
