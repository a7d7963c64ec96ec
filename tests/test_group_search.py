"""Growth of groups against a list of them all: no group is missed, no bound is above the least."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from random_instances import random_instance

from placer import Instance, read_instance
from placer.solvers import group_search, growth
from placer.solvers.batch import compile_batch
from placer.solvers.columns import Columns, Prices
from placer.solvers.enumeration import enumerate_groups
from placer.solvers.frontier import Ground
from placer.solvers.group_costs import GroupCosts
from placer.solvers.group_search import GroupSearch
from placer.solvers.growth import GrowthPricing
from placer.solvers.pricing import PoolPricing
from placer.solvers.run import Options, Run

ROUNDING = 1e-7


def run_of(instance: Instance) -> Run:
    batch = compile_batch(instance)
    return Run(batch, GroupCosts(batch), Options())


def random_prices(run: Run, pool: Columns, rng: np.random.Generator) -> Prices:
    """Return prices at which some groups have a negative reduced cost and most have not."""
    batch = run.batch
    typical = np.median(pool.cost) if len(pool) else 1.0
    kind = rng.uniform(-0.3, 1.4, batch.kinds) * (abs(float(typical)) + 0.1)
    vm_type = -rng.uniform(0.0, 0.5, batch.types) * rng.integers(0, 2, batch.types)
    return Prices(kind, vm_type, rng.uniform(0.0, 0.3, len(batch.together)), 0.0)


def reduced(run: Run, pool: Columns, prices: Prices) -> np.ndarray:
    worth = np.append(prices.kind, 0.0)[pool.groups].sum(axis=1)
    held = Ground.of(run).together.held(pool.groups) @ prices.together
    if len(prices.cut):
        members = [(pool.groups == k).any(axis=1) for k in range(run.batch.kinds)]
        for triple, cut in zip(prices.triples.tolist(), prices.cut.tolist(), strict=True):
            held = held + cut * (sum(members[k].astype(int) for k in triple) >= 2)
    return pool.cost - worth - prices.vm_type[pool.vm_type] - held


def names(pool: Columns, rows: np.ndarray) -> set[tuple[int, tuple[int, ...]]]:
    return set(pool.take(rows).states())


def with_cuts(run: Run, prices: Prices, rng: np.random.Generator) -> Prices:
    """Return `prices` and those of a few random subset-row cuts."""
    single = np.flatnonzero(run.batch.replicas == 1)
    triples = [sorted(rng.choice(single, 3, replace=False).tolist()) for _ in range(4)]
    triples = np.unique(triples, axis=0)
    return replace(prices, triples=triples, cut=-rng.uniform(0.0, 0.4, len(triples)))


def needed(run: Run, pool: Columns) -> np.ndarray:
    """Return which groups have no twin on a VM that never runs out, and is in no way dearer."""
    batch = run.batch
    enough = batch.vms_possible() >= min(batch.total_replicas, batch.max_vms)
    cost = {state: float(c) for state, c in zip(pool.states(), pool.cost, strict=True)}

    def outdone(t: int, group: tuple[int, ...]) -> bool:
        return any(
            enough[u]
            and (batch.price[u], u) < (batch.price[t], t)
            and cost.get((u, group), np.inf) <= cost[t, group] + ROUNDING
            for u in range(batch.types)
        )

    return np.array([not outdone(t, group) for t, group in pool.states()], dtype=bool)


def compare(run: Run, seed: int, *, cuts: bool = False) -> int:
    """Hold growth against the list at random prices; return how many groups were below 0.

    Groups that a cheaper VM could hold as well may be left out.
    """
    rng = np.random.default_rng(seed)
    pool = enumerate_groups(run)
    assert pool is not None
    matters = needed(run, pool)
    below = 0
    for _ in range(3):
        prices = random_prices(run, pool, rng)
        if cuts:
            prices = with_cuts(run, prices, rng)
        values = reduced(run, pool, prices)
        pricing = GrowthPricing(run)
        for window in (0.0, float(rng.uniform(0.0, 0.5))):
            found = pricing.within(prices, window, 100_000)
            assert found is not None
            sure = names(pool, matters & (values <= window - ROUNDING))
            assert sure <= set(found.states())
            assert set(found.states()) <= names(pool, values <= window + ROUNDING)
        least, columns = pricing.least(prices)
        for t in range(run.batch.types):
            true = values[matters & (pool.vm_type == t)].min(initial=np.inf)
            assert min(least[t], 0.0) <= min(true, 0.0) + ROUNDING
        if values[matters].min(initial=0.0) < -1e-6:
            assert len(columns)
        below += int((values < 0).sum())
    return below


@pytest.mark.parametrize("seed", range(60))
def test_growth_finds_what_a_list_holds(seed: int) -> None:
    compare(run_of(random_instance(seed, max_replicas=7, kinds=4)), seed)


@pytest.mark.parametrize("seed", range(30))
def test_growth_looks_at_cuts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = [f"m{k}" for k in range(8)]
    pairs = {a: {b: round(float(rng.uniform(0.8, 1.8)), 3) for b in labels} for a in labels}
    instance = Instance.from_dict(
        {
            "vm_types": [
                {"name": "s", "capacity": {"cpu": 4}, "price": 1.0, "count": 4},
                {"name": "l", "capacity": {"cpu": 7}, "price": 1.7, "max_models": 5},
            ],
            "models": [
                {"name": name, "demand": {"cpu": round(float(rng.uniform(0.5, 3)), 2)},
                 "replicas": 2 if name == "m7" else 1}
                for name in labels
            ],
            "interference": {"kind": "pairwise", "combine": "sum", "slowdown": {"*": pairs}},
            "objective": {"degradation": 0.4},
        }
    )  # fmt: skip
    run = run_of(instance)
    assert GrowthPricing(run).takes_cuts()
    assert compare(run, seed, cuts=True) > 0


@pytest.mark.parametrize("seed", range(10))
def test_a_list_looks_at_cuts_as_growth_does(seed: int) -> None:
    run = run_of(random_instance(seed, max_replicas=6, kinds=6, interference="pairwise"))
    rng = np.random.default_rng(seed)
    pool = enumerate_groups(run)
    assert pool is not None
    if (run.batch.replicas == 1).sum() < 3 or not len(pool):
        return
    prices = with_cuts(run, random_prices(run, pool, rng), rng)
    values = reduced(run, pool, prices)
    least, _ = PoolPricing(run.batch, pool).least(prices)
    for t in range(run.batch.types):
        true = values[pool.vm_type == t].min(initial=np.inf)
        assert least[t] == pytest.approx(true, abs=1e-9)


def larger_batch(seed: int, combine: str, limits: set[str]) -> Instance:
    """Return nine models on two VM types; limits: `slo` or `penalty` for late ones, `apart`."""
    rng = np.random.default_rng(seed)
    labels = [f"m{k}" for k in range(9)]
    pairs = {a: {b: round(float(rng.uniform(0.85, 1.8)), 3) for b in labels} for a in labels}
    models = [
        {"name": name, "replicas": int(rng.integers(1, 4)), "weight": round(float(w), 2),
         "demand": {"cpu": round(float(d), 2)},
         **({"solo_latency_ms": 10.0, "slo_ms": float(rng.uniform(11, 22))}
            if limits & {"slo", "penalty"} else {})}
        for name, d, w in zip(labels, rng.uniform(0.2, 3, 9), rng.uniform(0.3, 2, 9), strict=True)
    ]  # fmt: skip
    data = {
        "vm_types": [
            {"name": "s", "capacity": {"cpu": 4}, "price": 1.0, "count": 4, "max_models": 4},
            {"name": "l", "capacity": {"cpu": 8}, "price": 1.7, "max_models": 5},
        ],
        "models": models,
        "interference": {"kind": "pairwise", "combine": combine, "slowdown": {"*": pairs}},
        "objective": {
            "degradation": 0.4,
            "slo": {"penalty": 0.3} if "penalty" in limits else "forbid",
        },
        "rules": {"apart": [["m0", "m3"], ["m4", "m4"]]} if "apart" in limits else {},
    }  # fmt: skip
    return Instance.from_dict(data)


@pytest.mark.parametrize("combine", ["sum", "product"])
@pytest.mark.parametrize("limits", ["", "slo", "penalty", "apart"])
def test_growth_finds_what_a_list_holds_in_larger_batches(combine: str, limits: str) -> None:
    seed = len(combine) + len(limits)
    assert compare(run_of(larger_batch(seed, combine, {limits})), 3) > 0


@pytest.mark.parametrize("seed", range(20))
def test_groups_looked_at_in_many_parts_are_all_counted(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_search, "ROWS", 3)
    monkeypatch.setattr(group_search, "CELLS", 11)
    monkeypatch.setattr(growth, "ENOUGH", 10**9)
    compare(run_of(random_instance(seed, max_replicas=7, kinds=4)), seed)


@pytest.mark.parametrize("quantile", [None, 0.9])
def test_growth_is_sound_for_the_shipped_predictor(root: Path, quantile: float | None) -> None:
    instance = read_instance(root / "instances" / "quickstart.json")
    data = instance.to_dict()
    data["interference"] |= {} if quantile is None else {"slo_quantile": quantile}
    for model in data["models"]:
        model["replicas"] = min(2, model["replicas"])
    for vm_type in data["vm_types"]:
        vm_type["max_models"] = 4
    for penalty in ("forbid", {"penalty": 0.02}):
        data["objective"]["slo"] = penalty
        assert compare(run_of(Instance.from_dict(data)), 5) > 0


def test_a_narrow_beam_weakens_the_bound_and_never_breaks_it() -> None:
    run = run_of(random_instance(11, max_replicas=9, kinds=5, interference="pairwise"))
    pool = enumerate_groups(run)
    assert pool is not None
    rng = np.random.default_rng(1)
    for _ in range(20):
        prices = random_prices(run, pool, rng)
        values = reduced(run, pool, prices)
        for t in range(run.batch.types):
            true = values[pool.vm_type == t].min(initial=np.inf)
            for beam in (1, 2, 5):
                bound = GroupSearch(Ground.of(run), t, prices).run(0.0, beam)
                assert min(bound, 0.0) <= min(true, 0.0) + ROUNDING
