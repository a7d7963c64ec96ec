"""The same batch under placement that sees no interference, for comparison."""

from __future__ import annotations

from dataclasses import dataclass

from placer.problem import Instance
from placer.repeated import Repeated
from placer.report.facts import Facts, facts_of, shared_vms
from placer.report.text import plural
from placer.scoring import score
from placer.solvers.baselines import blind_assignment
from placer.solvers.batch import Batch, compile_batch
from placer.solvers.run import Assignment, replicas_placed, together_holds

POLICIES = {"least-loaded": "least-loaded", "first-fit-decreasing": "first-fit"}
"""The policies that a placement is compared with, and what they are called in the table."""


@dataclass(frozen=True)
class Compared:
    """One policy's placement: its figures, the objective, and what it breaks ("": it is allowed).

    facts and objective are None where a group has no slowdown, so that nothing can be said.
    """

    policy: str
    vms: int
    facts: Facts | None
    objective: float | None
    breaks: str


def compare(instance: Instance, seed: int = 0) -> list[Compared]:
    """Return what each of POLICIES makes of `instance`, scored like any placement."""
    batch = compile_batch(instance)
    return [_compared(batch, policy, blind_assignment(batch, policy, seed)) for policy in POLICIES]


def _compared(batch: Batch, policy: str, assignment: Assignment) -> Compared:
    instance = batch.instance
    contents = [
        (instance.vm_types[t].name, [instance.models[k].name for k in group])
        for t, group in assignment
    ]
    scored = score(instance, Repeated(contents, assignment.values()))
    vms = len(scored.vms)
    listed = all(vm is not None for vm, _ in scored.vms.runs())
    facts = facts_of(instance, shared_vms(scored.vms))
    breaks = _breaches(batch, assignment, facts, listed)
    if not listed:
        return Compared(POLICIES[policy], vms, None, None, breaks)
    return Compared(POLICIES[policy], vms, facts, scored.objective, breaks)


def _breaches(batch: Batch, assignment: Assignment, facts: Facts, listed: bool) -> str:
    """Return which rules are broken, of those that placement without a predictor cannot keep."""
    objective = batch.instance.objective
    missing = batch.replicas - replicas_placed(batch, assignment)
    said: list[str] = []
    if not listed:
        said.append("forms a group that is not listed")
    elif facts.misses and objective.slo_penalty is None:
        said.append(f"breaks {plural(facts.misses, 'SLO')}")
    if missing.any() and objective.unplaced_penalty is None:
        said.append(f"leaves {int(missing.sum())} unplaced")
    if not together_holds(batch, list(assignment), missing):
        said.append("breaks a together rule")
    return ", ".join(said)
