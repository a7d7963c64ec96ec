"""Cuts and the tree over counts of VMs: every bound holds, and no group is lost that matters."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from brute_force import feasible_placements
from random_instances import random_instance

from placer import Instance
from placer.solvers import column_generation, count_branching
from placer.solvers.backend_highs import solve_with_highs
from placer.solvers.batch import compile_batch
from placer.solvers.column_generation import ColumnGeneration
from placer.solvers.count_branching import branch
from placer.solvers.enumeration import enumerate_groups
from placer.solvers.greedy import Greedy
from placer.solvers.group_costs import GroupCosts
from placer.solvers.growth import GrowthPricing
from placer.solvers.linear_bound import Leaf, LinearBound
from placer.solvers.listing import list_groups
from placer.solvers.master import Rows, integer_master
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
        parts = [leaf for leaf in linear.leaves if inside(leaf, vms, names)]
        assert len(parts) == 1
        assert parts[0].bound <= objective + TOLERANCE


@pytest.mark.parametrize("seed", range(40))
def test_the_master_of_a_leaf_ends_at_the_best_placement_in_it(seed: int) -> None:
    instance = random_instance(seed, max_replicas=6, kinds=5)
    found = bounded(instance, listed=True)
    if found is None:
        return
    run, _, linear = found
    run.bound = None  # a run that is done does not solve
    pool = enumerate_groups(run)
    assert pool is not None
    names = [vm_type.name for vm_type in instance.vm_types]
    placements = list(feasible_placements(instance))
    for leaf in linear.parts():
        rows = leaf.rows(Rows(run.batch))
        result = solve_with_highs(integer_master(rows, pool), run)
        best = min((cost for cost, vms in placements if inside(leaf, vms, names)), default=None)
        assert result.infeasible == (best is None)
        if best is not None:
            assert result.bound == pytest.approx(best, rel=1e-6, abs=1e-6)
            assert leaf.bound <= best + TOLERANCE


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("listed", [True, False])
def test_a_listing_has_for_each_cutoff_what_pricing_finds_below_it(seed: int, listed: bool) -> None:
    found = bounded(random_instance(seed, max_replicas=6, kinds=5), listed=listed)
    if found is None:
        return
    run, pricing, linear = found
    run.bound = None
    ceiling = linear.bound + 0.5 * abs(linear.bound) + 1.0
    listing = list_groups(run, pricing, linear, ceiling, 100_000)
    assert listing is not None
    cutoffs = listing.cutoffs(1)
    assert cutoffs == sorted(cutoffs)
    assert cutoffs[-1] == ceiling
    for cutoff in cutoffs:
        expected = linear.within_each(pricing, cutoff, 100_000)
        assert expected is not None
        parts = {id(leaf): set(groups.states()) for leaf, groups in listing.below(cutoff)}
        for leaf, groups in expected:
            assert set(groups.states()) <= parts[id(leaf)]
            wider = pricing.within(leaf.prices, cutoff + 1e-6 - leaf.bound, 100_000)
            assert wider is not None
            assert parts[id(leaf)] <= set(wider.states())
    assert list_groups(run, pricing, linear, ceiling, 1) is None or len(cutoffs) == 1


def inside(leaf: Leaf, vms: Iterable[tuple[str, object]], names: list[str]) -> bool:
    """Return whether a placement has as many VMs of each type, and in all, as the leaf asks."""
    types = [name for name, _ in vms]
    used = np.array([types.count(name) for name in names] + [len(types)])
    return bool((leaf.lower <= used).all() and (used <= leaf.upper).all())


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
