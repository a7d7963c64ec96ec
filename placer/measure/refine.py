"""Closes the loop: solve, measure the groups that the placement uses, learn, and solve again."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from placer.interference.binding import load_predictor
from placer.interference.measured import Key, kept_rate, measured_slowdowns
from placer.measure.dataset import Group
from placer.measure.guard import NotQuietError
from placer.measure.judging import (
    asking_a_predictor,
    degradation,
    groups_of,
    measured_score,
    restated,
)
from placer.measure.laboratory import Laboratory
from placer.placement import Placement
from placer.problem import Instance
from placer.scoring import Score
from placer.solving import solve

if TYPE_CHECKING:
    from placer.interference.measurements import Measurements
    from placer.interference.predictor import Predictor, Settings

FORMAT, VERSION = "placer/refinement", 1
LEAST_RUNS = 8  # shared runs from which a predictor is trained
SMALL = 0.01  # degradation per replica below which a difference is noise

AGREED, ROUNDS, BUDGET, INTERRUPTED = "agreed", "rounds", "budget", "interrupt"
NOT_QUIET, UNMEASURABLE, STALLED = "not-quiet", "unmeasurable", "stalled"
REASONS = {
    AGREED: "prediction and measurement agree",
    ROUNDS: "all rounds are done",
    BUDGET: "the time is over",
    INTERRUPTED: "interrupted",
    NOT_QUIET: "the host was not quiet",
    UNMEASURABLE: "a group of the placement could not be measured",
    STALLED: "the placement and its measurements stay the same",
    "infeasible": "the instance is infeasible by what is predicted now",
    "unknown": "no placement was found in the time given",
}


@dataclass(frozen=True)
class Round:
    """One solve and what became of it; None is what could not be measured.

    `groups` counts the different groups of two or more that the placement uses, `measured_now`
    those measured in this round, `unmeasured` those still without a run. Degradations are summed
    weight x (slowdown - 1), `apart` their difference as a share of the measured one.
    """

    number: int
    placement: Placement = field(repr=False)
    predicted: float
    measured: float | None
    predicted_degradation: float
    measured_degradation: float | None
    slos_missed: int | None
    apart: float | None
    groups: int
    measured_now: int
    unmeasured: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, the placement left out."""
        return {
            "round": self.number,
            "objective": {"predicted": self.predicted, "measured": self.measured},
            "degradation": {
                "predicted": self.predicted_degradation,
                "measured": self.measured_degradation,
            },
            "apart": self.apart,
            "slos_missed_measured": self.slos_missed,
            "groups": self.groups,
            "groups_measured_now": self.measured_now,
            "groups_unmeasured": self.unmeasured,
            "seconds": round(self.seconds, 1),
        }


@dataclass(frozen=True)
class Refined:
    """What the rounds came to.

    `placement` is the best one by its measured objective `measured` (the last one where none was
    measured), restated with `predictor`, which has learned all that was measured.
    """

    instance: str
    rounds: tuple[Round, ...]
    best: int | None
    placement: Placement | None
    measured: float | None
    predictor: Predictor | None = field(repr=False)
    stopped_by: str
    explanation: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the refinement's JSON object."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "instance": self.instance,
            "stopped_by": self.stopped_by,
            "reason": REASONS[self.stopped_by],
            "rounds": [one.to_dict() for one in self.rounds],
            "best_round": self.best,
            "measured_objective": self.measured,
            "placement": None if self.placement is None else self.placement.to_dict(),
        }


def refine(instance: Instance, laboratory: Laboratory, **options: Any) -> Refined:
    """Solve, measure what the placement uses and learn from it, until both agree.

    Each round places by the measured slowdowns of groups that were measured by then, and by the
    predictor's of the others.

    Options: `rounds` at most, `tolerance` as a share of measured degradation, `time_limit` of a
    solve in seconds, `deadline` on `time.monotonic`, `seed`, `settings` of the training,
    `on_round` called with each `Round`. Raises InputError where there is nothing to begin from.
    """
    return Refinement(instance, laboratory, **options).run()


