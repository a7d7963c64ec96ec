"""Progress and summary of a campaign of measurements."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from placer.measure.campaign import State
    from placer.measure.dataset import DataSet

SECONDS_BETWEEN_LINES = 10.0
Listeners = tuple[Callable[[str], None], "Callable[[State], None] | None"]


@contextmanager
def watching(*, quiet: bool = False) -> Iterator[Listeners]:
    """Give a listener for plain text and one for a campaign's state.

    One live line on a terminal, a line every few seconds elsewhere, nothing where `quiet`.
    """
    if quiet:
        yield (lambda text: None), None
    elif sys.stderr.isatty():
        from rich.console import Console

        with Console(stderr=True, highlight=False).status("") as status:
            yield (lambda text: status.update(text)), (lambda s: status.update(describe(s)))
    else:
        yield (lambda text: click.echo(text, err=True)), Lines()


class Lines:
    """Writes what is new every few seconds, and at once when a wait begins."""

    def __init__(self) -> None:
        self._last = -SECONDS_BETWEEN_LINES

    def __call__(self, state: State) -> None:
        now = time.monotonic()
        if now - self._last >= SECONDS_BETWEEN_LINES:
            self._last = now
            click.echo(describe(state), err=True)


def describe(state: State) -> str:
    """Return a campaign's state in one line."""
    parts = [f"{state.seconds:6.0f} s"]
    if state.total is not None:
        parts.append(f"{state.done} of {state.total}")
    parts.append(f"{state.thrown} thrown away")
    if state.seconds_left is not None:
        parts.append(f"{clock(state.seconds_left)} left")
    return "  ".join([*parts, state.text])


def clock(seconds: float) -> str:
    """Return seconds as minutes and seconds, or hours and minutes."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes}:{rest:02d}"


def print_data_set(data: DataSet) -> None:
    """Print what a data set holds: runs by VM type and degree, and what was thrown away."""
    from rich.console import Console
    from rich.table import Table

    kept = Counter((r["vm_type"], int(r["degree"])) for r in data.runs if r["kept"] == "yes")
    degrees = sorted({degree for _, degree in kept})
    table = Table(title=f"Runs kept in {data.folder}", title_justify="left")
    table.add_column("VM type")
    for degree in degrees:
        table.add_column("solo" if degree == 1 else f"degree {degree}", justify="right")
    for vm_type in sorted({vm for vm, _ in kept}):
        table.add_row(vm_type, *(str(kept[vm_type, degree]) for degree in degrees))
    Console().print(table)
    thrown = data.thrown()
    count = sum(thrown.values())
    reasons = ", ".join(f"{number} {reason}" for reason, number in thrown.most_common())
    click.echo(
        f"{sum(kept.values())} runs kept, {count} thrown away{f' ({reasons})' * bool(count)}"
    )
