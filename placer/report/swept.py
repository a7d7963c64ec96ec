"""Progress and summary of a sweep."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from placer.report.measured import clock
from placer.report.text import console, table

if TYPE_CHECKING:
    import pandas as pd

    from placer.sweep import SweepState

SECONDS_BETWEEN_LINES = 5.0
HEADS = {
    "cells": "cells",
    "proved": "proved",
    "errors": "failed",
    "seconds (sgm)": "s\n(sgm)",
    "gap % (mean)": "gap\n%",
    "above best %": "above\nbest %",
    "wins": "wins",
    "peak MiB": "peak\nMiB",
}


@contextmanager
def watching(*, quiet: bool = False) -> Iterator[Callable[[SweepState], None] | None]:
    """Give a listener for a sweep: a live line on a terminal, plain lines elsewhere."""
    if quiet:
        yield None
    elif sys.stderr.isatty():
        from rich.console import Console

        with Console(stderr=True, highlight=False).status("") as status:
            yield lambda state: status.update(describe(state))
    else:
        last = [-SECONDS_BETWEEN_LINES]

        def line(state: SweepState) -> None:
            now = time.monotonic()
            if now - last[0] >= SECONDS_BETWEEN_LINES or state.done == state.total:
                last[0] = now
                click.echo(describe(state), err=True)

        yield line


def describe(state: SweepState) -> str:
    """Return a sweep's state in one line."""
    parts = [f"{state.seconds:6.0f} s", f"{state.done} of {state.total} cells"]
    if state.known:
        parts.append(f"{state.known} known before")
    if state.errors:
        parts.append(f"{state.errors} failed")
    if state.seconds_left is not None:
        parts.append(f"{clock(state.seconds_left)} left")
    return "  ".join([*parts, state.text])


def print_summary(lines: pd.DataFrame, rows: pd.DataFrame, output: str) -> None:
    """Print a line for each solver and variant, and what failed."""
    several = lines["options"].nunique() > 1
    heads = ["|solver", *(["options"] if several else []), *(f">{h}" for h in HEADS.values())]
    shown = table(*heads, title=f"{len(rows)} cells in {output}")
    for _, line in lines.iterrows():
        label = [line["options"]] if several else []
        shown.add_row(line["solver"], *label, *(_cell(line[name]) for name in HEADS))
    console().print(shown)
    failed = rows[rows["status"] == "error"] if len(rows) else rows
    for text, part in failed.groupby("error") if len(failed) else ():
        names = ", ".join(dict.fromkeys(part["instance"].head(5)))
        click.echo(f"failed: {text} ({len(part)} cells: {names})")


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value != value:  # not a number: there was nothing to average
        return "-"
    if abs(value) < 1e-6:
        return "0"
    return str(int(value)) if float(value).is_integer() else f"{value:.3g}"
