"""Causes of infeasibility: which can be taken away, and whether none is left to find out."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from placer.errors import PlacerError
from placer.problem import Instance, PairwiseInterference
from placer.solvers.batch import compile_batch
from placer.solvers.group_costs import GroupCosts
from placer.solvers.relaxation import aggregate_proves_infeasible
from placer.solvers.run import Assignment, Options, Run

TRIAL_SECONDS = 3.0
"""The most that one proof may take, so that a hard one does not use up the whole budget."""


@dataclass(frozen=True)
class Cause:
    """One thing that can be taken away: `what` it is and its `index` in the instance's list.

    what: `model` (all replicas of it), `count` and `max_models` (of a VM type), `slo` (of a
    model), `apart` and `together` (a rule), `max_vms`, `max_price`, `groups` (those not listed).
    """

    what: str
    index: int = 0


def causes_of(instance: Instance) -> list[list[Cause]]:
    """Return everything that may play a part, in the order in which to try going without it."""
    rules, types, models = instance.rules, instance.vm_types, instance.models
    forbid = instance.interference.kind == "groups" and instance.interference.missing == "forbid"
    bans_slo = instance.objective.slo_penalty is None
    return [
        [Cause("model", k) for k, model in enumerate(models) if model.replicas],
        [Cause("slo", k) for k, m in enumerate(models) if bans_slo and m.slo_ms and m.replicas],
        [Cause("together", r) for r, names in enumerate(rules.together) if names],
        [Cause("apart", r) for r, names in enumerate(rules.apart) if names],
        [Cause("groups")] if forbid else [],
        [Cause("max_models", t) for t, v in enumerate(types) if v.max_models is not None],
        [Cause("max_price")] if rules.max_price is not None else [],
        [Cause("max_vms")] if rules.max_vms is not None else [],
        [Cause("count", t) for t, v in enumerate(types) if v.count is not None],
    ]


def without(instance: Instance, dropped: Collection[Cause]) -> Instance:
    """Return `instance` with these causes taken away; models keep their place, with 0 replicas."""
    gone = set(dropped)
    models = []
    for k, model in enumerate(instance.models):
        change: dict[str, Any] = {}
        if Cause("model", k) in gone:
            change["replicas"] = 0
        if Cause("slo", k) in gone:
            change["slo_ms"] = None
        models.append(model.model_copy(update=change) if change else model)
    types = []
    for t, vm_type in enumerate(instance.vm_types):
        change = {f: None for f in ("count", "max_models") if Cause(f, t) in gone}
        types.append(vm_type.model_copy(update=change) if change else vm_type)
    update: dict[str, Any] = {"models": models, "vm_types": types, "rules": _rules(instance, gone)}
    if Cause("groups") in gone:
        fallback = {"missing": "pairwise", "pairwise": PairwiseInterference(default=1.0)}
        update["interference"] = instance.interference.model_copy(update=fallback)
    return instance.model_copy(update=update)


def _rules(instance: Instance, gone: set[Cause]) -> Any:
    rules = instance.rules
    absent = {m.name for k, m in enumerate(instance.models) if Cause("model", k) in gone}
    change: dict[str, Any] = {f: None for f in ("max_vms", "max_price") if Cause(f) in gone}
    change["apart"] = [n for r, n in enumerate(rules.apart) if Cause("apart", r) not in gone]
    change["together"] = [
        [name for name in names if name not in absent]
        for r, names in enumerate(rules.together)
        if Cause("together", r) not in gone
    ]
    return rules.model_copy(update=change)


@dataclass(frozen=True)
class Outcome:
    """What a trial came to: proved infeasible, a placement, or neither."""

    infeasible: bool = False
    placement: Assignment | None = None


class _Trial(Run):
    """A run within another: it ends with the first placement, and when the outer one is to stop."""

    outer: Run

    def time_left(self) -> float:
        return 0.0 if self.outer.interrupted or self.best is not None else super().time_left()


class Prover:
    """Tries changed instances with the exact solver until its seconds are used up."""

    def __init__(self, run: Run, seconds: float) -> None:
        self._run = run
        self._deadline = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds left, 0 once the user has asked to stop."""
        return 0.0 if self._run.interrupted else max(0.0, self._deadline - time.monotonic())

    def attempt(self, instance: Instance) -> Outcome:
        """Return what the aggregate relaxation and the exact solver find out in a few seconds."""
        from placer.solvers.registry import get_solver

        trial = self._trial(instance)
        if trial is None:
            return Outcome()
        if aggregate_proves_infeasible(trial):
            return Outcome(infeasible=True)
        try:
            get_solver("groups").solve(trial)
        except PlacerError:
            return Outcome()  # nothing is claimed on a solver's failure
        return Outcome(trial.proved_infeasible, trial.best)

    def still_infeasible(self, instance: Instance) -> bool:
        """Return whether `instance` is proved infeasible in the time there is."""
        return self.attempt(instance).infeasible

    def short_in_sum(self, instance: Instance) -> bool:
        """Return whether summed demands, prices and numbers alone prove `instance` infeasible.

        Much weaker than `still_infeasible`, and quick whatever the size of the batch.
        """
        trial = self._trial(instance)
        return trial is not None and aggregate_proves_infeasible(trial)

    def _trial(self, instance: Instance) -> _Trial | None:
        seconds = min(TRIAL_SECONDS, self.left())
        if seconds <= 0.01:
            return None
        batch, options = compile_batch(instance), self._run.options
        limits = Options(time_limit=seconds, workers=options.workers, seed=options.seed)
        trial = _Trial(batch, GroupCosts(batch), limits)
        trial.outer = self._run
        return trial


def smallest_set(
    phases: list[list[Cause]],
    infeasible_without: Callable[[list[Cause]], bool],
    out_of_time: Callable[[], bool],
) -> tuple[list[Cause], bool]:
    """Return causes that clash, none of which can be spared, and whether that is certain.

    A deletion filter: what is not needed for the proof goes, halves of each phase first.
    """
    dropped: list[Cause] = []
    needed: list[Cause] = []
    complete = True
    for phase in phases:
        kept = list(phase)
        size = len(kept)
        while size >= 1 and complete:
            begin = 0
            while begin < len(kept):
                chunk = kept[begin : begin + size]
                if infeasible_without([*dropped, *chunk]):
                    dropped += chunk
                    del kept[begin : begin + size]
                else:
                    begin += size
                if out_of_time():
                    complete = False
                    break
            size = min(size // 2, len(kept)) if size > 1 else 0
        needed += kept
    return needed, complete
