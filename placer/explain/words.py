"""Numbers and names as they stand in a sentence."""

from __future__ import annotations

from collections.abc import Sequence

NAMES_SHOWN = 8


def number(value: float | None, digits: int = 6) -> str:
    """Return `value` with at most `digits` significant digits, whole numbers in full."""
    if value is None:
        return "-"
    if float(value).is_integer() and abs(value) < 1e15:
        return str(int(value))
    return f"{value:.{digits}g}"


def plural(count: int, noun: str) -> str:
    """Return "1 replica" or "3 replicas"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def listing(parts: Sequence[str], limit: int = NAMES_SHOWN) -> str:
    """Return at most `limit` of the `parts` and how many more there are."""
    more = len(parts) - limit
    return ", ".join(parts[:limit]) + (f" and {more} more" if more > 0 else "")
