"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
