"""How functions are compiled: by numba, kept on disk where there is a place for it."""

from __future__ import annotations

from typing import Any

import numba


def compiled(function: Any) -> Any:
    """Return `function` compiled at its first use, or read from disk; it releases the GIL."""
    return _compiled(function)


def lean(function: Any) -> Any:
    """Return `function` compiled as by `compiled`, for functions that make no arrays.

    References to arrays are not counted in it: that can take most of the time of a short function.
    """
    try:
        return _compiled(function, _nrt=False)
    except (KeyError, TypeError):  # a numba that has no such option
        return _compiled(function)


def inlined(function: Any) -> Any:
    """Return `function` to be compiled as a part of whatever calls it."""
    return numba.njit(inline="always", error_model="numpy")(function)


def _compiled(function: Any, **options: bool) -> Any:
    try:
        return numba.njit(cache=True, nogil=True, error_model="numpy", **options)(function)
    except RuntimeError:  # no folder may be written to
        return numba.njit(nogil=True, error_model="numpy", **options)(function)
