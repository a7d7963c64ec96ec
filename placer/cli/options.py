"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import click


def format_option(name: str, help_text: str) -> Callable[[Any], Any]:
    """Return `--format table|json`, passed to the command as `name`."""
    return click.option(
        "--format",
        name,
        type=click.Choice(["table", "json"]),
        default="table",
        show_default=True,
        help=help_text,
    )


class SecondsType(click.ParamType):
    """A time such as `90s`, `30m` or `2h`, or a number of seconds."""

    name = "TIME"
    UNITS: ClassVar = {"s": 1.0, "m": 60.0, "h": 3600.0}

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return seconds; fails for what is no time above 0."""
        if isinstance(value, int | float):
            return float(value)
        text = str(value).strip().lower()
        unit = self.UNITS.get(text[-1:], 0.0)
        try:
            seconds = float(text[:-1]) * unit if unit else float(text)
        except ValueError:
            seconds = 0.0
        if not 0.0 < seconds < float("inf"):
            self.fail(f"found {value!r}; expected a time such as 90s, 30m or 2h", param, ctx)
        return seconds
