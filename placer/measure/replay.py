"""Runs the VMs of a placement for real on this host, one after another, and times them."""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from placer.interference.measured import Key
from placer.measure.campaign import Campaign, State, shuffled
from placer.measure.dataset import DataSet, Group
from placer.measure.design import solos_needed
from placer.measure.guard import Limits, NotQuietError
from placer.measure.jobs import Job, jobs_of, predicted_over_slo, predictions, shapes_of
from placer.measure.judging import measured_score
from placer.measure.onnx_models import OnnxModel
from placer.measure.replayed import (
    COMPLETE,
    INTERRUPTED,
    NOT_QUIET,
    Replay,
    ReplayedModel,
    ReplayedVm,
)
from placer.measure.runner import Timed, Timing, Window
from placer.measure.shapes import Shape
from placer.placement import PlacedModel, Placement
from placer.problem import Instance
from placer.scoring import Score

SOLO_RUNS = 3  # of each model alone, so that one odd run makes no slowdown
DEFAULT_WINDOW = Window(seconds=2.0, requests=20, longest=8.0)
CLOSED_NOTE = (
    "no instance was given, so no request rates are known: every replica was asked back to back "
    "(closed loop)"
)


def replay(placement: Placement, models: Mapping[str, OnnxModel], **options: Any) -> Replay:
    """Run every VM of `placement` on this host; options and errors as for `replay_all`."""
    return replay_all({placement.instance: placement}, models, **options)[placement.instance]


def replay_all(
    placements: Mapping[str, Placement],
    models: Mapping[str, OnnxModel],
    *,
    shapes: Mapping[str, Shape] | None = None,
    instance: Instance | None = None,
    repeats: int = 3,
    every: bool = False,
    window: Window = DEFAULT_WINDOW,
    limits: Limits | None = None,
    seed: int = 0,
    on_progress: Callable[[State], None] | None = None,
) -> dict[str, Replay]:
    """Run every VM of several placements in one campaign, solo references among them.

    `models` are ONNX models by name, `shapes` shapes of this host by VM type (those not given are
    read from the VM type's name), `instance` gives rates, SLOs and the objective. Each different
    VM runs `repeats` times and counts for all that are equal, unless `every` VM is to run itself.
    Ctrl-C ends it with what was replayed. Raises InputError or UsageError for what this host
    cannot run, NotQuietError where it was never quiet.
    """
    chosen = {name: shapes_of(one, shapes or {}) for name, one in placements.items()}
    every_shape = {vm_type: s for one in chosen.values() for vm_type, s in one.items()}
    jobs = {name: jobs_of(one, models, instance, every) for name, one in placements.items()}
    groups = {job.group.key: job.group for of_one in jobs.values() for job in of_one}
    times = {
        key: repeats * max(count_of(of_one, key) for of_one in jobs.values()) for key in groups
    }
    bench = Bench(models, every_shape, window, limits, seed, on_progress)
    bench.run(rounds(list(groups.values()), times, max(SOLO_RUNS, repeats), seed))
    return {
        name: bench.replay(placements[name], jobs[name], every_shape, instance)
        for name in placements
    }


def count_of(jobs: Sequence[Job], key: Key) -> int:
    """Return how many of the jobs are of one group."""
    return sum(job.group.key == key for job in jobs)


def rounds(
    groups: Sequence[Group], times: Mapping[Key, int], solo_runs: int, seed: int
) -> list[Group]:
    """Return the runs in order: round after round, solo references among the groups.

    So a slow drift of the host favours none, and what is ended early has seen most of it.
    """
    wanted = {group.key: (group, times[group.key]) for group in groups}
    for solo in solos_needed(groups):
        wanted[solo.key] = (solo, max(solo_runs, times.get(solo.key, 0)))
    found: list[Group] = []
    for number in range(max(count for _, count in wanted.values())):
        due = [group for group, count in wanted.values() if count > number]
        found += shuffled(due, seed + number)
    return found


