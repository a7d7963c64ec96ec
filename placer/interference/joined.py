"""Several folders of measurements as one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from placer.errors import InputError
from placer.interference.measurements import PROFILE, Measurements, read_measurements

if TYPE_CHECKING:
    import pandas as pd


def read_folders(folders: Sequence[str | Path]) -> Measurements:
    """Read measurement folders and join them; slowdowns stay relative to each folder's solo runs.

    Raises InputError for a fault in a folder, or a model or VM type that two describe differently.
    """
    parts = [read_measurements(folder) for folder in folders]
    return parts[0] if len(parts) == 1 else joined(parts)


def joined(parts: Sequence[Measurements]) -> Measurements:
    """Return the measurements of all parts; runs are named for their part where names collide."""
    import pandas as pd

    names = [name for part in parts for name in set(part.rows["run"])]
    collide = len(names) > len(set(names))
    rows = [
        part.rows.assign(run=f"{place}/" + part.rows["run"]) if collide else part.rows
        for place, part in enumerate(parts)
    ]
    solo = pd.concat([part.solo for part in parts], ignore_index=True)
    key = [solo["vm_type"], solo["model"], solo["rate_rps"].fillna(-1.0)]
    medians = solo.groupby(key)[list(PROFILE)].median().reset_index()
    medians["rate_rps"] = medians["rate_rps"].where(medians["rate_rps"] >= 0)
    return Measurements(
        " + ".join(part.source for part in parts),
        pd.concat(rows, ignore_index=True),
        medians,
        one_table([part.models for part in parts], [part.source for part in parts], "models.csv"),
        one_table([p.vm_types for p in parts], [p.source for p in parts], "vm_types.csv"),
    )


def one_table(tables: Sequence[pd.DataFrame], sources: Sequence[str], file: str) -> pd.DataFrame:
    """Return the features of all tables. Raises InputError where two say different things."""
    whole = tables[0]
    for table, source in zip(tables[1:], sources[1:], strict=True):
        for name in table.index.intersection(whole.index):
            for column in table.columns.intersection(whole.columns):
                mine, other = whole.loc[name, column], table.loc[name, column]
                if mine != other and not (mine is None and other is None) and mine == mine:
                    raise InputError(
                        f"{name!r} has {column} '{other}' here and '{mine}' in {sources[0]}",
                        source=f"{source}/{file}",
                    )
        whole = whole.combine_first(table)
    return whole
