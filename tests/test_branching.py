"""Cuts and the tree over counts of VMs: every bound holds, and no group is lost that matters."""

from __future__ import annotations

import numpy as np
import pytest
from brute_force import feasible_placements
from random_instances import random_instance

from placer import Instance
from placer.solvers import column_generation, count_branching
from placer.solvers.batch import compile_batch
from placer.solvers.column_generation import ColumnGeneration
from placer.solvers.count_branching import branch
from placer.solvers.enumeration import enumerate_groups
from placer.solvers.greedy import Greedy
from placer.solvers.group_costs import GroupCosts
from placer.solvers.growth import GrowthPricing
from placer.solvers.linear_bound import LinearBound
from placer.solvers.master import Rows
from placer.solvers.pricing import PoolPricing, Pricing
from placer.solvers.run import Options, Run

TOLERANCE = 1e-6


def bounded(instance: Instance, *, listed: bool) -> tuple[Run, Pricing, LinearBound] | None:
    """Return the linear bound of `instance` with cuts and a tree, None where it is infeasible."""
    batch = compile_batch(instance)
    run = Run(batch, GroupCosts(batch), Options(gap=0.0))
    Greedy().solve(run)
    pool = enumerate_groups(run)
    assert pool is not None
    pricing: Pricing = PoolPricing(batch, pool) if listed else GrowthPricing(run)
    if run.best is None or not len(Rows(batch).kinds) or not len(pool):
        return None
    generation = ColumnGeneration(run, Rows(batch).counting(), pricing, cutting=True)
    linear = generation.solve()
    if linear is None or not linear.converged or linear.infeasible:
        return None
    return run, pricing, branch(run, generation, linear)


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("seed", range(60))
def test_every_leaf_bounds_the_placements_in_it(seed: int, listed: bool) -> None:
    instance = random_instance(seed, max_replicas=6, kinds=5)
    found = bounded(instance, listed=listed)
    if found is None:
        return
    run, _, linear = found
    names = [vm_type.name for vm_type in instance.vm_types]
    placements = list(feasible_placements(instance))
    optimum = min(objective for objective, _ in placements)
    assert run.bound is None or run.bound <= optimum + TOLERANCE
    assert linear.bound <= optimum + TOLERANCE
    for objective, vms in placements:
        used = np.array([sum(t == name for t, _ in vms) for name in names] + [len(vms)])
        inside = [
            leaf
            for leaf in linear.leaves
            if (leaf.lower <= used).all() and (used <= leaf.upper).all()
        ]
        assert len(inside) == 1
        assert inside[0].bound <= objective + TOLERANCE


@pytest.mark.parametrize("seed", range(40))
def test_the_groups_below_a_ceiling_are_enough_for_the_optimum(seed: int) -> None:
    instance = random_instance(seed, max_replicas=6, kinds=5, interference="pairwise")
    found = bounded(instance, listed=False)
    if found is None:
        return
    run, pricing, linear = found
    run.bound = None  # a run that is done looks for no more groups
    number = {m.name: k for k, m in enumerate(instance.models)}
    types = {v.name: t for t, v in enumerate(instance.vm_types)}
    placements = list(feasible_placements(instance))
    optimum = min(objective for objective, _ in placements)
    groups = linear.within(pricing, optimum + 1e-6, 100_000)
    assert groups is not None
    states = set(groups.states())
    best = [vms for objective, vms in placements if objective <= optimum + 1e-7]
    assert any(
        all((types[t], tuple(sorted(number[m] for m in group))) in states for t, group in vms)
        for vms in best
    )


def test_cuts_and_counts_raise_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three models of which any two fit: three halves of a VM cost as much as 1.5 whole ones."""
    instance = Instance.from_dict(
        {
            "vm_types": [{"name": "v", "capacity": {"cpu": 2}, "price": 1.0}],
            "models": [{"name": f"m{k}", "demand": {"cpu": 1}} for k in range(3)],
        }
    )
    monkeypatch.setattr(count_branching, "MOST_LEAVES", 1)
    monkeypatch.setattr(column_generation, "MOST_CUTS", 0)
    plain = bounded(instance, listed=True)
    monkeypatch.setattr(column_generation, "MOST_CUTS", 500)
    cut = bounded(instance, listed=True)
    monkeypatch.setattr(column_generation, "MOST_CUTS", 0)
    monkeypatch.setattr(count_branching, "MOST_LEAVES", 40)
    counted = bounded(instance, listed=True)
    bounds = [found[2].bound for found in (plain, cut, counted) if found is not None]
    assert bounds == pytest.approx([1.5, 2.0, 2.0])
