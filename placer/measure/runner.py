"""Runs a group of replicas together on one VM shape and times them."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from typing import Any

import numpy as np

from placer.errors import PlacerError
from placer.measure import host
from placer.measure.counters import Counters
from placer.measure.onnx_models import OnnxModel
from placer.measure.replica import COUNTS, GO, SHARED_BYTES, SLOTS, STOP, shared_array
from placer.measure.shapes import Cage, Shape

POLL = 0.01  # seconds between two looks at the counts
WARM_UP_REQUESTS = 2
ANSWER_SECONDS = 120.0
SATURATED = 0.9  # an open loop that answers less than this share of its arrivals is overloaded


class ReplicaError(PlacerError):
    """A replica that could not load or serve its model."""


@dataclass(frozen=True)
class Window:
    """How long a run is timed, in seconds.

    First `warm_up` untimed, then at least `seconds` and until every replica has answered
    `requests`, at most `longest`.
    """

    seconds: float = 1.0
    requests: int = 20
    longest: float = 4.0
    warm_up: float = 0.1


@dataclass(frozen=True)
class Timing:
    """What one replica did within the window; latencies in ms, throughput in requests/s.

    `cpu_util` is processors in use on average; `saturated` says that arrivals outran answers.
    """

    latency_ms_p50: float
    latency_ms_p95: float
    latency_ms_p99: float
    throughput_rps: float
    requests: int
    cpu_util: float
    saturated: bool
    latencies_ms: np.ndarray = field(repr=False, compare=False)


@dataclass(frozen=True)
class Timed:
    """One run: a timing for each replica, its length in seconds and what else the host did.

    `counters` are hardware counters per request of a replica that ran alone, where the host has
    any.
    """

    replicas: list[Timing]
    seconds: float
    between: host.Between
    counters: dict[str, float] = field(default_factory=dict)


class Replica:
    """A replica process and the pipe to it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "placer.measure.replica"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # Ctrl-C is for the parent, which ends its replicas in order
        )

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def tell(self, **command: Any) -> None:
        """Send a command."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise ReplicaError("a replica process has died (out of memory?)") from None

    def answer(self) -> dict[str, Any]:
        """Wait for the answer to the last command. Raises ReplicaError."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ReplicaError("a replica process has died (out of memory?)")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ReplicaError(f"a replica failed: {answer['error']}")
        return answer

    def close(self) -> None:
        """End the process."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue
        self._process.kill()
        self._process.wait()


@dataclass(frozen=True)
class Member:
    """One replica to run: its model, rate (None: closed loop) and the processors it may use."""

    model: OnnxModel
    rate_rps: float | None
    cpus: tuple[int, ...]


class Runner:
    """Replica processes that are kept between runs, so that a run costs little more than itself."""

    def __init__(self) -> None:
        self._replicas: list[Replica] = []
        self._cages: dict[Shape, Cage] = {}
        self._memory: dict[tuple[str, int], float] = {}
        self._counters = Counters()
        self._folder = tempfile.TemporaryDirectory(prefix="placer-")
        self._flags = Path(self._folder.name) / "flags"
        self._flags.write_bytes(bytes(SHARED_BYTES))
        self._shared = shared_array(str(self._flags))

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes and take the control groups away."""
        for replica in self._replicas:
            replica.close()
        for cage in self._cages.values():
            cage.remove()
        self._replicas, self._cages = [], {}
        self._folder.cleanup()

    def processes(self) -> list[int]:
        """Return the ids of the replica processes."""
        return [replica.pid for replica in self._replicas]

    def prepare(self, shape: Shape) -> Cage:
        """Return the control group of a shape. Raises UsageError where it cannot be made."""
        if shape not in self._cages:
            self._cages[shape] = Cage(shape)
        return self._cages[shape]

    def run(
        self,
        shape: Shape,
        models: Sequence[OnnxModel],
        rates: Sequence[float | None],
        window: Window,
        seed: int = 0,
    ) -> Timed:
        """Run replicas of `models` together in `shape` and time them.

        `rates` are requests/s of Poisson arrivals, None for requests back to back. Raises
        ReplicaError where a model cannot be loaded or served.
        """
        cpus = tuple(host.processors()[: shape.cores])
        members = [Member(m, rate, cpus) for m, rate in zip(models, rates, strict=True)]
        cage = self.prepare(shape)
        if shape.memory_mib is not None:  # memory counts where it was asked for: begin anew inside
            self._restart()
        replicas = self._first(len(members))
        pids = [replica.pid for replica in replicas]
        cage.hold(pids)
        try:
            return self.time(members, shape.threads, window, seed)
        finally:
            cage.free(pids)

    def time(self, members: Sequence[Member], threads: int, window: Window, seed: int = 0) -> Timed:
        """Time members that run together, wherever their processes are bound to."""
        if len(members) > SLOTS:
            raise ReplicaError(f"{len(members)} replicas at once; at most {SLOTS} can be timed")
        replicas = self._first(len(members))
        for replica, member in zip(replicas, members, strict=True):
            replica.tell(do="load", model=str(member.model.path), threads=threads,
                         shapes=member.model.shapes, cpus=list(member.cpus))  # fmt: skip
        for replica in replicas:
            replica.answer()
        self._shared[:] = 0
        for slot, (replica, member) in enumerate(zip(replicas, members, strict=True)):
            replica.tell(do="serve", shared=str(self._flags), slot=slot, rate_rps=member.rate_rps,
                         seed=seed * SLOTS + slot)  # fmt: skip
        try:
            before, after, counting = self._watch(members, window)
        finally:
            self._shared[STOP] = 1
        served = [replica.answer() for replica in replicas]
        begin, end = before.clock, after.clock
        timings = [
            timing(one, begin, end, member.rate_rps)
            for one, member in zip(served, members, strict=True)
        ]
        counted = self._counters.finish(counting, timings[0].throughput_rps * window.seconds)
        return Timed(timings, end - begin, host.Between.readings(before, after), counted)

    def memory_mib(self, model: OnnxModel, threads: int) -> float:
        """Return the resident memory of a new process that serves the model, in MiB."""
        key = (model.name, threads)
        if key not in self._memory:
            replica = Replica()
            try:
                replica.tell(do="load", model=str(model.path), threads=threads,
                             shapes=model.shapes, cpus=host.processors())  # fmt: skip
                self._memory[key] = float(replica.answer()["memory_mib"])
            finally:
                replica.close()
        return self._memory[key]

    def _watch(
        self, members: Sequence[Member], window: Window
    ) -> tuple[host.Load, host.Load, Popen[str] | None]:
        """Let the replicas go, and return the host's load as the window opens and closes.

        The third is what counts the hardware events of a replica that is alone, None otherwise.
        """
        counts = self._shared[COUNTS : COUNTS + len(members)]
        self._shared[GO] = 1
        opened = time.monotonic()
        closed = np.array([member.rate_rps is None for member in members])
        while time.monotonic() < opened + ANSWER_SECONDS:
            time.sleep(POLL)
            warm = counts >= np.where(closed, WARM_UP_REQUESTS, 1)
            if warm.all() and time.monotonic() - opened > window.warm_up:
                break
        before = host.Load.now(self.processes())
        alone = len(members) == 1
        counting = self._counters.start(self.processes()[0], window.seconds) if alone else None
        first = counts.copy()
        while True:
            time.sleep(POLL)
            elapsed = time.monotonic() - before.clock
            enough = (counts - first >= window.requests).all()
            if elapsed >= window.seconds and (enough or elapsed >= window.longest):
                return before, host.Load.now(self.processes()), counting

    def _first(self, count: int) -> list[Replica]:
        while len(self._replicas) < count:
            self._replicas.append(Replica())
        return self._replicas[:count]

    def _restart(self) -> None:
        for replica in self._replicas:
            replica.close()
        self._replicas = []


