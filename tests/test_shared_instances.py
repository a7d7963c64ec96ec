"""Public instances that are kept beside the repository: skipped where they are absent."""

from __future__ import annotations

import csv
import time
from functools import cache
from pathlib import Path

import pytest
from conftest import SHARED

from placer.checker import check
from placer.files import read_instance
from placer.solving import solve
from placer.status import Status

FOLDER = SHARED / "instances"
FILES = sorted(FOLDER.rglob("*.json")) if FOLDER.is_dir() else []
REASON = f"{FOLDER} is not here: it is kept beside the repository, not in it"
QUICK = [
    "2computers-6processes",
    "3computers-9processes",
    "4computers-12processes",
    "qmc_01_n25_m10_d3",
]
MANY_GROUPS = ["qmc_02_n25_m20_d3", "qmc_06_n25_m50_d5"]

pytestmark = pytest.mark.skipif(not FILES, reason=REASON)


@cache
def best_known() -> dict[str, tuple[float, bool]]:
    """Return the best known objective by instance, and whether it is proved optimal."""
    best = {}
    for table in sorted(FOLDER.rglob("BEST.csv")):
        with table.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                if row["best_known"]:
                    value = float(row["best_known"]) - float(row["add_to_objective"])
                    best[row["instance"]] = value, row["proved_optimal"] == "True"
    return best


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_instance_loads(path: Path) -> None:
    instance = read_instance(path)
    assert instance.name
    assert instance.total_replicas > 0


def path_of(name: str) -> Path:
    path = next((file for file in FILES if file.stem == name), None)
    if path is None:
        pytest.skip(f"{name} is not among the instances of {FOLDER}")
    return path


@pytest.mark.parametrize("name", QUICK)
def test_small_instances_are_solved_and_checked(name: str) -> None:
    instance = read_instance(path_of(name))
    result = solve(instance, solver="groups", time_limit=20)
    assert check(instance, result.placement).ok
    assert result.status in (Status.OPTIMAL, Status.FEASIBLE)
    assert result.objective is not None
    assert result.bound is not None
    value, proved = best_known().get(name, (result.objective, False))
    assert result.bound <= value + 1e-6 * abs(value)
    if proved:
        assert result.objective >= value - 1e-6 * abs(value)
        if result.status == Status.OPTIMAL:
            assert result.objective == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("name", MANY_GROUPS)
def test_time_limit_is_kept_where_groups_are_many(name: str) -> None:
    instance = read_instance(path_of(name))
    began = time.monotonic()
    result = solve(instance, solver="groups", time_limit=8)
    assert time.monotonic() - began < 8 + 6
    assert result.objective is not None
    value, _ = best_known()[name]
    assert result.bound is None or result.bound <= value + 1e-6 * abs(value)
