"""A placement led by the aggregate bound: take its VMs, fill them one by one, largest first.

The relaxation says which VMs a cheap placement would use. Each is filled by the group that uses
it best at prices that grow faster than size, so that large replicas are not left for the end;
what finds no room is placed greedily. It serves batches whose VMs hold many replicas, where
one-by-one greedy leaves a lot of capacity in scraps.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from placer.solvers.backend_highs import solve_with_highs
from placer.solvers.columns import Prices
from placer.solvers.fleet import CostMemo, Fleet
from placer.solvers.frontier import Ground
from placer.solvers.greedy import Plan, by_size, construct
from placer.solvers.group_costs import most_members
from placer.solvers.group_search import GroupSearch
from placer.solvers.relaxation import aggregate_program
from placer.solvers.run import Run, State

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

SLACKS = (0.0, 0.01)
POWERS = (1.3, 1.15)
ROUNDS = 2
URGE = 1.0
WIDTH = 2
CLOSE_ENOUGH = 0.004
RELAXATION_SECONDS = 5.0
MOST_VMS = 1_000
"""More VMs than this are not filled one by one: columns serve such batches better."""

FEW_MEMBERS = 6
"""Where no VM holds more replicas than this, capacity in scraps is not what matters."""


def fill_guided(run: Run) -> None:
    """Offer placements filled along the relaxation, until one is close to the bound."""
    if max(most_members(run.batch, t) for t in range(run.batch.types)) <= FEW_MEMBERS:
        return
    ground, memo = Ground.of(run), CostMemo(run.costs)
    for slack in SLACKS:
        with run.at_most(RELAXATION_SECONDS):
            relaxed = solve_with_highs(aggregate_program(run, slack), run)
        if relaxed.values is None:
            continue
        vms = relaxed.values[: run.batch.types]
        if vms.sum() > MOST_VMS:
            return
        for power in POWERS:
            worth = _worth(run, vms, power)
            for _ in range(ROUNDS):
                fleet = Fleet(run.batch, memo)
                fleet.load(_fill(ground, vms, worth))
                left = fleet.remaining.copy()
                filled = construct(run, Plan(by_size(run.batch)), memo, fleet).assignment()
                run.promising.update(dict.fromkeys(filled))
                run.offer(filled)
                gap = run.gap()
                if run.should_stop() or (gap is not None and gap <= CLOSE_ENOUGH):
                    return
                worth = worth * (1.0 + URGE * left / np.maximum(run.batch.replicas, 1))


def _worth(run: Run, vms: Ints, power: float) -> Floats:
    """Return what placing one replica of each kind is worth (K,), more than in step with size."""
    batch = run.batch
    finite = np.isfinite(batch.capacity).all(axis=0)
    supply = vms @ batch.capacity[:, finite]
    demand = batch.demand[:, :, finite].mean(axis=0)
    scarcity = np.divide(
        batch.replicas @ demand, supply, out=np.zeros(len(supply)), where=supply > 0
    )
    each = supply / max(1, vms.sum())
    share = np.divide(demand, each, out=np.zeros_like(demand), where=each > 0)
    size = 1e-6 + (share * scarcity**2).sum(axis=1)
    total = run.objective if run.objective is not None else run.bound
    scale = max(abs(total or 0.0), 1.0) * 2.0 / max(float(batch.replicas @ size), 1e-9)
    worth: Floats = scale * size**power / max(float(size.mean()), 1e-9) ** (power - 1.0)
    return worth


def _fill(ground: Ground, vms: Ints, worth: Floats) -> dict[State, int]:
    """Return the VMs with their groups, chosen one by one from the replicas that are left."""
    batch = ground.batch
    left = batch.replicas.copy()
    filled: dict[State, int] = {}
    prices = Prices(worth, np.zeros(batch.types), np.zeros(len(batch.together)), 0.0)
    scale = np.where(np.isfinite(batch.capacity), batch.capacity, 0.0)
    largest = (scale / np.maximum(scale.max(axis=0), 1e-12)).sum(axis=1)
    for t in np.argsort(-largest, kind="stable").tolist():
        rates: Floats | None = None
        for _ in range(int(vms[t])):
            if ground.run.should_stop():
                return filled
            rest = replace(ground, batch=replace(batch, replicas=left))
            search = GroupSearch(rest, t, prices, rates=rates)
            rates = search.rates
            search.seed(WIDTH, np.inf)
            group = search.best_group()
            if group is None:
                break
            filled[t, group] = filled.get((t, group), 0) + 1
            left = left - np.bincount(group, minlength=batch.kinds)
    return filled