class Bench:
    """One campaign on this host, and the timings of its runs that count."""

    def __init__(
        self,
        models: Mapping[str, OnnxModel],
        shapes: Mapping[str, Shape],
        window: Window,
        limits: Limits | None,
        seed: int,
        on_progress: Callable[[State], None] | None,
    ) -> None:
        self._models, self._shapes, self._window = models, shapes, window
        self._limits, self._seed, self._listener = limits, seed, on_progress
        self.runs: dict[Key, list[dict[str, list[Timing]]]] = defaultdict(list)
        self.stopped_by = COMPLETE
        self._facts: dict[str, Any] = {}
        self._thrown: dict[str, int] = {}
        self._notes: list[str] = []
        self._kept = 0

    def run(self, groups: Sequence[Group]) -> None:
        """Run the groups in order, what was disturbed again. Raises NotQuietError."""
        self._started, began = datetime.now(UTC), time.monotonic()
        with tempfile.TemporaryDirectory(prefix="placer-") as folder:
            data = DataSet(folder)
            used = {name for group in groups for name in group.models}
            campaign = Campaign(
                data, [self._models[name] for name in sorted(used)], self._shapes,
                window=self._window, limits=self._limits, seed=self._seed,
                on_progress=self._listener, on_run=self._take, with_memory=False,
            )  # fmt: skip
            try:
                with campaign:
                    campaign.measure(groups)
            except KeyboardInterrupt:
                self.stopped_by = INTERRUPTED
            except NotQuietError as error:
                if not self.runs:
                    raise NotQuietError(str(error).split(";")[0]) from None
                self.stopped_by = NOT_QUIET
                self._notes.append(str(error).split(";")[0])
            hosts = Path(folder) / "hosts.json"
            if hosts.exists():
                self._facts = next(iter(json.loads(hosts.read_text()).values()))
            thrown = data.thrown()
        self._seconds = time.monotonic() - began
        self._thrown = {why: count for why, count in thrown.items() if why != "saturated:"}

    def _take(self, group: Group, timed: Timed, reason: str) -> None:
        """Keep a run's timings by model, unless it was disturbed."""
        if reason and not reason.startswith("saturated"):
            return
        by_name: dict[str, list[Timing]] = defaultdict(list)
        for name, timing in zip(group.models, timed.replicas, strict=True):
            by_name[name].append(timing)
        self.runs[group.key].append(by_name)
        self._kept += 1

    def solo_ms(self, vm_type: str, model: str, rate: float | None) -> float | None:
        """Return a model's median latency alone in ms, None where no run counted."""
        runs = self.runs.get(Group(vm_type, (model,), (rate,)).key, [])
        found = [run[model][0].latency_ms_p50 for run in runs if not run[model][0].saturated]
        return median(found) if found else None

    def replay(
        self,
        placement: Placement,
        jobs: Sequence[Job],
        shapes: Mapping[str, Shape],
        instance: Instance | None,
    ) -> Replay:
        """Return what was found of one placement."""
        said = predictions(placement, instance)
        seen: Counter[Key] = Counter()
        vms = []
        for job in jobs:
            key, number = job.group.key, count_of(jobs, job.group.key)
            runs = self.runs.get(key, [])[seen[key] :: number]
            seen[key] += 1
            vms.append(self._vm(job, runs, shapes[job.group.vm_type].name, said))
        measured = None if instance is None else self._score(placement, jobs, vms, instance)
        notes = [*self._notes, CLOSED_NOTE] if instance is None else [*self._notes]
        missing = sum(len(vm.names) for vm in vms if not vm.runs)
        if missing and self.stopped_by == COMPLETE:
            notes.append(f"{missing} VMs were disturbed whenever they ran, and were left out")
        price = None
        if instance is not None:
            price = sum(instance.vm_type(vm.vm_type).price for vm in placement.vms)
        return Replay(
            instance=placement.instance,
            vms=tuple(vms),
            closed_loop=all(rate is None for job in jobs for rate in job.group.rates),
            price=price,
            objective={
                "predicted": placement.objective,
                "measured": None if measured is None else measured.objective,
            },
            measured_terms=None if measured is None else measured.terms,
            host=self._facts,
            started=self._started.isoformat(timespec="seconds"),
            seconds=self._seconds,
            runs_kept=self._kept,
            runs_thrown=self._thrown,
            stopped_by=self.stopped_by,
            notes=tuple(notes),
        )

    def _vm(
        self,
        job: Job,
        runs: Sequence[Mapping[str, Sequence[Timing]]],
        shape: str,
        said: Mapping[tuple[str, str], PlacedModel],
    ) -> ReplayedVm:
        """Return what the runs of a group say of its VMs."""
        group, vm = job.group, job.vms[0]
        rates = dict(zip(group.models, group.rates, strict=True))
        models = []
        for name, count in Counter(group.models).items():
            timings = [timing for run in runs for timing in run[name]]
            placed = said[vm.name, name]
            models.append(
                ReplayedModel(
                    name=name,
                    replicas=count,
                    rate_rps=rates[name],
                    slo_ms=placed.slo_ms,
                    predicted_slowdown=placed.slowdown,
                    predicted_over_slo=predicted_over_slo(placed),
                    solo_latency_ms=self.solo_ms(group.vm_type, name, rates[name]),
                    latency_ms_p50=median(
                        median(one.latency_ms_p50 for one in run[name]) for run in runs
                    ) if runs else None,
                    saturated=any(timing.saturated for timing in timings),
                    latencies_ms=np.concatenate([np.zeros(0), *(t.latencies_ms for t in timings)]),
                )
            )  # fmt: skip
        return ReplayedVm(
            tuple(one.name for one in job.vms), group.vm_type, shape, len(runs), tuple(models)
        )

    def _score(
        self,
        placement: Placement,
        jobs: Sequence[Job],
        vms: Sequence[ReplayedVm],
        instance: Instance,
    ) -> Score | None:
        """Return the objective by measured slowdowns, None where not all were measured."""
        slowdowns: dict[Key, dict[str, float]] = {}
        solo: dict[tuple[str, str], float] = {}
        for job, vm in zip(jobs, vms, strict=True):
            for model in vm.models:
                if model.slowdown is None or model.solo_latency_ms is None:
                    return None
                slowdowns.setdefault(job.group.key, {})[model.name] = model.slowdown
                solo[vm.vm_type, model.name] = model.solo_latency_ms
        return measured_score(instance, placement.assignment(), slowdowns, solo)