class Refinement:
    """The state of `refine` from round to round."""

    def __init__(
        self,
        instance: Instance,
        laboratory: Laboratory,
        *,
        rounds: int = 5,
        tolerance: float = 0.05,
        time_limit: float | None = None,
        deadline: float | None = None,
        seed: int = 0,
        settings: Settings | None = None,
        on_round: Callable[[Round], None] | None = None,
    ) -> None:
        self._instance = asking_a_predictor(instance)
        self._lab = laboratory
        self._most, self._tolerance = rounds, tolerance
        self._time_limit, self._deadline = time_limit, deadline
        self._seed, self._settings, self._on_round = seed, settings, on_round
        self._rounds: list[Round] = []
        self._predictor: Predictor | None = None
        self._trained_on = -1  # rows of measurements
        self._measured: Measurements | None = None
        self._slowdowns: Mapping[Key, Mapping[str, float]] = {}
        self._explanation: list[str] = []

    def run(self) -> Refined:
        """Go round until a reason to stop is found, and return the best placement."""
        stopped_by = self._go(self._begin) or ROUNDS
        for number in range(1, self._most + 1) if stopped_by == ROUNDS else ():
            reason = self._go(partial(self._round, number))
            if reason:
                stopped_by = reason
                break
        return self._result(stopped_by)

    def _go(self, work: Callable[[], str]) -> str:
        """Do a part of the work; return why to stop, "" to go on."""
        try:
            return work()
        except KeyboardInterrupt:
            return INTERRUPTED
        except NotQuietError as error:
            self._explanation.append(str(error).split(";")[0])
            return NOT_QUIET

    def _begin(self) -> str:
        """Measure the models alone where they were not, and take the first predictor."""
        solos = [
            Group(vm_type.name, (model.name,), (kept_rate(model.rate_rps),))
            for vm_type in self._instance.vm_types
            for model in self._instance.models
            if model.replicas and model.may_run_on(vm_type.name)
        ]
        self._lab.measure(self._lab.lacking(solos))
        self._learn()
        return BUDGET if self._out_of_time() else ""

    def _learn(self) -> None:
        """Train on all that was measured, where that is enough and new."""
        from placer.interference.predictor import Predictor

        measurements = self._lab.measurements()
        shared = 0
        if measurements is not None:
            self._measured = measurements
            self._slowdowns = measured_slowdowns(measurements)
            shared = measurements.rows.loc[measurements.rows["degree"] > 1, "run"].nunique()
        if measurements is not None and shared >= LEAST_RUNS:
            if self._trained_on != len(measurements.rows):
                self._predictor = Predictor.train(
                    measurements, seed=self._seed, settings=self._settings
                )
                self._trained_on = len(measurements.rows)
        elif self._predictor is None:
            self._predictor = load_predictor(self._instance)
            if measurements is not None:
                self._predictor = self._predictor.knowing(measurements)

    def _round(self, number: int) -> str:
        began = time.monotonic()
        assert self._predictor is not None
        instance = self._instance.with_predictor(self._predictor, self._measured)
        result = solve(
            instance, time_limit=self._seconds_for_a_solve(), seed=self._seed,
            start=self._rounds[-1].placement if self._rounds else None,
        )  # fmt: skip
        if result.score is None:
            self._explanation += result.explanation
            return result.status.value
        placement, assignment = result.placement, result.placement.assignment()
        used = {g.key: g for g in groups_of(instance, assignment) if len(g.models) > 1}
        wanted = self._lab.lacking(list(used.values()))
        interrupted = placement.solver is not None and placement.solver.stopped_by == "interrupt"
        stop = INTERRUPTED if interrupted else self._go(partial(self._measure, wanted))
        self._learn()
        self._rounds.append(
            self._judge(number, placement, result.score, list(used.values()), wanted, began)
        )
        if self._on_round is not None:
            self._on_round(self._rounds[-1])
        return stop or self._reason(self._rounds[-1])

    def _measure(self, groups: Sequence[Group]) -> str:
        self._lab.measure(groups)
        return ""

    def _judge(
        self,
        number: int,
        placement: Placement,
        predicted: Score,
        used: Sequence[Group],
        wanted: Sequence[Group],
        began: float,
    ) -> Round:
        """Return a round's figures, with what is measured by now."""
        measured = measured_score(self._instance, placement.assignment(), self._slowdowns)
        expected = degradation(self._instance, predicted)
        unmeasured = sum(group.key not in self._slowdowns for group in used)
        found = missed = apart = None
        if measured is not None:
            found = degradation(self._instance, measured)
            missed = sum(one.over_slo for vm in measured.vms if vm for one in vm.replicas)
            weight = math.fsum(m.weight * m.replicas for m in self._instance.models)
            apart = abs(found - expected) / max(found, SMALL * weight, 1e-9)
        return Round(
            number=number,
            placement=placement,
            predicted=predicted.objective,
            measured=None if measured is None else measured.objective,
            predicted_degradation=expected,
            measured_degradation=found,
            slos_missed=missed,
            apart=apart,
            groups=len(used),
            measured_now=sum(group.key in self._slowdowns for group in wanted),
            unmeasured=unmeasured,
            seconds=time.monotonic() - began,
        )

    def _reason(self, last: Round) -> str:
        """Return why no further round makes sense, "" where one does."""
        if last.apart is not None and last.apart <= self._tolerance:
            return AGREED
        if self._out_of_time():
            return BUDGET
        if last.unmeasured:
            return UNMEASURABLE
        if last.number > 1 and not last.measured_now:
            before = self._rounds[-2].placement.assignment()
            if sorted(before) == sorted(last.placement.assignment()):
                return STALLED
        return ""

    def _out_of_time(self) -> bool:
        return self._deadline is not None and time.monotonic() > self._deadline

    def _seconds_for_a_solve(self) -> float | None:
        if self._deadline is None:
            return self._time_limit
        left = max(self._deadline - time.monotonic(), 1.0)
        return left if self._time_limit is None else min(left, self._time_limit)

    def _result(self, stopped_by: str) -> Refined:
        """Return the best placement by what is measured now, restated with the last predictor."""
        forbidden = self._instance.objective.slo_penalty is None
        scored: list[tuple[int, float, int, Score]] = []
        for place, one in enumerate(self._rounds):
            found = measured_score(self._instance, one.placement.assignment(), self._slowdowns)
            if found is not None:
                missed = sum(r.over_slo for vm in found.vms if vm for r in vm.replicas)
                scored.append((missed if forbidden else 0, found.objective, place, found))
        place, measured = len(self._rounds) - 1, None
        if scored:
            _, _, place, measured = min(scored, key=lambda entry: entry[:3])
        placement = None
        if self._rounds and self._predictor is not None:
            named = getattr(self._instance.interference, "measured", None)
            instance = self._instance.with_predictor(
                self._predictor, None if named is None else self._measured
            )
            placement = restated(instance, self._rounds[place].placement, measured)
        return Refined(
            instance=self._instance.name,
            rounds=tuple(self._rounds),
            best=self._rounds[place].number if self._rounds else None,
            placement=placement,
            measured=None if measured is None else measured.objective,
            predictor=self._predictor,
            stopped_by=stopped_by,
            explanation=tuple(self._explanation),
        )
