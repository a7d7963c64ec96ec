"""Watches for a noisy neighbour: solo sentinels between runs, stolen time and foreign load."""

from __future__ import annotations

import tempfile
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from placer.errors import PlacerError
from placer.measure import host
from placer.measure.onnx_models import OnnxModel
from placer.measure.runner import Member, Runner, Timed, Window

SENTINEL_WINDOW = Window(seconds=0.12, requests=20, longest=1.0, warm_up=0.03)
MOST_SENTINELS = 4  # processors watched at once
REMEMBERED = 200  # readings that make the reference, so that it follows a slow drift of the host
FIRST_READINGS = 5
LONGEST_REST = 3.0  # seconds between two looks at a host that is not quiet
WIDTH, ROWS = 1024, 16  # the sentinel multiplies matrices that do not fit a second-level cache


class NotQuietError(PlacerError):
    """The host was disturbed for longer than the patience given."""


@dataclass(frozen=True)
class Limits:
    """What a run may see of others: the sentinel's change (a share), processors in use, stolen."""

    sentinel: float = 0.05
    foreign: float = 0.08
    stolen: float = 0.03
    patience: float = 300.0


@dataclass(frozen=True)
class Reading:
    """A sentinel's latency in ms on each processor watched, and the load seen meanwhile."""

    latency_ms: np.ndarray
    between: host.Between


def write_sentinel(folder: Path) -> OnnxModel:
    """Write the sentinel's model: two matrix products of fixed size, the same on every host."""
    import onnx
    from onnx import numpy_helper, parser

    text = f"""<ir_version: 8, opset_import: ["" : 17]>
        sentinel (float[{ROWS},{WIDTH}] x) => (float[{ROWS},{WIDTH}] y)
        {{ h = MatMul(x, first)
           r = Relu(h)
           y = MatMul(r, second) }}"""
    model = parser.parse_model(text)
    random = np.random.default_rng(0)
    for name in ("first", "second"):
        values = (random.normal(size=(WIDTH, WIDTH)) / WIDTH).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    file = folder / "sentinel.onnx"
    onnx.save(model, str(file))
    return OnnxModel("sentinel", file)


class Guard:
    """Sentinels, one bound to each of the first processors, and what they read while all is well.

    A reading is one latency in ms for each processor watched. The reference is the median of the
    readings that were accepted.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._runner = Runner()
        self._folder = tempfile.TemporaryDirectory(prefix="placer-")
        self._model = write_sentinel(Path(self._folder.name))
        self._cpus = host.processors()[:MOST_SENTINELS]
        self._accepted: deque[np.ndarray] = deque(maxlen=REMEMBERED)

    def close(self) -> None:
        """End the sentinels."""
        self._runner.close()
        self._folder.cleanup()

    def processes(self) -> list[int]:
        """Return the ids of the sentinel processes."""
        return self._runner.processes()

    def read(self) -> Reading:
        """Let the sentinels run alone for a moment."""
        members = [Member(self._model, None, (cpu,)) for cpu in self._cpus]
        timed = self._runner.time(members, 1, SENTINEL_WINDOW)
        return Reading(np.array([one.latency_ms_p50 for one in timed.replicas]), timed.between)

    def reference_ms(self) -> float:
        """Return the sentinels' usual latency in ms, the mean of the processors watched."""
        return float(self._usual().mean())

    def _usual(self) -> np.ndarray:
        return np.median(np.array(self._accepted), axis=0)

    def change(self, reading: Reading) -> float:
        """Return the largest change of a sentinel against its reference, a share with its sign."""
        moved = reading.latency_ms / self._usual() - 1.0
        return float(moved[np.argmax(np.abs(moved))])

    def accept(self, reading: Reading) -> None:
        """Take a reading into the reference."""
        self._accepted.append(reading.latency_ms)

    def fault(self, reading: Reading) -> str:
        """Return why a sentinel's reading shows a disturbed host, "" where it does not."""
        change = self.change(reading)
        if abs(change) > self.limits.sentinel:
            return f"sentinel {100 * change:+.0f} %"
        return self.load_fault(reading.between)

    def load_fault(self, between: host.Between) -> str:
        """Return which load of others was too much, "" where none was."""
        if between.foreign > self.limits.foreign:
            return f"foreign load of {between.foreign:.2f} processors"
        if between.stolen > self.limits.stolen:
            return f"stolen time of {between.stolen:.2f} processors"
        return ""

    def judge(self, before: Reading, timed: Timed, after: Reading) -> str:
        """Return why a run between two readings cannot be trusted, "" where it can."""
        return self.load_fault(timed.between) or self.fault(before) or self.fault(after)

    def begin(self, on_wait: Callable[[str], None]) -> Reading:
        """Find the reference on a quiet host. Raises NotQuietError when patience ends."""
        deadline = time.monotonic() + self.limits.patience
        while True:
            readings = [self.read() for _ in range(FIRST_READINGS)]
            loads = [self.load_fault(one.between) for one in readings]
            self._accepted.clear()
            for one in readings:
                self.accept(one)
            spread = max(abs(self.change(one)) for one in readings)
            reason = max(loads) or (
                f"sentinels spread by {100 * spread:.0f} %" if spread > self.limits.sentinel else ""
            )
            if not reason:
                return readings[-1]
            self._rest(reason, deadline, 1.0, on_wait)

    def wait(self, on_wait: Callable[[str], None]) -> Reading:
        """Wait until the host is quiet again. Raises NotQuietError when patience ends."""
        deadline, rest = time.monotonic() + self.limits.patience, 0.25
        while True:
            reading = self.read()
            reason = self.fault(reading)
            if not reason:
                return reading
            self._rest(reason, deadline, rest, on_wait)
            rest = min(2 * rest, LONGEST_REST)

    def _rest(
        self, reason: str, deadline: float, seconds: float, on_wait: Callable[[str], None]
    ) -> None:
        if time.monotonic() + seconds > deadline:
            raise NotQuietError(
                f"the host was not quiet for {self.limits.patience:.0f} s ({reason}); what was "
                "measured is kept, and the same command goes on from there"
            )
        on_wait(reason)
        time.sleep(seconds)
