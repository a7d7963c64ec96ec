"""What a benchmark ran on, so that its figures say so."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

from placer.measure.host import cpu_model

PACKAGES = ("placer", "highspy", "ortools", "PuLP", "numpy", "scipy", "pandas", "xgboost")


def versions() -> dict[str, str]:
    """Return the versions of what a solve depends on."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def describe() -> str:
    """Return machine and versions in one line."""
    packages = ", ".join(f"{name} {number}" for name, number in versions().items())
    cores = os.cpu_count()
    return f"{cpu_model()}, {cores} cores; Python {platform.python_version()}, {packages}"
