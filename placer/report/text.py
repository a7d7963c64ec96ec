"""Numbers and tables as a person reads them on a terminal."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING

from placer.explain.words import number, plural

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["console", "number", "percent", "plural", "table"]


def percent(share: float | None) -> str:
    """Return `share` (1 is 100 %) in percent with two significant digits below 1 %."""
    if share is None:
        return "-"
    value = 100.0 * share
    if not math.isfinite(value) or value == 0.0:
        return "0 %" if value == 0.0 else f"{value} %"
    if abs(value) >= 100.0:
        return f"{value:.0f} %"
    if abs(value) >= 1.0:
        return f"{value:.1f} %"
    places = min(9, 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{places}f}".rstrip("0").rstrip(".") + " %"


def console() -> Console:
    """Return a console on standard output that takes names as they are, never as markup."""
    from rich.console import Console

    return Console(file=sys.stdout, markup=False, highlight=False, emoji=False, soft_wrap=False)


def table(*columns: str, title: str = "") -> Table:
    """Return an empty table with these heads.

    A head that begins with ">" is of a column aligned to the right, one that begins with ">" or
    "|" of a column that is kept on one line; the others are wrapped where the page is narrow.
    """
    from rich import box
    from rich.table import Table

    result = Table(
        title=title or None,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        collapse_padding=True,
    )
    for head in columns:
        result.add_column(
            head.lstrip(">|"),
            justify="right" if head.startswith(">") else "left",
            no_wrap=head[:1] in (">", "|"),
            overflow="fold",
        )
    return result
