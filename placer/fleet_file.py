"""A fleet kept in a file: read, changed and replaced whole, by one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from placer.errors import InputError, UsageError
from placer.files import STANDARD_STREAM, read_placement, write_placement
from placer.online import OnlinePlacer
from placer.problem import Instance


@contextmanager
def durable_fleet(
    instance: Instance, path: str | Path, *, strict: bool = True
) -> Iterator[OnlinePlacer]:
    """Open the fleet in the file at `path`, empty where there is none, and write it back after.

    Changes are written whole when the block ends without an exception, else not at all. Others
    who open the same fleet wait meanwhile, so that no arrival is lost.
    Raises InputError for a file that cannot be used, PlacerError where it cannot be written.
    """
    if str(path) == STANDARD_STREAM:
        raise UsageError("fleet: found '-', expected a file, which is read and replaced")
    with _locked(Path(path)):
        fleet = read_placement(path) if Path(path).exists() else None
        try:
            placer = OnlinePlacer(instance, fleet, strict=strict)
        except InputError as error:
            raise error if error.source else error.within(str(path)) from None
        before = placer.placement()
        yield placer
        after = placer.placement()
        if fleet is None or after.vms != before.vms:
            write_placement(path, after)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of the fleet at `path`, a file beside it that stays."""
    try:
        import fcntl
    except ImportError:  # not a POSIX system: single users only
        yield
        return
    lock = path.with_name(f".{path.name}.lock")
    try:
        handle: IO[str] = lock.open("w")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"cannot be written: {reason}", source=str(path)) from None
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
