"""A campaign: measures groups one after another, throws away what was disturbed, and goes on."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from placer.measure import host
from placer.measure.dataset import DataSet, Group
from placer.measure.guard import Guard, Limits, Reading
from placer.measure.onnx_models import OnnxModel
from placer.measure.runner import Runner, Timed, Window
from placer.measure.shapes import Shape

MOST_TRIES = 6  # of one group, before it is left out as never undisturbed
SOURCE = "placer measure"


@dataclass(frozen=True)
class State:
    """How far a campaign has come. `seconds_left` is None until it can be told."""

    done: int
    total: int | None
    thrown: int
    seconds: float
    seconds_left: float | None
    text: str


class Campaign:
    """Measures groups into a data set; a context, since it keeps replica processes running."""

    def __init__(
        self,
        data: DataSet,
        models: Sequence[OnnxModel],
        shapes: Sequence[Shape] | Mapping[str, Shape],
        *,
        window: Window | None = None,
        limits: Limits | None = None,
        label: str = "",
        seed: int = 0,
        deadline: float | None = None,
        on_progress: Callable[[State], None] | None = None,
        on_run: Callable[[Group, Timed, str], None] | None = None,
        with_memory: bool = True,
    ) -> None:
        """`deadline` is on `time.monotonic`; `label` goes before the shapes' names.

        A mapping of `shapes` gives VM types by other names. `on_run` sees every run with why it
        was thrown away ("": it was kept). Without `with_memory` no memory is told.
        """
        self.data = data
        self.models = {model.name: model for model in models}
        if not isinstance(shapes, Mapping):
            shapes = {label + shape.name: shape for shape in shapes}
        self.shapes = dict(shapes)
        self.window = window or Window()
        self.deadline = deadline
        self._seed = seed
        self._listener, self._on_run, self._with_memory = on_progress, on_run, with_memory
        self._facts = host.describe()
        self._runner = Runner()
        self._guard = Guard(limits)
        self._before: Reading | None = None
        self._began = time.monotonic()
        self._measured = self._thrown = 0

    def __enter__(self) -> Campaign:
        self.data.lock()
        for shape in self.shapes.values():
            self._runner.prepare(shape)
        self.data.describe(
            "models.csv", "model", {name: model.features for name, model in self.models.items()}
        )
        features = {name: s.features(self._facts) for name, s in self.shapes.items()}
        self.data.describe("vm_types.csv", "vm_type", features)
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.close()
        self._guard.close()
        self.data.unlock()

    def out_of_time(self) -> bool:
        """Say whether the deadline has passed."""
        return self.deadline is not None and time.monotonic() > self.deadline

    def measure(self, groups: Iterable[Group], repeats: int = 1) -> int:
        """Measure each group until it has `repeats` kept runs; return how many runs were kept.

        What the data set holds already is not measured again. Stops at the deadline. Raises
        NotQuietError where the host stays disturbed, UsageError or ReplicaError where a group
        cannot run.
        """
        want: dict[object, int] = {}
        waiting: deque[tuple[Group, int]] = deque()
        for group in groups:
            want[group.key] = want.get(group.key, 0) + repeats
            waiting.extend([(group, 0)] * repeats)
        waiting = self._not_done(waiting, want)
        kept = 0
        total = len(waiting)
        while waiting and not self.out_of_time():
            group, tries = waiting.popleft()
            reason = self._once(group)
            if not reason:
                kept += 1
            elif not reason.startswith("saturated") and tries + 1 < MOST_TRIES:
                waiting.append((group, tries + 1))
            self._say(total - len(waiting), total, group.text() + (f": {reason}" if reason else ""))
        return kept

    def _not_done(
        self, waiting: deque[tuple[Group, int]], want: Mapping[object, int]
    ) -> deque[tuple[Group, int]]:
        """Return what is left of `waiting` beside the runs that the data set has."""
        spare = {key: min(count, self.data.done[key]) for key, count in want.items()}  # type: ignore[index]
        left: deque[tuple[Group, int]] = deque()
        for group, tries in waiting:
            if spare[group.key] > 0:
                spare[group.key] -= 1
            elif not self.data.saturated(group):
                left.append((group, tries))
        return left

    def _once(self, group: Group) -> str:
        """Run a group once and log it; return why it was thrown away, "" where it was kept."""
        if self._before is None:
            self._before = self._guard.begin(self._wait)
            self._describe_host()
        started = datetime.now(UTC)
        number = len(self.data.runs)
        models = [self.models[name] for name in group.models]
        shape = self.shapes[group.vm_type]
        timed = self._runner.run(shape, models, group.rates, self.window, self._seed + number)
        after = self._guard.read()
        reason = self._guard.judge(self._before, timed, after)
        if not reason and any(one.saturated for one in timed.replicas):
            reason = "saturated: arrivals outran answers"
        self._log(group, timed, started, after, reason)
        if self._on_run is not None:
            self._on_run(group, timed, reason)
        disturbed = reason and not reason.startswith("saturated")
        if not disturbed:
            self._guard.accept(after)
        self._measured += 1
        self._thrown += bool(disturbed)
        self._before = self._guard.wait(self._wait) if disturbed else after
        return reason

    def _log(
        self, group: Group, timed: Timed, started: datetime, after: Reading, reason: str
    ) -> None:
        assert self._before is not None
        run = self.data.next_run(str(self._facts["host"]))
        self.data.add(
            {
                "run": run,
                "host": self._facts["host"],
                "vm_type": group.vm_type,
                "degree": len(group.models),
                "models": group.text(),
                "started": started.isoformat(timespec="seconds"),
                "seconds": timed.seconds,
                "sentinel_before": 1.0 + self._guard.change(self._before),
                "sentinel_after": 1.0 + self._guard.change(after),
                "foreign": timed.between.foreign,
                "stolen": timed.between.stolen,
                "kept": "no" if reason else "yes",
                "reason": reason,
            },
            [] if reason else self._rows(run, group, timed),
        )

    def _rows(self, run: str, group: Group, timed: Timed) -> list[dict[str, Any]]:
        """Return the measurement rows of a run; memory is told for solo runs alone."""
        memory = None
        if len(group.models) == 1 and self._with_memory:
            threads = self.shapes[group.vm_type].threads
            memory = self._runner.memory_mib(self.models[group.models[0]], threads)
        return [
            {
                "run": run,
                "vm_type": group.vm_type,
                "model": model,
                "rate_rps": rate,
                "latency_ms_p50": one.latency_ms_p50,
                "latency_ms_p95": one.latency_ms_p95,
                "latency_ms_p99": one.latency_ms_p99,
                "throughput_rps": one.throughput_rps,
                "requests": one.requests,
                "cpu_util": one.cpu_util,
                "memory_mib": memory,
                "source": SOURCE,
                **timed.counters,
            }
            for model, rate, one in zip(group.models, group.rates, timed.replicas, strict=True)
        ]

    def _describe_host(self) -> None:
        facts = {**self._facts, "sentinel_ms": round(self._guard.reference_ms(), 4)}
        facts["protocol"] = {
            "window_seconds": self.window.seconds,
            "least_requests": self.window.requests,
            "longest_seconds": self.window.longest,
            "sentinel_limit": self._guard.limits.sentinel,
            "foreign_limit": self._guard.limits.foreign,
            "stolen_limit": self._guard.limits.stolen,
        }
        self.data.describe_host(facts)

    def _wait(self, reason: str) -> None:
        self._say(None, None, f"waiting for a quiet host: {reason}")

    def _say(self, done: int | None, total: int | None, text: str) -> None:
        if self._listener is None:
            return
        seconds = time.monotonic() - self._began
        left = None
        if done is not None and total is not None and self._measured:
            left = seconds / self._measured * (total - done)
        if self.deadline is not None:
            rest = max(self.deadline - time.monotonic(), 0.0)
            left = rest if left is None else min(left, rest)
        self._listener(State(done or 0, total, self._thrown, seconds, left, text))


def shuffled(groups: Sequence[Group], seed: int) -> list[Group]:
    """Return the groups in random order, so that a slow drift of the host favours none."""
    order = np.random.default_rng(seed).permutation(len(groups))
    return [groups[place] for place in order]
