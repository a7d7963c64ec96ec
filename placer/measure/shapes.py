"""VM types that one host can play: processors, a quota of their time, memory, threads a replica."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from placer.errors import InputError, UsageError

PERIOD_US = 10_000  # a short period, so that a quota slows requests evenly
ROOT = Path("/sys/fs/cgroup")
FORM = re.compile(
    r"(?:(?P<quota>\d+(?:\.\d+)?)-of-)?(?P<cores>\d+)-core"
    r"(?:-(?P<threads>\d+)-threads)?(?:-(?P<memory>\d+)-mib)?"
)


@dataclass(frozen=True)
class Shape:
    """A VM type as a shape of the host.

    `cores` processors that replicas may use, `quota` how many of them at a time on average (None:
    all), `threads` of a replica, `memory_mib` for all replicas together (None: the host's).
    """

    cores: int
    threads: int = 1
    quota: float | None = None
    memory_mib: int | None = None

    @property
    def name(self) -> str:
        """The shape in words: `2-core`, `1.5-of-2-core`, `2-core-2-threads`, `1-core-512-mib`."""
        quota = "" if self.quota is None else f"{self.quota:g}-of-"
        threads = "" if self.threads == 1 else f"-{self.threads}-threads"
        memory = "" if self.memory_mib is None else f"-{self.memory_mib}-mib"
        return f"{quota}{self.cores}-core{threads}{memory}"

    @staticmethod
    def parse(name: str) -> Shape:
        """Build from a name as `name` gives it. Raises UsageError."""
        found = FORM.fullmatch(name)
        if not found:
            raise UsageError(
                f"found VM type {name!r}; expected a shape of this host such as 2-core, "
                "1.5-of-2-core, 2-core-2-threads or 2-core-512-mib"
            )
        quota, memory = found["quota"], found["memory"]
        shape = Shape(
            int(found["cores"]),
            int(found["threads"] or 1),
            None if quota is None else float(quota),
            None if memory is None else int(memory),
        )
        if min(shape.cores, shape.threads) < 1 or not (
            quota is None or 0 < shape.vcpu <= shape.cores
        ):
            raise UsageError(f"found VM type {name!r}; a quota lies between 0 and the cores")
        return shape

    @property
    def vcpu(self) -> float:
        """Processors that the VM type has to give."""
        return float(self.cores) if self.quota is None else self.quota

    def features(self, host: dict[str, Any]) -> dict[str, Any]:
        """Return the columns of vm_types.csv."""
        gib = host["memory_gib"] if self.memory_mib is None else self.memory_mib / 1024
        return {
            "vcpu": self.vcpu,
            "cores": self.cores,
            "threads_per_replica": self.threads,
            "memory_gib": gib,
            "l2_mib": host["l2_mib"],
            "l3_mib": host["l3_mib"],
            "cpu_model": host["cpu_model"],
            "host": host["host"],
        }

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


class Cage:
    """The control group that holds the replicas of a shape with a quota or a memory limit.

    Works with version 1 and version 2 of Linux control groups, where this process may write them.
    """

    def __init__(self, shape: Shape) -> None:
        self._folders = [] if self.needless(shape) else self._make(shape)

    @staticmethod
    def needless(shape: Shape) -> bool:
        """Say whether processor affinity alone makes the shape."""
        return shape.quota is None and shape.memory_mib is None

    def _make(self, shape: Shape) -> list[Path]:
        name = f"placer-{os.getpid()}-{shape.name}"
        limits: list[tuple[Path, str, str]] = []
        if (ROOT / "cgroup.controllers").exists():
            folder = ROOT / name
            if shape.quota is not None:
                limits.append((folder, "cpu.max", f"{round(shape.quota * PERIOD_US)} {PERIOD_US}"))
            if shape.memory_mib is not None:
                limits.append((folder, "memory.max", str(shape.memory_mib * 2**20)))
        else:
            cpu, memory = ROOT / "cpu" / name, ROOT / "memory" / name
            if shape.quota is not None:
                limits.append((cpu, "cpu.cfs_period_us", str(PERIOD_US)))
                limits.append((cpu, "cpu.cfs_quota_us", str(round(shape.quota * PERIOD_US))))
            if shape.memory_mib is not None:
                limits.append((memory, "memory.limit_in_bytes", str(shape.memory_mib * 2**20)))
        folders = list(dict.fromkeys(folder for folder, _, _ in limits))
        try:
            for folder in folders:
                folder.mkdir(exist_ok=True)
            for folder, file, value in limits:
                (folder / file).write_text(value)
        except OSError as error:
            raise UsageError(
                f"VM type {shape.name!r} needs a control group, which this host does not let this "
                f"user make ({error.strerror}: {error.filename}); leave it out, or run as root"
            ) from None
        return folders

    def hold(self, processes: Iterable[int]) -> None:
        """Move processes into the cage. Raises UsageError where the host refuses."""
        for folder in self._folders:
            for pid in processes:
                self._move(folder, pid)

    def free(self, processes: Iterable[int]) -> None:
        """Move processes out again."""
        for folder in self._folders:
            for pid in processes:
                self._move(folder.parent, pid)

    def _move(self, folder: Path, pid: int) -> None:
        try:
            (folder / "cgroup.procs").write_text(str(pid))
        except OSError as error:
            raise UsageError(f"cannot move a process into {folder}: {error.strerror}") from None

    def remove(self) -> None:
        """Take the empty control groups away."""
        for folder in self._folders:
            try:
                folder.rmdir()
            except OSError:
                continue  # a process is still ending in it; the host takes it away later


def default_shapes(processors: int) -> list[Shape]:
    """Return the shapes that are measured where none are named."""
    shapes = [Shape(1)]
    if processors >= 2:
        shapes += [Shape(2), Shape(2, quota=1.5), Shape(2, threads=2)]
    if processors >= 4:
        shapes += [Shape(4), Shape(4, threads=2)]
    return shapes


def fitting(shapes: list[Shape], processors: int) -> list[Shape]:
    """Return the shapes. Raises InputError for one that is larger than the host."""
    for shape in shapes:
        if shape.cores > processors:
            raise InputError(
                f"VM type {shape.name!r} has {shape.cores} cores; this host offers {processors}"
            )
    return shapes
