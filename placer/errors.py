"""What can go wrong, as exceptions that carry the words a user needs."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PlacerError(Exception):
    """Any failure that `placer` foresees; its text is one line meant for the user."""

    exit_status = 1


class InputError(PlacerError):
    """Input that cannot be used, with the file, the path inside it and what was expected.

    `source` is the file's name (or a phrase such as "instance" for objects built in Python),
    `path` the place inside it (`models[3].demand.vcpu`), `message` what was found and expected.
    """

    exit_status = 2

    def __init__(self, message: str, *, path: str = "", source: str | None = None) -> None:
        self.message = message
        self.path = path
        self.source = source
        super().__init__(": ".join(part for part in (source, path, message) if part))

    def within(self, source: str) -> InputError:
        """Return the same error, said of the file `source`."""
        return InputError(self.message, path=self.path, source=source)


class UsageError(PlacerError):
    """An option or argument that makes no sense, alone or with the others."""

    exit_status = 2


class ConsistencyError(PlacerError):
    """A fault in the program: two parts of it contradict each other."""


def near_name(name: str, known: Iterable[str]) -> str:
    """Return " (did you mean 'x'?)" for the closest of the `known` names, or ""."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""
