"""Each benchmark runs with --smoke and prints a table."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

FOLDER = ROOT / "benchmarks"
SECONDS = 150
PROGRAMS = sorted(
    path.name for path in FOLDER.glob("*.py") if "def main" in path.read_text(encoding="utf-8")
)


def test_the_benchmarks_are_found() -> None:
    assert {"decisions.py", "figures.py", "gavel_batches.py", "learning.py", "predictor.py"} <= set(
        PROGRAMS
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the benchmarks, so that no result of a real run is written over.

    No data lie beside it, so made-up data stand in, as on any machine without them.
    """
    return Path(
        shutil.copytree(
            FOLDER,
            tmp_path / "repository" / "benchmarks",
            ignore=shutil.ignore_patterns("results", "__pycache__"),
        )
    )


@pytest.mark.parametrize("program", PROGRAMS)
def test_smoke(program: str, folder: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(folder / program), "--smoke"],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    # a row of the table: words, then at least three columns that are numbers or a dash
    rows = [line for line in done.stdout.splitlines() if numbers_at_end(line) >= 3]
    assert len(rows) >= 1, done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["repository"]


def numbers_at_end(line: str) -> int:
    """Return how many words at the end of `line` are numbers, percentages or dashes."""
    count = 0
    for word in reversed(line.split()):
        if word != "-" and not word.removesuffix("%").replace(".", "", 1).isdigit():
            break
        count += 1
    return count
