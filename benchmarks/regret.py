"""Regret of placement policies over the oracle: one row for each solve, one table for all.

The true cost of a placement is its objective under the measured slowdowns, whatever the policy
saw. Regret is true cost / the oracle's true cost - 1, batch by batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from placer import Instance, Placement, score

if TYPE_CHECKING:
    import pandas as pd

ORACLE = "oracle"
FITTED = "auto, trained on all"
HEAD = (
    f"  {'policy':26} {'believed%':>9} {'degradation':>11} {'sum':>10} {'over best%':>10} "
    f"{'mean%':>7} {'median%':>7} {'90th%':>7} {'worst%':>7} {'by fit%':>7} "
    f"{'ms/solve':>8} {'proven':>7} {'batches':>7}"
)
LEGEND = (
    "believed: degradation that the policy foresaw for its own placements over the measured one, "
    "less 1;\ndegradation: measured sum of slowdown - 1; sum: true costs, over best: theirs over "
    "the oracle's;\nmean, median, 90th percentile, worst: regret of single batches; by fit: mean "
    "regret if what was\nfitted to all groups were true, which nobody measured."
)


def judge(
    policy: str, placement: Placement, truth: Instance, seconds: float
) -> dict[str, Any] | None:
    """Return what the measured slowdowns make of a placement of the whole batch, as one row.

    None where there is no such placement, or one with a group that was not measured.
    """
    if not placement.vms or placement.unplaced:
        return None
    judged = score(truth, placement.assignment())
    measured = [replica.slowdown - 1.0 for vm in judged.vms if vm for replica in vm.replicas]
    told = [replica.slowdown for vm in placement.vms for replica in vm.models]
    if len(measured) < len(told):
        return None
    believed = measured if None in told else [slowdown - 1.0 for slowdown in told if slowdown]
    return {
        "policy": policy,
        "value": judged.objective,
        "expected": placement.objective,
        "price": judged.terms["price"],
        "degradation": float(np.sum(measured)),
        "believed": float(np.sum(believed)),
        "status": placement.status.value,
        "seconds": seconds,
    }


def with_regret(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of one setting with their regret; `table` has batch, policy, value."""
    best = table[table["policy"] == ORACLE].set_index("batch")["value"]
    least = table["batch"].map(best)
    regret = (table["value"] - least) / least.clip(lower=1e-9)
    table = table.assign(oracle=least, regret=regret.clip(lower=0.0), fit_regret=np.nan)
    if "by_fit" in table:
        best = table[table["policy"] == FITTED].set_index("batch")["by_fit"]
        table["fit_regret"] = table["by_fit"] / table["batch"].map(best) - 1.0
    return table


def percent(share: float) -> str:
    """Return a share in percent, a dash where it is not known."""
    return "-" if np.isnan(share) else f"{100.0 * max(0.0, share):.2f}"


def show(table: pd.DataFrame, policies: Sequence[str]) -> None:
    """Print one line for each policy of one setting, from the rows of `with_regret`."""
    for policy in policies:
        mine = table[table["policy"] == policy]
        if mine.empty:
            continue
        regret, above = 100.0 * mine["regret"], mine["value"].sum() / mine["oracle"].sum() - 1.0
        bias = 100.0 * (mine["believed"].sum() / mine["degradation"].sum() - 1.0)
        print(
            f"  {policy:26} {'-' if abs(bias) < 1e-6 else format(bias, '+.1f'):>9} "
            f"{mine['degradation'].sum():11.2f} {mine['value'].sum():10.2f} "
            f"{100.0 * max(0.0, above):10.2f} "
            f"{regret.mean():7.2f} {regret.median():7.2f} {regret.quantile(0.9):7.2f} "
            f"{regret.max():7.2f} {percent(mine['fit_regret'].mean()):>7} "
            f"{1000.0 * mine['seconds'].mean():8.1f} "
            f"{(mine['status'] == 'optimal').mean():7.0%} {len(mine):7d}",
            flush=True,
        )
