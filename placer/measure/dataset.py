"""A growing data set: measurements, the log of every run, and what was measured, in one folder.

`measurements.csv` and `runs.csv` grow by whole runs, so a campaign can be stopped at any time; a
run counts once its line stands in `runs.csv`, which is written last.
"""

from __future__ import annotations

import csv
import io
import json
import os
import secrets
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from placer.errors import InputError, PlacerError, UsageError
from placer.files import to_json, write_text
from placer.interference.measured import Key, key_of_group
from placer.interference.measurements import COLUMNS as FORMAT_COLUMNS
from placer.measure import counters

RUN_COLUMNS = (
    "run", "host", "vm_type", "degree", "models", "started", "seconds", "sentinel_before",
    "sentinel_after", "foreign", "stolen", "kept", "reason",
)  # fmt: skip
COLUMNS = (*FORMAT_COLUMNS, *counters.COLUMNS)


@dataclass(frozen=True)
class Group:
    """What runs together: the VM type's name, the models and their rates (None: closed loop)."""

    vm_type: str
    models: tuple[str, ...]
    rates: tuple[float | None, ...]

    @staticmethod
    def closed(vm_type: str, models: Sequence[str]) -> Group:
        """Return a group whose replicas all run back to back."""
        return Group(vm_type, tuple(models), (None,) * len(models))

    @property
    def key(self) -> Key:
        """The same for every order of the same members."""
        return key_of_group(self.vm_type, zip(self.models, self.rates, strict=True))

    def text(self) -> str:
        """Return the members as text, `bert@5` for five requests a second."""
        return " ".join(m if r is None else f"{m}@{r:g}" for m, r in self.key[1])


