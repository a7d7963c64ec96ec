"""One cell of a sweep, in a process of its own, so that time and peak memory are its own.

It reads the cell as JSON from standard input and prints its row as JSON.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from placer._version import __version__
from placer.errors import PlacerError
from placer.measure.host import cpu_model

LIBRARIES = ("ortools", "highspy", "pulp", "numpy", "xgboost")
GRACE = 300.0
"""Seconds that a cell may take beyond three times its time limit before it is ended."""


def run_apart(cell: dict[str, Any]) -> dict[str, Any]:
    """Run a cell in a new process and return its row; a fault of the cell is a row as well."""
    limit = cell["options"].get("time_limit")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "placer.sweep_cell"],
            input=json.dumps(cell),
            capture_output=True,
            text=True,
            timeout=None if limit is None else 3 * limit + GRACE,
        )
    except subprocess.TimeoutExpired:
        return {**facts(cell), "status": "error", "error": "did not end by itself and was ended"}
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        said = done.stderr.strip().splitlines()
        why = said[-1] if said else f"the process ended with status {done.returncode}"
        return {**facts(cell), "status": "error", "error": why[:500]}
    row: dict[str, Any] = json.loads(lines[-1])
    return row


def facts(cell: dict[str, Any]) -> dict[str, Any]:
    """Return what is known of a cell before it is run, the machine and versions with it."""
    return {
        "cell": cell["key"],
        "instance": cell["name"],
        "file": cell["file"],
        "solver": cell["solver"],
        "options": cell["label"],
        "seed": cell["options"]["seed"],
        "time_limit": cell["options"].get("time_limit"),
        "gap_asked": cell["options"]["gap"],
        "workers": cell["options"]["workers"],
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "placer": __version__,
        "python": platform.python_version(),
        **{name: _version(name) for name in LIBRARIES},
        "machine": machine(),
    }


def machine() -> str:
    """Return the processor's name and how many there are."""
    return f"{cpu_model()}, {os.cpu_count()} processors"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def outcome(cell: dict[str, Any]) -> dict[str, Any]:
    """Solve a cell in this process and return its row."""
    from placer.problem import Instance
    from placer.solvers.run import Progress
    from placer.solving import solve

    row = facts(cell)
    trace: list[tuple[float, float | None, float | None]] = []

    def watch(progress: Progress) -> None:
        trace.append((progress.seconds, progress.objective, progress.bound))

    began = time.perf_counter()
    try:
        instance = Instance.from_dict(cell["instance"], file=Path(cell["file"]))
        result = solve(
            instance, solver=cell["solver"], explain=False,
            on_progress=watch if cell.get("trace") else None, **cell["options"],
        )  # fmt: skip
    except PlacerError as error:
        return {**row, "status": "error", "error": str(error),
                "seconds": time.perf_counter() - began}  # fmt: skip
    placement = result.placement
    record = placement.solver
    return {
        **row,
        "status": result.status.value,
        "objective": result.objective,
        "bound": result.bound,
        "gap": result.gap,
        "stopped_by": None if record is None else record.stopped_by,
        "seconds": time.perf_counter() - began,
        "vms": len(placement.vms),
        "unplaced": len(placement.unplaced),
        "peak_mib": peak_mib(),
        "error": None,
        **({"trace": trace} if cell.get("trace") else {}),
    }


def peak_mib() -> float:
    """Return the most memory that this process has held."""
    try:  # what getrusage says begins with the memory of the process that started this one
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    print(json.dumps(outcome(json.load(sys.stdin))))
