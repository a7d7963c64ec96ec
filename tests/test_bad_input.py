"""Bad files are refused before any work: one line, the file, the place; nothing written over."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bad_files import INSTANCE, PLACEMENT, bad_instances, bad_placements
from click.testing import CliRunner, Result

from placer import files
from placer.cli import main

INSTANCES = bad_instances()
PLACEMENTS = bad_placements()


def run(*arguments: str | Path, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin)


def refused(result: Result, source: str, named: str) -> None:
    """Hold a refusal against what is promised of all of them."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith(f"placer: {source}: ")
    assert named in result.stderr
    assert len(result.stderr) < 600
    for word in ("Traceback", "pydantic", "input should"):
        assert word.lower() not in result.stderr.lower()


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("good") / "instance.json"
    path.write_text(json.dumps(INSTANCE), encoding="utf-8")
    return path


def test_there_are_many_cases() -> None:
    assert len(INSTANCES) > 150
    assert len(PLACEMENTS) > 40


@pytest.mark.parametrize("label", INSTANCES)
def test_bad_instance(tmp_path: Path, label: str) -> None:
    content, named = INSTANCES[label]
    path, output = tmp_path / "bad.json", tmp_path / "out.json"
    path.write_bytes(content)
    output.write_text("kept")
    refused(run("solve", path, "-o", output), str(path), named)
    assert output.read_text() == "kept"


@pytest.mark.parametrize("label", PLACEMENTS)
def test_bad_placement(tmp_path: Path, good: Path, label: str) -> None:
    content, named = PLACEMENTS[label]
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    refused(run("check", good, path), str(path), named)


@pytest.mark.parametrize("label", ["empty", "NaN", "models missing", "later version", "binary"])
def test_bad_instance_on_standard_input(label: str) -> None:
    content, named = INSTANCES[label]
    refused(run("solve", "-", stdin=content), "standard input", named)


def test_missing_file_and_folder(tmp_path: Path, good: Path) -> None:
    missing = tmp_path / "none.json"
    refused(run("solve", missing), str(missing), "no such file")
    refused(run("solve", tmp_path), str(tmp_path), "directory")
    refused(run("check", good, missing), str(missing), "no such file")
    refused(run("check", missing, missing), str(missing), "no such file")
    refused(run("solve", good, "--start", missing), str(missing), "no such file")


def test_start_of_another_instance(tmp_path: Path, good: Path) -> None:
    start = tmp_path / "start.json"
    text = json.dumps(PLACEMENT)
    start.write_text(text.replace('"small"', '"smal"'), encoding="utf-8")
    refused(run("solve", good, "--start", start), str(start), "vms[0].vm_type")
    start.write_text(text.replace('"resnet"', '"resnt"'), encoding="utf-8")
    refused(run("solve", good, "--start", start), str(start), "vms[0].models[0].name")


def test_near_names_are_offered(tmp_path: Path) -> None:
    for label, near in [
        ("vm_types[0].prize unknown 1", "price"),
        ("models[0].replica unknown 1", "replicas"),
        ("rules.appart unknown 1", "apart"),
        ("kind unknown", "pairwise"),
        ("allowed type unknown", "large"),
        ("apart unknown", "bert"),
    ]:
        path = tmp_path / "bad.json"
        path.write_bytes(INSTANCES[label][0])
        assert f"did you mean '{near}'" in run("solve", path).stderr


def test_byte_order_mark_is_fine(tmp_path: Path) -> None:
    path = tmp_path / "bom.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(INSTANCE).encode())
    assert run("solve", path, "--solver", "greedy", "--quiet").exit_code == 0


def test_the_base_files_are_good(tmp_path: Path, good: Path) -> None:
    path = tmp_path / "placement.json"
    path.write_text(json.dumps(PLACEMENT), encoding="utf-8")
    assert run("check", good, path).exit_code == 1  # its figures are made up, its form is right


def test_a_file_larger_than_memory_is_refused(
    tmp_path: Path, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "placement.json"
    path.write_text(" " * 2000, encoding="utf-8")
    monkeypatch.setattr(files, "LARGE", 1000)
    monkeypatch.setattr(files, "_free_memory", lambda: 19_999.0)
    refused(run("check", good, path), str(path), "takes about 2e-05 GB of memory to read")
    monkeypatch.setattr(files, "_free_memory", lambda: 20_001.0)
    refused(run("check", good, path), str(path), "not valid JSON")
