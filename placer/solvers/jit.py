"""How functions are compiled: by numba, kept on disk where there is a place for it."""

from __future__ import annotations

from typing import Any

import numba


def compiled(function: Any) -> Any:
    """Return `function` compiled at its first use, or read from disk; it releases the GIL."""
    try:
        return numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # no folder may be written to
        return numba.njit(nogil=True, error_model="numpy")(function)


def inlined(function: Any) -> Any:
    """Return `function` to be compiled as a part of whatever calls it."""
    return numba.njit(inline="always", error_model="numpy")(function)
