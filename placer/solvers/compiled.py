"""Whether compiled code may be used: the first use on a machine takes some seconds to compile."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from placer.solvers.run import Run

PATIENCE = 60.0
"""With this many seconds left, or without a limit, compiling is worth its time."""


def may_compile(run: Run, function: Any) -> bool:
    """Return whether `function`, compiled by numba, is at hand, or there is time to compile it."""
    if function.signatures or math.isinf(run.time_left()) or run.time_left() >= PATIENCE:
        return True
    module = str(function.py_func.__module__).rpartition(".")[2]
    return any(Path(function.stats.cache_path).glob(f"{module}.{function.__name__}-*.nbc"))
