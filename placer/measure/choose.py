"""Chooses what to measure next: what predictors disagree about, and what placements would use.

`choose` is pure: from what is known and the groups that could be measured it returns those that
should be. `learn` is the campaign around it.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from placer.errors import InputError, PlacerError
from placer.interference.measured import Key
from placer.interference.measurements import Measurements, read_measurements
from placer.measure import design, judging
from placer.measure.campaign import Campaign, shuffled
from placer.measure.committee import Bootstrapped, Committee, groups_of
from placer.measure.dataset import Group
from placer.measure.doubt import disagreement, doubt_of, take
from placer.measure.replica import SLOTS
from placer.measure.shapes import Shape

if TYPE_CHECKING:
    from placer.interference.predictor import Predictor
    from placer.measure.plan import Plan
    from placer.problem import Instance

FEW_RUNS = 30  # shared runs below which predictors have too little to disagree about
RANDOM_SHARE = 0.2, 0.5  # of what is chosen: at first, and once MANY_RUNS are known
MANY_RUNS = 300  # shared runs after which a training set that is like the rest matters as much
PLACEMENT_SHARE = 0.5  # of what is chosen, at most, where an instance is given
MOST_JUDGED = 400  # candidates that are weighed against each other at once
CANDIDATES = 600
SPREAD_DEGREE = 3  # the largest degree of the first runs
THINKING_SHARE = 0.12  # of the time, for training, solving and choosing
LEAST_BATCH, LARGEST_BATCH = 12, 120
SOLVES, SOLVE_SECONDS = 3, 3.0
RUN_OVERHEAD = 0.6  # seconds of a run beside its window: loading, warming up, sentinels
DOUBT, PLACEMENT, SPREAD, RANDOM = "doubt", "placement", "spread", "random"


@dataclass(frozen=True)
class Choice:
    """A group to measure and why: `doubt`, `placement`, `spread` or `random`.

    `disagreement` is the spread of the committee's slowdowns of its members, a share of them;
    0 where there is no committee.
    """

    group: Group
    reason: str
    disagreement: float = 0.0


def choose(
    known: Measurements,
    candidates: Iterable[Group],
    count: int,
    *,
    committee: Committee | None = None,
    wanted: Iterable[Group] = (),
    seconds: Mapping[Key, float] | None = None,
    seed: int = 0,
) -> list[Choice]:
    """Choose `count` of the candidates to measure, none that is known and none twice.

    At most half are from `wanted`, groups that placements would use, best first. A fifth of the
    rest (later half of it) is random, the others are those that lower a committee's doubt most for
    each of their `seconds` (by `Group.key`; the same for all if not given). With few runs known
    there is no committee, and the choice spreads over VM types, models and pairs. The committee is
    trained here if not given. Deterministic for a seed.
    """
    measured = list(groups_of(known).values())
    seen = {group.key for group in measured}
    chosen = [
        Choice(group, PLACEMENT)
        for group in islice(unseen(wanted, seen), int(np.ceil(PLACEMENT_SHARE * count)))
    ]
    pool = shuffled(list(unseen(candidates, seen)), seed)
    if committee is None and len(measured) >= FEW_RUNS:
        committee = Bootstrapped.train(known, seed)
    left = count - len(chosen)
    lot = round(random_share(len(measured)) * left) if committee is not None else 0
    chosen += [Choice(group, RANDOM) for group in pool[:lot]]
    judged = pool[lot : lot + max(MOST_JUDGED, left)]
    if judged and left > lot:
        predicted = None if committee is None else committee.slowdowns(judged)
        reason = SPREAD if predicted is None else DOUBT
        apart = disagreement(judged, predicted)
        known_groups = [*measured, *(choice.group for choice in chosen)]
        cost = np.array([1.0 if seconds is None else seconds[group.key] for group in judged])
        best = take(doubt_of(judged, known_groups, predicted), judged, cost, left - lot)
        chosen += [Choice(judged[at], reason, float(apart[at])) for at in best]
    return chosen


def random_share(runs: int) -> float:
    """Return which share of a choice is random when so many shared runs are known."""
    first, last = RANDOM_SHARE
    return first + (last - first) * min(runs / MANY_RUNS, 1.0)


def unseen(groups: Iterable[Group], seen: set[Key]) -> Iterator[Group]:
    """Yield the groups whose key is not in `seen`, and add it."""
    for group in groups:
        if group.key not in seen:
            seen.add(group.key)
            yield group


def learn(plan: Plan, campaign: Campaign, shapes: Sequence[Shape]) -> None:
    """Measure what teaches most until the campaign's deadline, or `plan.runs` where it has none.

    The solo runs must be there. Raises what `Campaign.measure` raises, and InputError where the
    plan's instance has nothing in common with the campaign.
    """
    learner = Learner(plan, campaign, shapes)
    while not learner.done():
        batch = learner.next_batch()
        if not batch:
            say(campaign, "every group within the plan was tried")
            return
        learner.measure(batch)


class Learner:
    """Chooses batches of groups for a campaign and measures them; nothing is timed meanwhile."""

    def __init__(self, plan: Plan, campaign: Campaign, shapes: Sequence[Shape]) -> None:
        self.plan = plan
        self.campaign = campaign
        self.shapes = shapes
        self.instance = None if plan.instance is None else read_common(plan.instance, campaign)
        self._tried: set[Key] = set()
        self._batches = 0
        self._thought = 0.0  # seconds that the last choice took
        self._per_run = plan.seconds + RUN_OVERHEAD  # seconds, thrown runs and pauses included

    def done(self) -> bool:
        """Say whether the time is over, or the runs asked for are there."""
        if self.campaign.deadline is not None:
            return self.campaign.out_of_time()
        return self.shared_runs() >= self.plan.runs

    def shared_runs(self) -> int:
        """Return how many runs of two or more replicas were kept."""
        return sum(row["kept"] == "yes" and row["degree"] != "1" for row in self.campaign.data.runs)

    def next_batch(self) -> list[Choice]:
        """Choose what to measure next; nothing where all was tried."""
        began = time.monotonic()
        known = read_measurements(self.campaign.data.folder)
        seed = self.plan.seed + self.shared_runs()
        committee = wanted = None
        if self.shared_runs() >= FEW_RUNS:
            committee = Bootstrapped.train(known, seed)
            wanted = self.placement_groups(committee.predictors, seed)
        candidates = [group for group in self.candidates(seed) if self.open(group)]
        seconds = {group.key: self.seconds(group) for group in candidates}
        batch = choose(known, candidates, self.batch_size(), committee=committee,
                       wanted=wanted or (), seconds=seconds, seed=seed)  # fmt: skip
        self._thought = time.monotonic() - began
        self._batches += 1
        if batch:
            say(self.campaign, describe(batch))
        return batch

    def measure(self, batch: Sequence[Choice]) -> None:
        """Measure a batch after the solo runs that its slowdowns refer to."""
        began, runs = time.monotonic(), len(self.campaign.data.runs)
        groups = shuffled([choice.group for choice in batch], self.plan.seed + self._batches)
        repeats = min(self.plan.repeats, self._batches)  # references become surer as time goes on
        self.campaign.measure(shuffled(design.solos_needed(groups), self.plan.seed), repeats)
        self.campaign.measure([group for group in groups if not self.lacking(group)])
        self._tried |= {group.key for group in groups}
        measured = len(self.campaign.data.runs) - runs
        if measured:
            self._per_run = (time.monotonic() - began) / measured

    def lacking(self, group: Group) -> list[Group]:
        """Return the solo runs that a group's slowdowns need and that are not there."""
        done = self.campaign.data.done
        return [solo for solo in design.solos_needed([group]) if not done[solo.key]]

    def open(self, group: Group) -> bool:
        """Say whether a group may still be measured."""
        data = self.campaign.data
        return not (group.key in self._tried or data.done[group.key] or data.saturated(group))

    def candidates(self, seed: int) -> list[Group]:
        """Return groups that could be measured, drawn evenly over the degrees."""
        from placer.measure.plan import open_rates, reference_latency

        names = list(self.campaign.models)
        latency = reference_latency(self.plan, self.shapes, names, self.campaign.data)
        few = self.shared_runs() < FEW_RUNS
        largest = min(self.plan.degree, SPREAD_DEGREE) if few else self.plan.degree
        groups = design.random_groups(
            self.shapes, names, dict.fromkeys(range(2, largest + 1), 1.0),
            open_rates(self.plan, latency), latency, seed, self.plan.label,
        )  # fmt: skip
        return list(islice(groups, CANDIDATES))

    def seconds(self, group: Group) -> float:
        """Return about how long measuring a group takes, with the solo runs it still needs."""
        window = self.campaign.window
        solo = self.campaign.data.solo_latencies()
        vcpu = self.campaign.shapes[group.vm_type].vcpu
        crowd = max(len(group.models) / vcpu, 1.0)
        slowest = max(
            crowd * solo.get((model, group.vm_type), 0.0) if rate is None else 1000.0 / rate
            for model, rate in zip(group.models, group.rates, strict=True)
        )
        run = min(max(window.requests * slowest / 1000.0, window.seconds), window.longest)
        return run + RUN_OVERHEAD + len(self.lacking(group)) * (window.seconds + RUN_OVERHEAD)

    def batch_size(self) -> int:
        """Return how many groups to measure before choosing again costs little beside them."""
        shared = self.shared_runs()
        if shared < FEW_RUNS:
            return FEW_RUNS - shared
        paying = self._thought * (1.0 / THINKING_SHARE - 1.0) / self._per_run
        size = min(max(math.ceil(paying), LEAST_BATCH), LARGEST_BATCH)
        if self.campaign.deadline is not None:
            left = self.campaign.deadline - time.monotonic()
            size = min(size, max(math.ceil(left / self._per_run), 1))
        return size

    def placement_groups(self, predictors: Sequence[Predictor], seed: int) -> list[Group]:
        """Return the open groups of the instance's placements, the current predictor's first.

        The others are those of predictors that saw less, each time different ones: what one of
        them believes to be good is worth a look.
        """
        if self.instance is None:
            return []
        turn = 1 + self._batches * (SOLVES - 1) % max(len(predictors) - 1, 1)
        found: list[Group] = []
        for predictor in [predictors[0], *predictors[turn : turn + SOLVES - 1]]:
            try:
                groups = groups_used(self.instance, predictor, self.campaign, seed)
            except PlacerError as error:
                say(self.campaign, f"the instance cannot be solved yet: {error}")
                break
            found += [group for group in groups if self.open(group)]
        return found


