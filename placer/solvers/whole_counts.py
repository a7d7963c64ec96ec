"""Numbers of VMs made whole in a linear master, before a dive fixes anything.

A master that may use a fifth of a VM leaves it to the last replicas of a dive to do without, and
there that costs a whole VM. At the root it costs next to nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from placer.solvers.backend_highs import LinearMaster
from placer.solvers.column_generation import LACKING
from placer.solvers.columns import numbers_of_vms
from placer.solvers.count_branching import most_fractional
from placer.solvers.master import Rows
from placer.solvers.run import Run

Floats = NDArray[np.float64]

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
    used = _used(run, master, vm_type)
    while used is not None and number is not None:
        settled = _settled(rows, number, used[number], rng)
        master.change_rows(settled.lower, settled.upper)
        used = _used(run, master, vm_type)
        if used is None:
            master.change_rows(rows.lower, rows.upper)
        else:
            rows, number = settled, most_fractional(used)
    return rows


def _used(run: Run, master: LinearMaster, vm_type: NDArray[np.int32]) -> Floats | None:
    """Return how many VMs the master uses (T + 1,), None where it stops or a replica lacks one."""
    solved = master.solve(run)
    if solved is None or solved[2] > LACKING:
        return None
    return numbers_of_vms(vm_type, master.values()[-len(vm_type) :], run.batch.types)


def _settled(rows: Rows, number: int, used: float, rng: np.random.Generator | None) -> Rows:
    """Return the rows with one number of VMs as a whole one next to what is `used`."""
    doubt = 0.0 if rng is None else rng.uniform(-DOUBTFUL, DOUBTFUL)
    lower, upper = (limit.copy() for limit in rows.counts)
    whole = np.clip(np.floor(used + 0.5 + doubt), lower[number], upper[number])
    lower[number] = upper[number] = whole
    return rows.counting(lower, upper)
