"""What a sweep shows: shifted geometric means, gaps and wins by solver and variant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

SHIFT = 1.0
"""Seconds added before the geometric mean, so that tiny times do not rule it (SGM, Achterberg)."""

GAP_SHIFT = 1e-4
SAME = 1e-9


def shifted_geometric_mean(values: NDArray[np.float64], shift: float) -> float:
    """Return exp(mean(log(values + shift))) - shift, NaN for no values."""
    if not len(values):
        return float("nan")
    return float(np.exp(np.log(values + shift).mean()) - shift)


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a line for each solver and variant.

    cells, placed, proved and errors are counts; seconds a shifted geometric mean over all cells
    that ended by themselves; gap % the mean, and shifted geometric mean, of proven gaps; above
    best % the mean of objective over the best known of the same instance; wins how many instances
    and seeds no other line has a lower objective for.
    """
    import pandas as pd

    rows = rows.copy()
    for name in ("objective", "gap", "seconds", "peak_mib"):
        rows[name] = pd.to_numeric(rows[name]) if name in rows else np.nan
    best = rows.groupby("instance")["objective"].transform("min")
    size = np.maximum(best.abs(), 1e-9)
    rows["above"] = (rows["objective"] - best) / size
    case_best = rows.groupby(["instance", "seed"])["objective"].transform("min")
    rows["win"] = rows["objective"] <= case_best + SAME * np.maximum(case_best.abs(), 1.0)
    lines = []
    for (solver, options), part in rows.groupby(["solver", "options"], sort=False):
        gaps = part["gap"].dropna().to_numpy(dtype=float)
        times = part.loc[part["status"] != "error", "seconds"].dropna().to_numpy(dtype=float)
        lines.append(
            {
                "solver": solver,
                "options": options,
                "cells": len(part),
                "placed": int(part["objective"].notna().sum()),
                "proved": int(part["status"].isin(["optimal", "infeasible"]).sum()),
                "errors": int((part["status"] == "error").sum()),
                "seconds (sgm)": shifted_geometric_mean(times, SHIFT),
                "gap % (mean)": 100 * float(gaps.mean()) if len(gaps) else np.nan,
                "gap % (sgm)": 100 * shifted_geometric_mean(np.maximum(gaps, 0), GAP_SHIFT),
                "above best %": 100 * float(part["above"].mean()),
                "wins": int(part["win"].sum()),
                "peak MiB": float(part["peak_mib"].max()),
            }
        )
    return pd.DataFrame(lines)
