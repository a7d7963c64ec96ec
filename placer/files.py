"""Reading and writing of files: JSON that is refused with a path, files replaced whole."""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from placer.errors import InputError, PlacerError
from placer.validation import path_text, show

if TYPE_CHECKING:
    from placer.placement import Placement
    from placer.problem import Instance

T = TypeVar("T")

STANDARD_STREAM = "-"

LARGE, MEMORY_PER_BYTE = 50_000_000, 10.0
"""From which size on a file is held against the memory that is free, and what a byte of it takes
there: 1.46 GB were measured for the checked placement of a million replicas, 144 MB."""


class _Repeated(dict[str, Any]):
    """An object that named one field twice; `field` is that name."""

    field: str = ""


def read_toml(file: str | Path) -> dict[str, Any]:
    """Return what a TOML file holds. Raises InputError that names the file."""
    try:
        return tomllib.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"cannot be read: {reason}", source=str(file)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"is not TOML: {error}", source=str(file)) from None


def parse_json(text: str, source: str) -> Any:
    """Return the value that `text` spells, refusing repeated fields and non-finite numbers.

    Raises InputError that names `source`, the place and what was found.
    """
    try:
        data = json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise InputError(
            f"not valid JSON: {error.msg.lower()}, expected a JSON object",
            path=f"line {error.lineno} column {error.colno}",
            source=source,
        ) from None
    except RecursionError:
        raise InputError("nested too deeply, expected a JSON object", source=source) from None
    except ValueError as error:
        raise InputError(
            f"not valid JSON: {str(error).split(';')[0]}, expected a finite number", source=source
        ) from None
    _refuse_by_place(data, source)
    return data


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) == len(pairs):
        return fields
    repeated = _Repeated(fields)
    names = [name for name, _ in pairs]
    repeated.field = next(name for index, name in enumerate(names) if name in names[:index])
    return repeated


def _refuse_by_place(data: Any, source: str) -> None:
    """Refuse repeated fields, numbers that are not finite (1e400 too) and texts that are none."""
    stack: list[tuple[Any, tuple[str | int, ...]]] = [(data, ())]
    while stack:
        value, path = stack.pop()
        if isinstance(value, dict):
            if isinstance(value, _Repeated):
                path, message = (*path, value.field), "found twice, expected each field once"
                raise InputError(message, path=path_text(path), source=source)
            stack.extend((name, path) for name in value if not name.isascii())
            stack.extend((inner, (*path, name)) for name, inner in value.items())
        elif isinstance(value, list):
            stack.extend((inner, (*path, index)) for index, inner in enumerate(value))
        else:
            message = _fault_of(value)
            if message:
                raise InputError(message, path=path_text(path), source=source)


def _fault_of(value: object) -> str:
    """Return what is wrong with a number or text whatever field it stands in, "" for nothing."""
    if isinstance(value, float) and not math.isfinite(value):
        found = "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        return f"found {found}, expected a finite number"
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            return f"found {ascii(value)[:60]}, expected a text without half characters"
    return ""


def read_text(path: str | Path) -> str:
    """Return the text of the file at `path`, "-" being standard input. Raises InputError."""
    source = _source(path)
    try:
        if str(path) == STANDARD_STREAM:
            return sys.stdin.buffer.read().decode("utf-8-sig")
        _refuse_too_large(Path(path).stat().st_size, source)
        return Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"cannot be read: {reason}", source=source) from None
    except (UnicodeDecodeError, ValueError):
        raise InputError("not a text in UTF-8, expected a JSON object", source=source) from None


def _refuse_too_large(size: int, source: str) -> None:
    """Raise InputError for a file of `size` bytes that would not fit memory once it is read."""
    free = _free_memory() if size >= LARGE else math.inf
    if size * MEMORY_PER_BYTE > free:
        raise InputError(
            f"found {size / 1e9:.2g} GB, which takes about {size * MEMORY_PER_BYTE / 1e9:.2g} GB "
            f"of memory to read, expected no more than the {free / 1e9:.2g} GB that are free",
            source=source,
        )


