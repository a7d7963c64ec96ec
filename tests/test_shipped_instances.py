"""The instances that ship: as their script writes them, feasible, each with its known answer."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from brute_force import brute_force

from placer.checker import check
from placer.files import read_instance
from placer.interference.measurements import read_measurements
from placer.solving import solve
from placer.status import Status

INSTANCES = Path(__file__).resolve().parent.parent / "instances"
SYNTHETIC = ["synthetic-23.json", "fleet-300.json"]
OPTIMA: dict[str, float | None] = {
    "apart": 0.3,
    "budget": 0.5,
    "co-location-degree": 0.2,
    "cost-on": 0.25,
    "demand-on": 0.5,
    "groups-fallback": 0.2,
    "groups-table": 0.16,
    "helpful-company": 0.06,
    "infeasible": None,
    "latency-term": 0.5,
    "pair-product": 0.163,
    "scarce": 1.1,
    "slo-forbid": 0.2,
    "slo-penalty": 0.15,
    "together": 0.4,
    "unplaced-penalty": 0.2,
    "vm-types-of-a-model": 0.4,
}
"""Objective and proven bound of each file in features/; None is infeasible."""


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """Return instances/make_instances.py as a module."""
    return load("make_instances")


def load(name: str) -> ModuleType:
    """Return a script of instances/ as a module."""
    path = INSTANCES / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", SYNTHETIC)
def test_files_are_what_the_script_writes(script: ModuleType, name: str) -> None:
    assert (INSTANCES / name).read_text(encoding="utf-8") == script.texts()[name]


@pytest.mark.parametrize("name", SYNTHETIC)
def test_synthetic_numbers_are_labelled(script: ModuleType, name: str) -> None:
    data = json.loads((INSTANCES / name).read_text(encoding="utf-8"))
    assert data["description"].endswith(script.LABEL)
    assert data["name"] == Path(name).stem


def test_every_feature_file_is_listed_here() -> None:
    files = {path.stem for path in (INSTANCES / "features").glob("*.json")}
    assert files == OPTIMA.keys()


@pytest.mark.parametrize("name", OPTIMA)
def test_feature_has_its_known_answer(name: str) -> None:
    instance = read_instance(INSTANCES / "features" / f"{name}.json")
    assert instance.name == name
    assert instance.description
    result = solve(instance, solver="groups", workers=1)
    optimum = OPTIMA[name]
    best = brute_force(instance)
    if optimum is None:
        assert best is None
        assert result.status == Status.INFEASIBLE
        return
    assert best is not None
    assert best[0] == pytest.approx(optimum, abs=1e-9)
    assert result.status == Status.OPTIMAL
    assert result.objective == pytest.approx(optimum, abs=1e-6)
    assert result.bound == pytest.approx(optimum, abs=1e-6)
    assert check(instance, result.placement).ok


def test_synthetic_is_proved_and_rewards_seeing_interference() -> None:
    """Solvers that are blind to interference pay clearly more for the same batch."""
    instance = read_instance(INSTANCES / "synthetic-23.json")
    best = solve(instance, solver="groups")
    assert best.status == Status.OPTIMAL
    assert best.objective == pytest.approx(SYNTHETIC_OPTIMUM, abs=1e-5)
    for blind in ("least-loaded", "first-fit-decreasing"):
        result = solve(instance, solver=blind)
        assert result.objective is None or result.objective > 1.1 * SYNTHETIC_OPTIMUM


SYNTHETIC_OPTIMUM = 1.21053


def test_quickstart_is_what_its_script_makes_of_the_measured_set(tmp_path: Path) -> None:
    made = load("make_quickstart").quickstart(read_measurements(INSTANCES / "measured" / "broad"))
    assert json.loads((INSTANCES / "quickstart.json").read_text(encoding="utf-8")) == made


def test_quickstart_is_proved_with_the_built_in_predictor() -> None:
    instance = read_instance(INSTANCES / "quickstart.json")
    best = solve(instance)
    assert best.status == Status.OPTIMAL
    assert best.objective is not None
    assert not best.notes  # nothing in it is far from what was measured
    assert check(instance, best.placement).ok
    for blind in ("least-loaded", "first-fit-decreasing"):
        result = solve(instance, solver=blind)
        assert result.objective is None or result.objective > 1.05 * best.objective


def test_fleet_is_feasible_within_seconds() -> None:
    instance = read_instance(INSTANCES / "fleet-300.json")
    assert instance.total_replicas == 300
    assert len(instance.models) == 30
    result = solve(instance, solver="greedy")
    assert result.objective is not None
    assert check(instance, result.placement).ok