def say(campaign: Campaign, text: str) -> None:
    """Tell the campaign's listener."""
    campaign._say(None, None, text)


def describe(batch: Sequence[Choice]) -> str:
    """Return in words what was chosen and why."""
    count = Counter(choice.reason for choice in batch)
    apart = [choice.disagreement for choice in batch if choice.reason == DOUBT]
    words = {
        PLACEMENT: "that placements of the instance use",
        DOUBT: f"where predictors disagree (by {100 * float(np.mean(apart or [0])):.1f} %)",
        SPREAD: "spread over VM types, models and pairs",
        RANDOM: "at random",
    }
    parts = [f"{count[reason]} {text}" for reason, text in words.items() if count[reason]]
    return f"{len(batch)} groups chosen: {', '.join(parts)}"


def read_common(file: str, campaign: Campaign) -> Instance:
    """Read an instance. Raises InputError where no group of it could be measured here."""
    from placer.files import read_instance

    instance = read_instance(file)
    for path, found, here in (
        ("vm_types", [vm.name for vm in instance.vm_types], list(campaign.shapes)),
        ("models", [model.name for model in instance.models], list(campaign.models)),
    ):
        if not set(found) & set(here):
            raise InputError(
                f"found {', '.join(found)}; expected at least one that is measured here: "
                f"{', '.join(here)}",
                path=path,
                source=file,
            )
    return instance


def groups_used(
    instance: Instance, predictor: Predictor, campaign: Campaign, seed: int
) -> list[Group]:
    """Return the groups of two or more in the predictor's placement, the most frequent first.

    Only those of models and VM types that the campaign has. Raises InputError where the predictor
    cannot tell the slowdowns of the instance's models.
    """
    from placer.problem import PredictorInterference
    from placer.solving import solve

    asking = instance.model_copy(update={"interference": PredictorInterference()})
    result = solve(
        asking.with_predictor(predictor), time_limit=SOLVE_SECONDS, seed=seed, explain=False
    )
    record = result.placement.solver
    if record is not None and record.stopped_by == "interrupt":
        raise KeyboardInterrupt
    used: Counter[Group] = Counter()
    for group in judging.groups_of(instance, result.placement.assignment()):
        known = group.vm_type in campaign.shapes and set(group.models) <= set(campaign.models)
        if known and 2 <= len(group.models) <= SLOTS and all(rate != 0.0 for rate in group.rates):
            used[group] += 1
    return [group for group, _ in used.most_common()]
