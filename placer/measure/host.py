"""What a host is and what else runs on it: processors, caches, stolen time, foreign load."""

from __future__ import annotations

import hashlib
import os
import platform
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STAT = Path("/proc/stat")
V1_USAGE = Path("/sys/fs/cgroup/cpuacct/cpuacct.usage")
V2_USAGE = Path("/sys/fs/cgroup/cpu.stat")
WHOLE_HOST = 0.8  # of the ticks since the host started, at least, is what a root group has seen
IDLE = (3, 4)  # fields idle and iowait of a line of /proc/stat
STEAL = 7
GUEST = (8, 9)  # already counted within user and nice


@dataclass(frozen=True)
class Load:
    """Processor time of the whole host and of given processes at one moment, in seconds.

    `busy` is what all of the host's processes used, `stolen` what the hypervisor gave to others.
    """

    clock: float
    busy: float
    stolen: float
    own: float

    @staticmethod
    def now(processes: Iterable[int]) -> Load:
        """Read the counters; `processes` are the ids whose time is not foreign."""
        ticks = os.sysconf("SC_CLK_TCK")
        fields = [int(value) for value in STAT.read_text().split("\n", 1)[0].split()[1:]]
        busy = sum(v for at, v in enumerate(fields) if at not in (*IDLE, STEAL, *GUEST))
        stolen = fields[STEAL] if len(fields) > STEAL else 0
        own = time.process_time() + sum(process_seconds(pid) for pid in processes)
        seconds = busy / ticks
        exact = exact_busy()
        # A group that sees a part of the host alone would hide neighbours.
        if exact is not None and exact > WHOLE_HOST * seconds:
            seconds = exact
        return Load(time.monotonic(), seconds, stolen / ticks, own)


@dataclass(frozen=True)
class Between:
    """What happened between two readings: processors in use by others, and processors stolen."""

    seconds: float
    foreign: float
    stolen: float

    @staticmethod
    def readings(before: Load, after: Load) -> Between:
        """Return foreign and stolen processor time as numbers of processors, on average."""
        seconds = max(after.clock - before.clock, 1e-9)
        foreign = (after.busy - before.busy) - (after.own - before.own)
        return Between(
            seconds, max(foreign, 0.0) / seconds, (after.stolen - before.stolen) / seconds
        )


def exact_busy() -> float | None:
    """Return the processor seconds of the root control group, None where it does not tell.

    The clock ticks of /proc/stat are sampled: they count too much where a quota stops and starts
    processes.
    """
    try:
        if V1_USAGE.exists():
            return int(V1_USAGE.read_text()) * 1e-9
        fields = dict(line.split() for line in V2_USAGE.read_text().splitlines())
        return int(fields["usage_usec"]) * 1e-6
    except (OSError, KeyError, ValueError):
        return None


def process_seconds(pid: int) -> float:
    """Return the processor time that a process has used, all of its threads together."""
    try:
        return time.clock_gettime((~pid << 3) | 2)  # the clock id of another process on Linux
    except OSError:
        return 0.0


def processors() -> list[int]:
    """Return the processors that this process may use."""
    return sorted(os.sched_getaffinity(0))


def cpu_model() -> str:
    """Return the processor's name where the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def cache_mib(level: int) -> float | None:
    """Return the size in MiB of the cache of a level that the first processor sees."""
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        if (index / "level").read_text().strip() == str(level):
            size = (index / "size").read_text().strip()
            return float(size.rstrip("KMG")) * {"K": 1 / 1024, "M": 1.0, "G": 1024.0}[size[-1]]
    return None


def memory_gib() -> float:
    """Return the host's memory in GiB."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30


def describe() -> dict[str, Any]:
    """Return what the host is and the versions it measures with, as plain data."""
    from importlib import metadata

    facts: dict[str, Any] = {
        "cpu_model": cpu_model(),
        "processors": len(processors()),
        "l2_mib": cache_mib(2),
        "l3_mib": cache_mib(3),
        "memory_gib": round(memory_gib(), 1),
    }
    text = "|".join(f"{name}={value}" for name, value in sorted(facts.items()))
    facts["host"] = "h" + hashlib.sha256(text.encode()).hexdigest()[:6]
    facts["kernel"] = platform.release()
    facts["python"] = platform.python_version()
    facts["onnxruntime"] = metadata.version("onnxruntime")
    return facts
