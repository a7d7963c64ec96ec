"""Numbers of VMs made whole in a linear master, before a dive fixes anything.

A master that may use a fifth of a VM leaves it to the last replicas of a dive to do without, and
there that costs a whole VM. At the root it costs next to nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from placer.solvers.backend_highs import LinearMaster
from placer.solvers.columns import numbers_of_vms
from placer.solvers.count_branching import most_fractional
from placer.solvers.master import Rows
from placer.solvers.run import Run

LACKING = 1e-7
"""What lacks a place where so many VMs are too few or too many."""

DOUBTFUL = 0.25
"""How far from halfway to the next whole number of VMs chance decides between the two."""


def make_counts_whole(
    run: Run,
    rows: Rows,
    master: LinearMaster,
    vm_type: NDArray[np.int32],
    rng: np.random.Generator | None = None,
) -> Rows:
    """Settle how many VMs there are in all, then of each type that is used in parts.

    rows: they count VMs (`Rows.counting`); vm_type (n,): of the master's last n columns. Return the
    rows with what is settled, which the master then has too.
    """
    number: int | None = run.batch.types
    while number is not None and master.solve(run) is not None:
        used = numbers_of_vms(vm_type, master.values()[-len(vm_type) :], run.batch.types)
        settled = _settled(rows, number, used[number], rng)
        master.change_rows(settled.lower, settled.upper)
        solved = master.solve(run)
        if solved is None or solved[2] > LACKING:
            master.change_rows(rows.lower, rows.upper)
            break
        rows = settled
        used = numbers_of_vms(vm_type, master.values()[-len(vm_type) :], run.batch.types)
        number = most_fractional(used)
    return rows


def _settled(rows: Rows, number: int, used: float, rng: np.random.Generator | None) -> Rows:
    """Return the rows with one number of VMs as a whole one next to what is `used`."""
    doubt = 0.0 if rng is None else rng.uniform(-DOUBTFUL, DOUBTFUL)
    lower, upper = (limit.copy() for limit in rows.counts)
    whole = np.clip(np.floor(used + 0.5 + doubt), lower[number], upper[number])
    lower[number] = upper[number] = whole
    return rows.counting(lower, upper)
