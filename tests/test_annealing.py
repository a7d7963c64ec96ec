"""Annealing keeps every rule, counts as the objective counts, and finds the best there is."""

from __future__ import annotations

import numpy as np
import pytest
from brute_force import brute_force
from random_instances import random_instance

from placer import Instance
from placer.solvers import annealing, annealing_kernel, annealing_layout, slot_kernel
from placer.solvers.annealing import Annealing
from placer.solvers.annealing_fits import LEVELS, MOST_OVERLOAD
from placer.solvers.annealing_layout import Layout, annealable, rents
from placer.solvers.annealing_types import State, Task
from placer.solvers.batch import compile_batch
from placer.solvers.greedy import Greedy
from placer.solvers.group_costs import GroupCosts
from placer.solvers.run import Options, Run

TOLERANCE = 1e-6


def run_of(instance: Instance, seed: int = 0, workers: int = 1) -> Run:
    batch = compile_batch(instance)
    run = Run(batch, GroupCosts(batch), Options(seed=seed, workers=workers))
    Greedy().solve(run)
    return run


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(annealing, "CHUNKS", 4)
    monkeypatch.setattr(annealing, "ROUNDS", 4)
    monkeypatch.setattr(annealing, "MOVES", 20_000)


def anneal(seed: int) -> tuple[float, float] | None:
    """Return what annealing reaches from greedy, and the optimum; None where there is no start."""
    run = run_of(random_instance(seed, max_replicas=6, interference="pairwise"), seed)
    if not annealable(run):
        return None
    before = run.objective
    Annealing(run).improve(np.inf)
    found = brute_force(run.batch.instance)
    assert found is not None
    assert before is not None
    assert run.best is not None
    assert run.objective is not None
    assert run.objective_of(run.best) == pytest.approx(run.objective, abs=1e-9)
    assert found[0] - TOLERANCE <= run.objective <= before
    return run.objective, found[0]


def test_annealing_keeps_every_rule_and_mostly_finds_what_brute_force_finds() -> None:
    reached = [pair for seed in range(120) if (pair := anneal(seed)) is not None]
    best = sum(objective <= optimum + TOLERANCE for objective, optimum in reached)
    assert len(reached) > 20
    assert best >= 0.8 * len(reached)


def crowded(
    seed: int,
    *,
    slo: bool = False,
    bench: bool = False,
    scarce: bool = False,
    more_types: int = 0,
) -> Instance:
    rng = np.random.default_rng(seed)
    labels = [f"m{k}" for k in range(12)]
    pairs = {
        vm: {a: {b: round(float(rng.uniform(0.9, 1.6)), 3) for b in labels} for a in labels}
        for vm in ("s", "l")
    }
    limit = {"solo_latency_ms": 10.0, "slo_ms": 17.0} if slo else {}
    models = [
        {"name": name, "demand": {"cpu": round(float(rng.uniform(0.3, 2)), 2)},
         "replicas": int(rng.integers(1, 3)), **limit}
        for name in labels
    ]  # fmt: skip
    count = 3 if scarce else None
    return Instance.from_dict(
        {
            "vm_types": [
                {"name": "s", "capacity": {"cpu": 3}, "price": 1.0, "count": count},
                {"name": "m", "capacity": {"cpu": 4}, "price": 1.2},
                {"name": "l", "capacity": {"cpu": 7}, "price": 2.0, "max_models": 5},
                *(
                    {"name": f"x{x}", "capacity": {"cpu": 3 + 0.03 * x}, "price": 1 + 0.01 * x}
                    for x in range(more_types)
                ),
            ],
            "models": models,
            "interference": {
                "kind": "pairwise",
                "combine": "sum",
                "slowdown": {"*": pairs["s"], "l": pairs["l"]},
            },
            "objective": {"degradation": 0.3, **({"unplaced": {"penalty": 0.7}} if bench else {})},
            "rules": {"apart": [["m0", "m3"]], "max_vms": 9},
        }
    )


