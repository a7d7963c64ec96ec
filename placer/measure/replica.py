"""One replica: a process of its own that serves one ONNX model and times every request.

It reads commands as JSON lines from standard input and answers each with one line. While it
serves it shares two flags and a count of requests with its parent through a mapped file, so that
nothing but the model takes processor time.
"""

from __future__ import annotations

import json
import mmap
import os
import sys
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

SLOTS = 64
GO, STOP, COUNTS = 0, 1, 2  # places in the shared array of int64
SHARED_BYTES = 8 * (COUNTS + SLOTS)
CACHED_MIB = 1000.0  # models kept loaded between runs
NAP = 0.01  # seconds, the longest sleep between two looks at the stop flag
INTEGERS = {"tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(uint8)": np.uint8}
LARGEST_TOKEN = 100


def shared_array(path: str) -> np.ndarray:
    """Return the int64 array that parent and replicas share through the file at `path`."""
    with open(path, "r+b") as file:
        return np.frombuffer(mmap.mmap(file.fileno(), SHARED_BYTES), dtype=np.int64)


def example_inputs(inputs: list[Any], shapes: dict[str, list[int]]) -> dict[str, np.ndarray]:
    """Return random inputs for a model's `inputs`; dimensions left open come from `shapes`."""
    random = np.random.default_rng(0)
    values: dict[str, np.ndarray] = {}
    for one in inputs:
        size = shapes.get(one.name) or [d if isinstance(d, int) else 1 for d in one.shape]
        if one.type in INTEGERS:
            values[one.name] = random.integers(0, LARGEST_TOKEN, size).astype(INTEGERS[one.type])
        elif one.type == "tensor(bool)":
            values[one.name] = np.ones(size, dtype=bool)
        else:
            kind = {"tensor(double)": np.float64, "tensor(float16)": np.float16}
            values[one.name] = random.normal(size=size).astype(kind.get(one.type, np.float32))
    return values


class Server:
    """The models that this process has loaded, and the one that it serves."""

    def __init__(self) -> None:
        self._loaded: OrderedDict[tuple[str, int], tuple[Any, dict[str, np.ndarray], float]] = (
            OrderedDict()
        )
        self._serving: tuple[Any, dict[str, np.ndarray]] | None = None

    def load(self, model: str, threads: int, shapes: dict[str, list[int]]) -> dict[str, Any]:
        """Load a model for `threads` threads a request and answer one request with it."""
        import onnxruntime

        key = (model, threads)
        if key not in self._loaded:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            options.inter_op_num_threads = 1
            options.log_severity_level = 3
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            run = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
            inputs = example_inputs(run.get_inputs(), shapes)
            run.run(None, inputs)
            self._loaded[key] = (run, inputs, os.path.getsize(model) / 2**20)
        self._loaded.move_to_end(key)
        while len(self._loaded) > 1 and sum(s for _, _, s in self._loaded.values()) > CACHED_MIB:
            self._loaded.popitem(last=False)
        self._serving = self._loaded[key][:2]
        return {"memory_mib": resident_mib()}

    def serve(
        self, shared: str, slot: int, rate_rps: float | None, seed: int
    ) -> dict[str, list[float]]:
        """Serve until the stop flag; return start (arrival), end and process CPU time, seconds."""
        assert self._serving is not None
        run, inputs = self._serving
        flags = shared_array(shared)
        starts: list[float] = []
        ends: list[float] = []
        cpu: list[float] = []
        gaps = None if rate_rps is None else np.random.default_rng(seed)
        while not flags[GO] and not flags[STOP]:
            time.sleep(0.0005)
        arrival = time.monotonic()
        parent = os.getppid()
        while not flags[STOP]:
            if os.getppid() != parent:  # nobody is left to say stop
                sys.exit(1)
            if gaps is not None:
                wait = arrival - time.monotonic()
                if wait > 0:
                    time.sleep(min(wait, NAP))
                    continue
            start = time.monotonic() if gaps is None else arrival
            run.run(None, inputs)
            ends.append(time.monotonic())
            starts.append(start)
            cpu.append(time.process_time())
            flags[COUNTS + slot] = len(ends)
            if gaps is not None:
                arrival += float(gaps.exponential(1.0 / float(rate_rps or 1.0)))
        return {"start": starts, "end": ends, "cpu": cpu}


def resident_mib() -> float:
    """Return the resident memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def pin(cpus: list[int]) -> None:
    """Bind every thread of this process to `cpus`; threads started later are bound as well."""
    for thread in os.listdir("/proc/self/task"):
        try:
            os.sched_setaffinity(int(thread), cpus)
        except ProcessLookupError:
            continue  # it ended meanwhile


def main() -> None:
    """Answer commands until standard input ends."""
    server = Server()
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no answer
    for line in sys.stdin:
        command = json.loads(line)
        what = command.pop("do")
        answer: Any
        try:
            if what == "load":
                pin(command.pop("cpus"))
                answer = server.load(**command)
            else:
                answer = server.serve(**command)
        except Exception as error:
            answer = {"error": " ".join(f"{type(error).__name__}: {error}".split())[:300]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
