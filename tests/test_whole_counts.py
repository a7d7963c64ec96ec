"""Numbers of VMs are whole before a dive begins, where that leaves every replica a place."""

from __future__ import annotations

import numpy as np
import pytest
from random_instances import random_instance

from placer.solvers.backend_highs import LinearMaster, cost_scale
from placer.solvers.batch import compile_batch
from placer.solvers.column_generation import LACKING
from placer.solvers.columns import Columns, numbers_of_vms
from placer.solvers.enumeration import enumerate_groups
from placer.solvers.group_costs import GroupCosts
from placer.solvers.master import Rows
from placer.solvers.run import Options, Run
from placer.solvers.whole_counts import make_counts_whole

MOST = 100_000


def master_over(rows: Rows, columns: Columns) -> LinearMaster:
    """Return the linear master over all groups of a batch."""
    master = LinearMaster(rows.lower, rows.upper, cost_scale(columns.cost))
    entries, cost, upper = rows.other_entries()
    master.add(cost, upper, entries.row, entries.column, entries.value)
    entries = rows.group_entries(columns)
    endless = np.full(len(columns), np.inf)
    master.add(columns.cost, endless, entries.row, entries.column, entries.value)
    master.charge(10.0 * float(np.abs(columns.cost).max(initial=1.0)))
    return master


@pytest.mark.parametrize("seed", range(60))
def test_numbers_are_whole_where_all_have_a_place(seed: int) -> None:
    instance = random_instance(seed, max_replicas=6)
    batch = compile_batch(instance)
    run = Run(batch, GroupCosts(batch), Options())
    rows = Rows(batch).counting()
    columns = enumerate_groups(run, MOST)
    if columns is None or not len(columns):
        return
    master = master_over(rows, columns)
    before = master.solve(run)
    settled = make_counts_whole(run, rows, master, columns.vm_type)
    after = master.solve(run)
    assert before is not None
    assert after is not None
    if before[2] > LACKING:
        return
    assert after[2] <= LACKING
    assert after[0] >= before[0] - 1e-6
    used = numbers_of_vms(columns.vm_type, master.values()[-len(columns) :], batch.types)
    lower, upper = settled.counts
    assert (used >= lower - 1e-6).all()
    assert (used <= upper + 1e-6).all()
    whole = lower == upper
    assert (lower[whole] == np.rint(lower[whole])).all()
    assert whole.any() or (upper == rows.counts[1]).all()


def test_a_part_of_a_vm_is_settled_mostly() -> None:
    """By one VM more or less; where that leaves a replica without a place, nothing is."""
    settled = parts = 0
    for seed in range(80):
        instance = random_instance(seed, max_replicas=7, interference="pairwise")
        batch = compile_batch(instance)
        run = Run(batch, GroupCosts(batch), Options())
        columns = enumerate_groups(run, MOST)
        if columns is None or not len(columns):
            continue
        rows = Rows(batch).counting()
        master = master_over(rows, columns)
        solved = master.solve(run)
        assert solved is not None
        values = master.values()[-len(columns) :]
        used = numbers_of_vms(columns.vm_type, values, batch.types)[-1]
        if solved[2] > LACKING or abs(used - np.rint(used)) < 1e-6:
            continue
        parts += 1
        limits = make_counts_whole(run, rows, master, columns.vm_type).counts
        assert limits[0][-1] in (0.0, np.floor(used), np.ceil(used))
        settled += limits[0][-1] == limits[1][-1]
    assert parts > 5
    assert settled > 0.5 * parts
