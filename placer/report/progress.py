"""Progress of a solve on standard error: one live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from placer.report.text import number, percent
from placer.solvers.run import Progress

if TYPE_CHECKING:
    from rich.text import Text

REFRESHES_PER_SECOND = 5
SECONDS_BETWEEN_LINES = 2.0


@contextmanager
def watching(*, quiet: bool = False) -> Iterator[Callable[[Progress], None] | None]:
    """Give a listener for `solve` that shows its progress until the block ends; None if quiet."""
    if quiet:
        yield None
    elif sys.stderr.isatty():
        with live_line(sys.stderr) as listener:
            yield listener
    else:
        with plain_lines(sys.stderr) as listener:
            yield listener


def describe(progress: Progress, seconds: float | None = None) -> str:
    """Return `progress` in one line; `seconds` since the start where the clock has moved on."""
    parts = [
        f"{progress.seconds if seconds is None else seconds:6.1f} s",
        f"best {number(progress.objective)}",
        f"bound {number(progress.bound)}",
        f"gap {percent(progress.gap)}",
        progress.phase,
    ]
    return "  ".join(parts)


class Latest:
    """The last progress heard of, and a clock that goes on between two reports."""

    def __init__(self) -> None:
        self.progress = Progress(None, None, None, 0.0, "reading")
        self._offset = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        self._offset = time.monotonic() - progress.seconds
        self.progress = progress

    def line(self) -> str:
        """Return the state of the solve at this moment in one line."""
        return describe(self.progress, time.monotonic() - self._offset)


@contextmanager
def live_line(stream: TextIO) -> Iterator[Callable[[Progress], None]]:
    """Keep one line of the terminal `stream` up to date, and take it away at the end."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    latest = Latest()

    def line() -> Text:
        return Text(latest.line(), no_wrap=True, overflow="ellipsis")

    terminal = Console(file=stream, highlight=False)
    with Live(
        console=terminal,
        get_renderable=line,
        refresh_per_second=REFRESHES_PER_SECOND,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    ):
        terminal.show_cursor(True)  # so that a kill does not leave the terminal without one
        yield latest


@contextmanager
def plain_lines(
    stream: TextIO, every: float = SECONDS_BETWEEN_LINES
) -> Iterator[Callable[[Progress], None]]:
    """Write a line to `stream` at each new phase, and what is new every `every` seconds."""
    lines = _Lines(stream, every)
    done = threading.Event()

    def tick() -> None:
        while not done.wait(every / 4):
            lines.tick()

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield lines
    finally:
        done.set()
        thread.join()


class _Lines:
    """Writes each new phase at once, anything else when the last line is old enough."""

    def __init__(self, stream: TextIO, every: float) -> None:
        self._stream, self._every = stream, every
        self._lock = threading.Lock()
        self._phase = ""
        self._written = -float("inf")
        self._waiting: Progress | None = None

    def __call__(self, progress: Progress) -> None:
        with self._lock:
            self._waiting = progress
            if progress.phase != self._phase:
                self._write()

    def tick(self) -> None:
        with self._lock:
            if self._waiting is not None and time.monotonic() - self._written >= self._every:
                self._write()

    def _write(self) -> None:
        assert self._waiting is not None
        self._phase, self._written = self._waiting.phase, time.monotonic()
        print(describe(self._waiting), file=self._stream, flush=True)
        self._waiting = None