def _free_memory() -> float:
    """Return how many bytes of memory could be had, infinite where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return math.inf
    free = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return 1024.0 * int(free[0]) if free else math.inf


def _source(path: str | Path) -> str:
    """Return what messages call the file at `path`."""
    return "standard input" if str(path) == STANDARD_STREAM else str(path)


def read_object(path: str | Path, format_name: str, version: int) -> dict[str, Any]:
    """Return the JSON object in the file at `path` after a look at its format and version.

    Raises InputError where it is no object, of another format, or of a later version.
    """
    source = _source(path)
    data = parse_json(read_text(path), source)
    if not isinstance(data, dict):
        raise InputError(f"found {show(data)}, expected a JSON object", source=source)
    for field in ("format", "version"):
        if field not in data:
            raise InputError("missing; this field is required", path=field, source=source)
    if data["format"] != format_name:
        raise InputError(
            f"found {show(data['format'])}, expected {format_name!r}", path="format", source=source
        )
    found = data["version"]
    if isinstance(found, bool) or not isinstance(found, int | float) or found != version:
        later = isinstance(found, int | float) and not isinstance(found, bool) and found > version
        hint = " (the file is from a later version of placer)" if later else ""
        raise InputError(
            f"found {show(found)}, expected {version}{hint}", path="version", source=source
        )
    return data


def write_text(path: str | Path, text: str | Iterable[str]) -> None:
    """Write `text`, whole or in pieces, beside `path` and rename it into place.

    No reader sees half a file.

    Raises PlacerError where the folder cannot be written.
    """
    pieces = [text] if isinstance(text, str) else text
    target = Path(os.path.realpath(path))  # a link stays one, what it points to is replaced
    temporary = ""
    try:
        if target.exists() and not target.is_file():
            with target.open("w", encoding="utf-8") as stream:  # a device cannot be replaced
                stream.writelines(pieces)
            return
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.writelines(pieces)
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask()
        os.chmod(temporary, mode)
        os.replace(temporary, target)
        temporary = ""
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise PlacerError(f"{path}: cannot be written: {reason}") from None
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def to_json(data: Any, *, indent: int | None = 1) -> str:
    """Return `data` as JSON text that ends in a line break; a number that is not finite raises."""
    return json.dumps(data, indent=indent, ensure_ascii=False, allow_nan=False) + "\n"


def read_instance(path: str | Path) -> Instance:
    """Return the instance in the file at `path` ("-": standard input). Raises InputError."""
    from placer.problem import FORMAT, VERSION, Instance

    data = read_object(path, FORMAT, VERSION)
    file = None if str(path) == STANDARD_STREAM else Path(path)
    return _said_of(path, lambda: Instance.from_dict(data, file=file))


def read_placement(path: str | Path) -> Placement:
    """Return the placement in the file at `path` ("-": standard input). Raises InputError."""
    from placer.placement import FORMAT, VERSION, Placement

    data = read_object(path, FORMAT, VERSION)
    return _said_of(path, lambda: Placement.from_dict(data))


def write_instance(path: str | Path, instance: Instance) -> None:
    """Write `instance` to the file at `path`, whole or not at all. Raises PlacerError."""
    write_text(path, to_json(instance.to_dict()))


def write_placement(path: str | Path, placement: Placement) -> None:
    """Write `placement` to the file at `path`, whole or not at all. Raises PlacerError."""
    from placer.placement_json import placement_json

    write_text(path, placement_json(placement))


def _said_of(path: str | Path, build: Callable[[], T]) -> T:
    source = _source(path)
    try:
        return build()
    except InputError as error:
        raise error.within(source) from None
    except RecursionError:
        raise InputError("nested too deeply, expected a JSON object", source=source) from None
