"""What a pricing that is left unfinished still bounds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from brute_force import brute_force
from random_instances import random_instance

from placer.solvers import pair_search
from placer.solvers.batch import compile_batch
from placer.solvers.column_generation import ColumnGeneration
from placer.solvers.enumeration import enumerate_groups
from placer.solvers.greedy import Greedy
from placer.solvers.group_costs import GroupCosts
from placer.solvers.growth import GrowthPricing
from placer.solvers.master import Rows
from placer.solvers.run import Options, Run

TOLERANCE = 1e-6


def run_of(seed: int, time_limit: float | None = None) -> Run:
    instance = random_instance(seed, max_replicas=6, kinds=5, interference="pairwise")
    batch = compile_batch(instance)
    return Run(batch, GroupCosts(batch), Options(gap=0.0, time_limit=time_limit))


@pytest.mark.parametrize("seed", range(60))
def test_no_group_is_below_what_is_said_of_its_members(seed: int) -> None:
    run = run_of(seed)
    pool = enumerate_groups(run)
    assert pool is not None
    pricing, rows = GrowthPricing(run), Rows(run.batch)
    if not len(pool) or not len(rows.kinds):
        return
    rng = np.random.default_rng(seed)
    prices = rows.prices(np.zeros(rows.count))
    prices = replace(prices, kind=rng.uniform(0, 1.5, run.batch.kinds) * pool.cost.mean())
    reduced, size = pool.cost - prices.worth(pool), (pool.groups >= 0).sum(axis=1)
    assert min(0.0, pricing.by_member(prices)) <= (reduced / size).min() + TOLERANCE


@pytest.mark.parametrize("seed", range(60))
def test_a_pricing_that_never_ends_has_a_bound(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_search, "HASTY_NODES", 0)
    monkeypatch.setattr(pair_search, "NODES", 1)
    run = run_of(seed, time_limit=60.0)
    Greedy().solve(run)
    rows, found = Rows(run.batch), brute_force(run.batch.instance)
    if run.best is None or found is None or not len(rows.kinds):
        return
    linear = ColumnGeneration(run, rows, GrowthPricing(run)).solve()
    assert linear is not None
    assert linear.bound <= found[0] + TOLERANCE
    assert run.bound is None or run.bound <= found[0] + TOLERANCE