def timing(served: dict[str, list[float]], begin: float, end: float, rate: float | None) -> Timing:
    """Return what a replica did between `begin` and `end` on the host's clock, in seconds."""
    start, done, cpu = (np.asarray(served[name]) for name in ("start", "end", "cpu"))
    inside = (start >= begin) & (done <= end)
    if not inside.any():  # one request outlasted the window: the last one that began in it counts
        inside = np.arange(len(start)) == max(int(np.searchsorted(start, end)) - 1, 0)
    latencies = 1000.0 * (done - start)[inside]
    p50, p95, p99 = np.percentile(latencies, [50, 95, 99])
    answered = int(((done >= begin) & (done <= end)).sum())
    used = float(np.interp(end, done, cpu) - np.interp(begin, done, cpu)) if len(done) > 1 else 0.0
    arrived = (end - begin) * rate if rate is not None else 0.0
    saturated = rate is not None and answered < SATURATED * arrived - 3.0 * np.sqrt(arrived)
    if rate is not None and len(start):
        # What waited when the window closed: the queue's length in mean service times.
        saturated = saturated or bool(done[-1] - start[-1] > 0.5 * (end - begin))
    return Timing(
        float(p50), float(p95), float(p99), answered / (end - begin), int(inside.sum()),
        used / (end - begin), saturated, latencies,
    )  # fmt: skip
