"""Fixtures that several test files share."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root folder."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of public instances and data beside the repository; absent elsewhere."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not here: it is kept beside the repository, not in it")
    return SHARED
