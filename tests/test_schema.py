"""The published JSON Schemas: the code's own, true to good files and to bad ones."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from bad_files import ABSENT, INSTANCE, PLACEMENT, put
from click.testing import CliRunner

from placer.cli import main
from placer.files import read_instance
from placer.schema import schema_of, schema_text
from placer.solving import solve

WHICH = ("instance", "placement")
VALIDATORS = {which: jsonschema.Draft202012Validator(schema_of(which)) for which in WHICH}


def faults(which: str, data: object) -> list[str]:
    return [error.message for error in VALIDATORS[which].iter_errors(data)]


@pytest.mark.parametrize("which", WHICH)
def test_published_file_is_what_the_code_says(root: Path, which: str) -> None:
    text = (root / "docs" / f"{which}.schema.json").read_text(encoding="utf-8")
    assert text == schema_text(which), f"run: placer schema {which} > docs/{which}.schema.json"


@pytest.mark.parametrize("which", WHICH)
def test_is_a_schema_and_the_command_prints_it(which: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schema_of(which))
    result = CliRunner().invoke(main, ["schema", which])
    assert result.exit_code == 0
    assert result.stdout == schema_text(which)


def test_shipped_instances_are_valid(root: Path) -> None:
    files = sorted(
        [*(root / "instances").glob("*.json"), *(root / "instances" / "features").glob("*.json")]
    )
    assert files
    for path in files:
        assert faults("instance", json.loads(path.read_text(encoding="utf-8"))) == [], path


def test_shared_instances_are_valid(shared: Path) -> None:
    files = sorted((shared / "instances").glob("*/*.json"))
    assert files
    for path in files:
        assert faults("instance", json.loads(path.read_text(encoding="utf-8"))) == [], path


def test_base_files_are_valid() -> None:
    assert faults("instance", INSTANCE) == []
    assert faults("placement", PLACEMENT) == []


def test_written_placements_are_valid(root: Path) -> None:
    for name in ("unplaced-penalty", "slo-penalty"):
        instance = read_instance(root / "instances" / "features" / f"{name}.json")
        assert faults("placement", solve(instance, solver="greedy").placement.to_dict()) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("extra", 1),
        ("models/0/extra", 1),
        ("interference/extra", 1),
        ("format", ABSENT),
        ("version", ABSENT),
        ("version", 2),
        ("models", []),
        ("vm_types", {}),
        ("vm_types/0/capacity", ABSENT),
        ("vm_types/0/capacity/vcpu", "2"),
        ("vm_types/0/capacity/vcpu", True),
        ("vm_types/0/price", -1),
        ("vm_types/0/price", True),
        ("vm_types/0/count", 1.5),
        ("vm_types/0/count", True),
        ("models/0/replicas", -1),
        ("models/0/slo_ms", 0),
        ("models/0/solo_latency_ms/small", 0),
        ("models/0/features/params", True),
        ("models/0/features/params", [1]),
        ("interference/kind", "pairwize"),
        ("interference/kind", ABSENT),
        ("interference/slowdown/*/bert/resnet", 0),
        ("interference/slowdown/*/bert/resnet", True),
        ("objective/slo", "never"),
        ("objective/slo", {}),
        ("objective/unplaced", 3),
        ("rules/apart", [3]),
        ("rules/max_vms", 0.5),
    ],
)
def test_bad_instances_are_not_valid(path: str, value: object) -> None:
    data: dict[str, Any] = copy.deepcopy(INSTANCE)
    put(data, path, value)
    assert faults("instance", data)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("objective", True),
        ("objective", "1"),
        ("vms", ABSENT),
        ("vms/0/models/0/name", ABSENT),
        ("vms/0/models/0/slowdown", True),
        ("status", "best"),
        ("unplaced/0", 3),
    ],
)
def test_bad_placements_are_not_valid(path: str, value: object) -> None:
    data: dict[str, Any] = copy.deepcopy(PLACEMENT)
    put(data, path, value)
    assert faults("placement", data)