@pytest.mark.parametrize("limits", ["", "slo", "bench", "scarce", "slo bench scarce"])
def test_what_the_moves_count_is_the_objective(
    limits: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {name: name in limits for name in ("slo", "bench", "scarce")}
    run = run_of(crowded(3, **asked), workers=2)
    if run.best is None:
        pytest.skip("greedy finds no placement to begin with")
    layout = Layout(run)
    states = []
    original = Layout.offer

    def offer(self: Layout, found: list) -> None:
        states[:] = found
        original(self, found)

    monkeypatch.setattr(Layout, "offer", offer)
    before = run.objective
    assert Annealing(run).improve(np.inf)
    assert before is not None
    assert run.objective is not None
    assert run.objective < before
    for state in states:
        best = layout.placement(state.best_slot, state.best_type)
        assert run.objective_of(best) == pytest.approx(state.now[2], rel=1e-9)
        own, over = state.own.copy(), state.over.copy()
        annealing_kernel.rebuild(layout.task, state)
        assert state.own == pytest.approx(own, abs=1e-6)
        assert state.over == pytest.approx(over, abs=1e-9)
    assert run.promising


def cheapest(task: Task, state: State, size: int) -> tuple[int, float]:
    """Return the cheapest type for the VM that is looked at, and its cost, by trying them all."""
    found = [(-1, np.inf)]
    for t, c in enumerate(task.class_of):
        over = np.maximum(state.new_load[c] / task.capacity[t] - 1.0, 0.0)
        if size <= task.most[t] and state.free[t] > 0 and (over <= MOST_OVERLOAD).all():
            found.append((t, task.price[t] + state.new_own[c] + state.now[1] * over.sum()))
    return min(found, key=lambda pair: pair[1])


@pytest.mark.parametrize("types", [3, 150])
def test_the_type_chosen_is_the_cheapest_below_the_limit(types: int) -> None:
    layout = Layout(run_of(crowded(3, more_types=types - 3)))
    task, state = layout.task, layout.state(1.0)
    annealing_kernel.rebuild(task, state)
    rng = np.random.default_rng(0)
    known = hidden = 0
    for _ in range(400):
        state.new_load[:] = rng.uniform(0.5, 9.0, state.new_load.shape)
        state.new_own[:] = rng.uniform(-0.5, 0.5, state.new_own.shape)
        state.now[1] = rng.choice([0.3, 3.0, 30.0])
        expected, cost = cheapest(task, state, 3)
        limit = float(rng.choice([np.inf, rng.uniform(0.5, 5.0)]))
        chosen, found, over = slot_kernel.choose_type(task, state, 3, limit)
        if cost >= limit:
            assert (chosen, found, over) == (-1, np.inf, 0.0)
            hidden += expected >= 0
        else:
            assert found == pytest.approx(cost, abs=1e-9)
            assert state.free[chosen] > 0
            known += 1
    assert known > 50
    assert hidden > 20


@pytest.mark.parametrize("types", [3, 150])
def test_no_vm_costs_less_than_what_is_known_of_its_load(types: int) -> None:
    layout = Layout(run_of(crowded(3, more_types=types - 3)))
    task, state = layout.task, layout.state(1.0)
    annealing_kernel.rebuild(task, state)
    low, high = layout.overload_prices(1.0)
    prices = np.geomspace(low, high, annealing_layout.PRICES)
    least = layout.least_prices(1.0)
    rng, near = np.random.default_rng(0), 0
    state.new_own[:] = 0.0
    for _ in range(400):
        state.new_load[:] = rng.uniform(0.0, 9.0, state.new_load.shape)
        grid = int(rng.integers(len(prices)))
        state.now[1] = prices[grid] * rng.uniform(1.0, 1.1)
        level = np.minimum((state.new_load * task.fits.level).astype(int), LEVELS - 1)
        floor = [
            max(least[grid, c, r, level[c, r]] for r in range(level.shape[1]))
            for c in range(len(level))
        ]
        _, cost = cheapest(task, state, 1)
        assert min(floor) <= cost + 1e-9
        near += np.isfinite(cost) and min(floor) >= 0.9 * cost
    assert near > 100


@pytest.mark.parametrize("bench", [False, True])
def test_swaps_that_are_not_looked_at_would_cost_too_much(bench: bool) -> None:
    """What a swap is weighed at is never more than what it changes."""
    layout, states = two_of(crowded(4, bench=bench, more_types=4))
    task, compared = layout.task, 0
    noise = np.zeros(annealing_kernel.NOISE + len(task.kind) + len(states[0].size))
    for state in states:
        annealing_kernel.rebuild(task, state)
        for i in range(len(task.kind)):
            annealing_kernel.weigh(task, state, i, 1.0, noise, 0)
            change, slot = state.change.copy(), state.slot.copy()
            for x in np.flatnonzero(slot != slot[i]).tolist():
                found = swapped_cost(task, state, i, x) - state.cost[[slot[i], slot[x]]].sum()
                assert change[x] <= found + 1e-6
                compared += np.isfinite(found)
    assert compared > 100


def swapped_cost(task: Task, state: State, i: int, j: int) -> float:
    """Return what the slots of two replicas cost once these have swapped, by counting anew."""
    after = annealing.unmoved(state, state.slot, state.vm_type)
    after.slot[[i, j]] = after.slot[[j, i]]
    annealing_kernel.rebuild(task, after)
    after.free[:] = task.fleet
    total, bench = 0.0, len(after.size) - 1
    for s in (int(state.slot[i]), int(state.slot[j])):
        if s == bench:
            total += after.cost[s]
            continue
        after.new_load[:] = after.load[:, s]
        after.new_own[:] = after.own[:, s] - (task.rate * after.load[:, s]).sum(axis=1)
        total += cheapest(task, after, int(after.size[s]))[1]
    return total


def test_rent_is_no_dearer_than_any_vm() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        price, capacity = rng.uniform(0, 3, 4), rng.uniform(0.1, 5, (4, 3))
        rate = rents(price, capacity, rng.uniform(0, 9, 3))
        assert (capacity @ rate <= price + 1e-9).all()
        assert rate.sum() > 0


def test_the_same_seed_gives_the_same_placement() -> None:
    found = []
    for _ in range(2):
        run = run_of(crowded(5), seed=4)
        Annealing(run).improve(np.inf)
        found.append(run.best)
    assert found[0] == found[1]


def two_of(instance: Instance, seed: int = 0) -> tuple[Layout, list[State]]:
    """Return a layout and two placements that differ."""
    run = run_of(instance)
    layout = Layout(run)
    states = [layout.state(1.0) for _ in range(2)]
    for number, state in enumerate(states):
        annealing.anneal(layout, 1.0, 0.5, 0.01, state, 2 * seed + number)
    return layout, states


def test_what_cools_again_is_a_copy_that_has_found_nothing_itself() -> None:
    layout, (one, _) = two_of(crowded(3))
    again = annealing.unmoved(one, one.best_slot, one.best_type)
    assert again.now[2] == np.inf
    assert (again.slot == one.best_slot).all()
    assert (again.vm_type == one.best_type).all()
    annealing_kernel.rebuild(layout.task, again)
    assert again.now[0] == pytest.approx(one.now[2])
    again.slot[0] += 1
    assert again.slot[0] != one.best_slot[0]
