"""Reads a folder of measurements and turns latencies into slowdowns."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from placer.errors import InputError, near_name

if TYPE_CHECKING:
    import pandas as pd

REQUIRED = ("run", "vm_type", "model", "latency_ms_p50")
NUMBERS = (
    "rate_rps",
    "latency_ms_p50",
    "latency_ms_p95",
    "latency_ms_p99",
    "throughput_rps",
    "requests",
    "cpu_util",
    "memory_mib",
)
POSITIVE = ("rate_rps", "latency_ms_p50", "latency_ms_p95", "latency_ms_p99")
COLUMNS = ("run", "vm_type", "model", *NUMBERS, "source")
LARGEST = 1e30  # a code such as 12e45 is a name, though it reads as a number
PROFILE = ("latency_ms_p50", "throughput_rps", "cpu_util", "memory_mib")


@dataclass(frozen=True)
class Measurements:
    """Measured runs with the slowdown of each replica.

    `rows` has one row for each replica in each run: run, vm_type, model, rate_rps (NaN is closed
    loop), degree (replicas in the run), slowdown (NaN where the latency was not measured),
    solo_latency_ms and configuration (VM type and multiset of models with their rates, as text)
    and mix (that multiset alone). `solo` has one row for each vm_type, model and rate_rps that
    ran alone: the medians of latency_ms_p50 (ms), throughput_rps, cpu_util and memory_mib.
    `models` and `vm_types` hold the static features, indexed by name.
    """

    source: str
    rows: pd.DataFrame
    solo: pd.DataFrame
    models: pd.DataFrame
    vm_types: pd.DataFrame

    def targets(self) -> pd.DataFrame:
        """Return the rows of shared runs that have a slowdown, each model of a run once.

        Replicas of one model in one run are repeats of one observation: their slowdowns are
        replaced by their median and they count once.
        """
        import pandas as pd

        shared = self.rows[(self.rows["degree"] > 1) & self.rows["slowdown"].notna()]
        key = [shared["run"], shared["model"], shared["rate_rps"].fillna(-1.0)]
        median = shared["slowdown"].groupby(key).transform("median")
        first = ~pd.concat(key, axis=1).duplicated()
        return shared.assign(slowdown=median)[first].reset_index(drop=True)

    def with_runs(self, runs: Iterable[str]) -> Measurements:
        """Return the same with only these shared runs; every solo run stays."""
        keep = self.rows["run"].isin(list(runs)) | (self.rows["degree"] == 1)
        return replace(self, rows=self.rows[keep].reset_index(drop=True))


@dataclass(frozen=True)
class Known:
    """What a predictor remembers of its training data: static features and solo medians.

    `solo` maps a model to the entries that were measured: vm_type, rate_rps (None is closed
    loop), latency_ms_p50, throughput_rps, cpu_util, memory_mib (None where not measured).
    """

    models: dict[str, dict[str, Any]]
    vm_types: dict[str, dict[str, Any]]
    solo: dict[str, list[dict[str, Any]]]

    @staticmethod
    def of(measurements: Measurements) -> Known:
        """Take the features and solo runs of a measurement folder."""
        tables: list[dict[str, dict[str, Any]]] = []
        for table in (measurements.models, measurements.vm_types):
            columns = {name: table[name].tolist() for name in table}
            tables.append(
                {
                    str(name): {str(c): plain(values[place]) for c, values in columns.items()}
                    for place, name in enumerate(table.index)
                }
            )
        solo: dict[str, list[dict[str, Any]]] = {}
        for entry in measurements.solo.to_dict("records"):
            name = str(entry.pop("model"))
            solo.setdefault(name, []).append({str(k): plain(v) for k, v in entry.items()})
        return Known(tables[0], tables[1], solo)

    def with_others(self, other: Known) -> Known:
        """Return the same with the models, VM types and solo runs that only `other` has."""
        solo = {name: list(entries) for name, entries in self.solo.items()}
        for name, entries in other.solo.items():
            mine = {(entry["vm_type"], entry["rate_rps"]) for entry in solo.get(name, [])}
            solo.setdefault(name, []).extend(
                e for e in entries if (e["vm_type"], e["rate_rps"]) not in mine
            )
        return Known({**other.models, **self.models}, {**other.vm_types, **self.vm_types}, solo)

    def nearest(self, name: str, rate: float | None) -> dict[str, dict[str, Any]]:
        """Return the solo entry on each VM type that is nearest to a rate (None: closed loop)."""
        wanted = math.inf if rate is None else rate
        best: dict[str, tuple[float, dict[str, Any]]] = {}
        for entry in self.solo.get(name, []):
            if entry["latency_ms_p50"] is None:
                continue
            found = math.inf if entry["rate_rps"] is None else entry["rate_rps"]
            if found == wanted:
                distance = 0.0
            elif math.isinf(found):
                distance = 1e6
            elif math.isinf(wanted):
                distance = 1.0 / found
            else:
                distance = abs(math.log(found / wanted))
            if entry["vm_type"] not in best or distance < best[entry["vm_type"]][0]:
                best[entry["vm_type"]] = (distance, entry)
        return {vm: entry for vm, (_, entry) in best.items()}


def plain(value: Any) -> Any:
    """Return a table cell as JSON data: numbers as floats, text, or None where empty."""
    if value is None or isinstance(value, str):
        return value
    return None if math.isnan(value) else float(value)


def read_measurements(folder: str | Path) -> Measurements:
    """Read measurements.csv (or .parquet), models.csv and vm_types.csv of a folder.

    Raises InputError with the file, row and column of the first fault.
    """
    folder = Path(folder)
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "does not exist"
        raise InputError(
            f"{found}; expected a folder with measurements.csv, models.csv and vm_types.csv",
            source=str(folder),
        )
    name = "measurements.csv"
    if not (folder / name).exists() and (folder / "measurements.parquet").exists():
        name = "measurements.parquet"
    try:
        raw = read_table(folder / name)
        return from_tables(
            raw,
            read_table(folder / "models.csv"),
            read_table(folder / "vm_types.csv"),
            names=(name, "models.csv", "vm_types.csv"),
            source=str(folder),
        )
    except InputError as error:
        where = error.source or ""
        prefix = "" if where.startswith(str(folder)) else f"{folder}/"
        raise InputError(error.message, path=error.path, source=f"{prefix}{where}") from None


def read_table(path: Path | Any, source: str | None = None) -> pd.DataFrame:
    """Read a CSV or Parquet table, every cell as text or None; the index is the file's row.

    The header of a CSV file is row 1. Raises InputError where there is no such table.
    """
    import pandas as pd

    source = source or str(path)
    try:
        if str(path).endswith(".parquet"):
            table = pd.read_parquet(path)
            table.index = pd.RangeIndex(1, len(table) + 1)
            return table.astype(object).where(table.notna(), None)
        table = pd.read_csv(
            path, dtype=str, keep_default_na=False, na_values=[""], skip_blank_lines=False
        )
    except FileNotFoundError:
        raise InputError("there is no such file", source=source) from None
    except (OSError, ValueError, pd.errors.ParserError) as error:
        text = " ".join(str(error).split())
        raise InputError(f"cannot be read as a table: {text}", source=source) from None
    table.columns = [str(column).strip() for column in table.columns]
    table.index = pd.RangeIndex(2, len(table) + 2)
    table = table.astype(object).where(table.notna(), None)
    return table.dropna(how="all")


def from_tables(
    raw: pd.DataFrame,
    models: pd.DataFrame,
    vm_types: pd.DataFrame,
    *,
    names: Sequence[str] = ("measurements", "models", "vm_types"),
    source: str = "measurements",
) -> Measurements:
    """Validate three tables as `read_table` gives them and compute the slowdowns.

    Raises InputError that names the table, row and column.
    """
    table = check_rows(raw, names[0])
    model_table = feature_table(models, "model", names[1])
    vm_table = feature_table(vm_types, "vm_type", names[2])
    for column, known, file in (
        ("model", model_table.index, names[1]),
        ("vm_type", vm_table.index, names[2]),
    ):
        strange = table[~table[column].isin(known)]
        if len(strange):
            name = str(strange[column].iloc[0])
            raise InputError(
                f"{name!r} is not in {file}{near_name(name, map(str, known))}",
                path=f"row {strange.index[0]}, column {column}",
                source=names[0],
            )
    rows, solo = compute_slowdowns(table, names[0])
    return Measurements(source, rows, solo, model_table, vm_table)


def check_columns(
    table: pd.DataFrame, required: Sequence[str], known: Sequence[str], source: str
) -> None:
    """Raise InputError where a required column is missing or a known one is misspelled."""
    present = [str(column) for column in table.columns]
    strange = [column for column in present if column not in known]
    for column in known:
        if column in present:
            continue
        guess = near_name(column, strange)
        if column in required:
            raise InputError(
                f"column {column!r} is missing; found {', '.join(present) or 'none'}"
                + guess.replace("did you mean", "is it spelled"),
                source=source,
            )
    missing = [column for column in known if column not in present]
    for column in strange:
        guess = near_name(column, missing)
        if guess:
            raise InputError(f"unknown column {column!r}{guess}", source=source)


def check_rows(
    raw: pd.DataFrame,
    source: str,
    *,
    required: Sequence[str] = REQUIRED,
    known: Sequence[str] = COLUMNS,
) -> pd.DataFrame:
    """Return the table with numbers as floats (NaN = not measured) and names as text."""
    check_columns(raw, required, known, source)
    if raw.empty:
        raise InputError("has no rows", source=source)
    table = raw.copy()
    for column in ("run", "vm_type", "model"):
        empty = table[column].isna()
        if empty.any():
            raise InputError(
                "is empty; expected a name",
                path=f"row {table.index[empty][0]}, column {column}",
                source=source,
            )
        table[column] = table[column].astype(str)
    for column in NUMBERS:
        if column in known:
            if column in table:
                table[column] = numbers(table[column], column, source)
            else:
                table[column] = np.nan
    spread = table.groupby("run")["vm_type"].transform("nunique")
    if (spread > 1).any():
        row = table.index[spread > 1][0]
        raise InputError(
            f"run {table.loc[row, 'run']!r} has rows on more than one VM type; the rows of a run "
            "share one VM",
            path=f"row {row}, column vm_type",
            source=source,
        )
    return table


def numbers(cells: pd.Series, column: str, source: str) -> pd.Series:
    """Convert a column to floats; empty cells become NaN, anything else must be a number."""
    import pandas as pd

    values = pd.to_numeric(cells, errors="coerce").astype(float)
    least = "greater than 0" if column in POSITIVE else "0 or more"
    wrong = cells.notna() & ~np.isfinite(values)
    wrong |= (values <= 0) if column in POSITIVE else (values < 0)
    if wrong.any():
        row = cells.index[wrong][0]
        raise InputError(
            f"found {str(cells[row])!r}; expected a finite number {least}, or nothing where it "
            "was not measured",
            path=f"row {row}, column {column}",
            source=source,
        )
    return values


def feature_table(raw: pd.DataFrame, key: str, source: str) -> pd.DataFrame:
    """Return static features indexed by name: float columns, and text columns as objects."""
    import pandas as pd

    check_columns(raw, (key,), (key,), source)
    names = raw[key]
    for wrong, problem in ((names.isna(), "is empty"), (names.duplicated(), "is listed twice")):
        if wrong.any():
            row = raw.index[wrong][0]
            found = "" if names[row] is None else f"{str(names[row])!r} "
            raise InputError(f"{found}{problem}", path=f"row {row}, column {key}", source=source)
    table = pd.DataFrame(index=pd.Index(names.astype(str), name=key))
    for column in raw.columns:
        if column == key:
            continue
        values = pd.to_numeric(raw[column], errors="coerce").astype(float)
        numeric = bool(((values.abs() < LARGEST) | raw[column].isna()).all())
        cells = values if numeric else raw[column].map(lambda x: None if x is None else str(x))
        table[str(column)] = cells.to_numpy(dtype=float if numeric else object)
    return table


def compute_slowdowns(table: pd.DataFrame, source: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows with degree and slowdown, and the solo medians; see `Measurements`."""
    rows = table.copy()
    rows["degree"] = rows.groupby("run")["run"].transform("size").astype(int)
    # A null rate is closed loop: -1 stands for it because a join does not match NaN reliably.
    rows["rate_key"] = rows["rate_rps"].fillna(-1.0)
    key = ["vm_type", "model", "rate_key"]
    alone = rows[(rows["degree"] == 1) & rows["latency_ms_p50"].notna()]
    solo = alone.groupby(key)[list(PROFILE)].median()
    reference = solo["latency_ms_p50"].rename("solo_latency_ms")
    rows = rows.join(reference, on=key)
    lost = (rows["degree"] > 1) & rows["latency_ms_p50"].notna() & rows["solo_latency_ms"].isna()
    if lost.any():
        row = rows.index[lost][0]
        rate = rows.loc[row, "rate_rps"]
        load = "closed loop (empty rate_rps)" if np.isnan(rate) else f"rate_rps {rate:g}"
        raise InputError(
            f"model {rows.loc[row, 'model']!r} has no solo run on {rows.loc[row, 'vm_type']!r} at "
            f"{load}; a slowdown needs a run of that one row",
            path=f"row {row}",
            source=source,
        )
    rows["slowdown"] = rows["latency_ms_p50"] / rows["solo_latency_ms"]
    member = rows["model"] + rows["rate_rps"].map(lambda x: "" if np.isnan(x) else f"@{x:g}")
    rows["mix"] = member.groupby(rows["run"]).transform(lambda names: " + ".join(sorted(names)))
    rows["configuration"] = rows["vm_type"] + ": " + rows["mix"]
    kept = [
        "run",
        "vm_type",
        "model",
        "rate_rps",
        "degree",
        "slowdown",
        "solo_latency_ms",
        "configuration",
        "mix",
        "latency_ms_p50",
    ]
    solo = solo.reset_index()
    solo["rate_rps"] = solo.pop("rate_key").replace(-1.0, np.nan)
    return rows[kept].reset_index(drop=True), solo