class DataSet:
    """The folder of a data set. Files that are there already are added to."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PlacerError(f"{folder}: cannot be made: {error.strerror}") from None
        self._lock: TextIO | None = None
        self._torn = False
        self._tag = secrets.token_hex(2)
        self._columns: dict[str, Sequence[str]] = {}
        self.runs = self._read("runs.csv", RUN_COLUMNS)
        kept = {row["run"] for row in self.runs if row["kept"] == "yes"}
        rows = self._read("measurements.csv", FORMAT_COLUMNS)
        self.rows = [row for row in rows if row["run"] in kept]
        if len(self.rows) < len(rows) or self._torn:  # cut off while it was written
            self._write("measurements.csv", self._columns["measurements.csv"], self.rows)
        if self._torn:
            self._write("runs.csv", self._columns["runs.csv"], self.runs)
        self.done = Counter(key_of(rows) for rows in by_run(self.rows).values())
        self._numbers = Counter(row["host"] for row in self.runs)
        self._saturated = {
            (r["vm_type"], r["models"]) for r in self.runs if r["reason"].startswith("saturated")
        }

    def lock(self) -> None:
        """Keep other campaigns out of the folder. Raises UsageError where one is at work."""
        import fcntl

        stream = (self.folder / ".lock").open("w")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            stream.close()
            raise UsageError(f"{self.folder}: another campaign is writing to this folder") from None
        self._lock = stream

    def unlock(self) -> None:
        """Let other campaigns write to the folder."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _read(self, name: str, columns: Sequence[str]) -> list[dict[str, str]]:
        file = self.folder / name
        if not file.exists():
            return []
        with file.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            found = list(reader.fieldnames or [])
            if not set(columns) <= set(found):
                absent = ", ".join(c for c in columns if c not in found)
                raise InputError(f"lacks the column(s) {absent}", source=str(file))
            self._columns[name] = found
            rows = list(reader)
        whole = [row for row in rows if None not in row.values()]
        self._torn |= len(whole) < len(rows)
        return whole

    def _write(self, name: str, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
        lines = [",".join(columns)] + [line(row, columns) for row in rows]
        write_text(self.folder / name, "\n".join(lines) + "\n")

    def next_run(self, host: str) -> str:
        """Return a name for a new run on a host, unlike any other, in other folders too."""
        self._numbers[host] += 1
        return f"{host}-{self._tag}-{self._numbers[host]:05d}"

    def add(self, run: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
        """Append a run and its rows; rows of a run that is not kept are left out."""
        texts = [{c: cell(row.get(c)) for c in COLUMNS} for row in rows]
        if run["kept"] == "yes":
            self._append("measurements.csv", COLUMNS, texts)
            self.rows += texts
            self.done[key_of(texts)] += 1
        logged = {c: cell(run.get(c)) for c in RUN_COLUMNS}
        self._append("runs.csv", RUN_COLUMNS, [logged])
        self.runs.append(logged)
        if logged["reason"].startswith("saturated"):
            self._saturated.add((logged["vm_type"], logged["models"]))

    def _append(self, name: str, columns: Sequence[str], rows: list[dict[str, str]]) -> None:
        file = self.folder / name
        columns = self._columns.setdefault(name, columns)
        text = "".join(line(row, columns) + "\n" for row in rows)
        if not file.exists():
            text = ",".join(columns) + "\n" + text
        with file.open("a", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())

    def describe(self, name: str, key: str, features: Mapping[str, Mapping[str, Any]]) -> None:
        """Add rows to models.csv or vm_types.csv. Raises InputError where one says otherwise."""
        file = self.folder / name
        known: dict[str, dict[str, str]] = {}
        if file.exists():
            with file.open(newline="", encoding="utf-8") as stream:
                known = {row.pop(key): row for row in csv.DictReader(stream)}
        for one, values in features.items():
            new = {column: cell(value) for column, value in values.items()}
            old = known.get(one, new)
            for column in sorted(old.keys() & new.keys()):
                if old[column] != new[column]:
                    raise InputError(
                        f"{one!r} has {column} {old[column]!r} there and {new[column]!r} here; "
                        f"what is not the same needs another name (for VM types: --label)",
                        source=str(file),
                    )
            known[one] = {**old, **new}
        columns = list(dict.fromkeys(c for values in known.values() for c in values))
        rows = [{key: one, **values} for one, values in known.items()]
        self._write(name, [key, *columns], rows)

    def describe_host(self, facts: Mapping[str, Any]) -> None:
        """Add a host to hosts.json: what it is, versions and the protocol."""
        file = self.folder / "hosts.json"
        known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        known[str(facts["host"])] = dict(facts)
        write_text(file, to_json(known))

    def thrown(self) -> Counter[str]:
        """Return how many runs were thrown away, by the kind of reason."""
        reasons = (row["reason"] for row in self.runs if row["kept"] != "yes")
        return Counter(reason.split(" ")[0] for reason in reasons)

    def solo_latencies(self) -> dict[tuple[str, str], float]:
        """Return by model and VM type the p50 latency in ms of its first closed-loop solo run."""
        found: dict[tuple[str, str], float] = {}
        for rows in by_run(self.rows).values():
            if len(rows) == 1 and not rows[0]["rate_rps"]:
                place = (rows[0]["model"], rows[0]["vm_type"])
                found.setdefault(place, float(rows[0]["latency_ms_p50"]))
        return found

    def saturated(self, group: Group) -> bool:
        """Say whether the group was found to be offered more than it can answer."""
        return (group.vm_type, group.text()) in self._saturated

    def merge(self, other: DataSet) -> int:
        """Add the runs of another data set that are not here yet; return how many were added.

        Solo references stay with their host, since a VM type belongs to one host. Raises
        InputError where a model or VM type of the same name is another one there.
        """
        for name, key in (("models.csv", "model"), ("vm_types.csv", "vm_type")):
            file = other.folder / name
            if file.exists():
                with file.open(newline="", encoding="utf-8") as stream:
                    table = {row.pop(key): row for row in csv.DictReader(stream)}
                self.describe(name, key, table)
        hosts = other.folder / "hosts.json"
        if hosts.exists():
            for facts in json.loads(hosts.read_text(encoding="utf-8")).values():
                self.describe_host(facts)
        here = {row["run"] for row in self.runs}
        rows = by_run(other.rows)
        new = [row for row in other.runs if row["run"] not in here]
        for row in new:
            self.add(row, rows.get(row["run"], []))
        return len(new)


def cell(value: Any) -> str:
    """Return a value as the text of a CSV cell, empty for None."""
    if value is None or value == "":
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def line(row: Mapping[str, Any], columns: Sequence[str]) -> str:
    """Return a row as a line of CSV."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="").writerow([cell(row.get(c)) for c in columns])
    return stream.getvalue()


def by_run(rows: Iterable[Mapping[str, str]]) -> dict[str, list[dict[str, str]]]:
    """Return the rows of each run."""
    found: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        found.setdefault(row["run"], []).append(dict(row))
    return found


def key_of(rows: Sequence[Mapping[str, str]]) -> Key:
    """Return the key of the group that the rows of one run measured."""
    rates = tuple(float(row["rate_rps"]) if row["rate_rps"] else None for row in rows)
    return Group(rows[0]["vm_type"], tuple(row["model"] for row in rows), rates).key
