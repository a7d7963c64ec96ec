"""Characters, congruences and group relaxations against brute force; points that keep all rows."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from random_instances import TIMES
from scipy.sparse import csr_array

from placer.problem import Instance
from placer.solvers.backend_highs import solve_with_highs
from placer.solvers.batch import compile_batch
from placer.solvers.characters import characters_of, vanishing
from placer.solvers.congruences import Congruences, shifted
from placer.solvers.group_costs import GroupCosts
from placer.solvers.group_relaxation import cheapest_sum
from placer.solvers.integer_program import IntegerProgram
from placer.solvers.lattice_rounding import LatticeRounding
from placer.solvers.linear_points import Equalities, cheapest_alike
from placer.solvers.run import Options, Run
from tests.test_group_search import larger_batch

SEEDS = range(int(15 * TIMES))


def any_run() -> Run:
    batch = compile_batch(Instance.from_dict(larger_batch(0, "sum", set()).to_dict()))
    return Run(batch, GroupCosts(batch), Options(time_limit=60.0))


@pytest.mark.parametrize("seed", SEEDS)
def test_characters_tell_which_vectors_are_in_the_lattice(seed: int) -> None:
    rng = np.random.default_rng(seed)
    m = int(rng.integers(1, 5))
    basis = rng.integers(-2, 4, size=(m, m))
    size = abs(round(float(np.linalg.det(basis))))
    if size == 0:
        pytest.skip("this matrix is singular")
    found = characters_of(basis, rng)
    assert found is not None
    assert math.prod(found.orders) >= size
    vectors = rng.integers(-5, 6, size=(m, 200))
    inverse = np.linalg.inv(basis)
    shares = inverse @ vectors
    within = np.abs(shares - np.rint(shares)).max(axis=0) < 1e-6
    assert (found.values(vectors).astype(bool).any(axis=0) == ~within).all()
    if size > 8:
        return
    more = rng.integers(-2, 4, size=(m, 2))
    reached = np.zeros(200, dtype=bool)
    for times in itertools.product(range(size), repeat=2):
        shares = inverse @ (vectors - (more @ np.array(times))[:, None])
        reached |= np.abs(shares - np.rint(shares)).max(axis=0) < 1e-6
    larger = vanishing(found, more)
    assert (larger.values(vectors).astype(bool).any(axis=0) == ~reached).all()


def test_characters_of_a_large_determinant_are_exact() -> None:
    rng = np.random.default_rng(5)
    basis = rng.integers(-3, 4, size=(30, 30))
    _, digits = np.linalg.slogdet(basis)
    found = characters_of(basis, rng)
    assert found is not None
    assert digits / math.log(2.0) > 64
    assert sum(map(math.log, found.orders)) == pytest.approx(digits, abs=1e-6)
    assert not found.values(basis @ rng.integers(-9, 10, size=(30, 5))).any()


@pytest.mark.parametrize("seed", SEEDS)
def test_points_keep_congruences_and_come_near(seed: int) -> None:
    rng = np.random.default_rng(seed)
    q, k = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    orders = [int(order) for order in rng.choice([2, 3, 4, 6], size=k)]
    values = np.array([[int(rng.integers(o)) for _ in range(q)] for o in orders], dtype=object)
    near = Congruences(rng.normal(size=(q, q + 2)), values, orders)
    every = list(itertools.product(range(math.lcm(*orders)), repeat=q))
    kept = np.array([_said(values, z, orders) == [0] * k for z in every])
    assert round(abs(float(np.linalg.det(near.basis)))) * kept.sum() == len(every)
    there = rng.integers(-20, 20, size=q)
    point = near.point(_said(values, there, orders))
    assert point is not None
    place = there.astype(float) @ near.metric
    for moved in (near.near(point, place), near.near(point, place, rng)):
        assert _said(values, moved, orders) == _said(values, there, orders)
    longest = np.linalg.norm(near.basis @ near.metric, axis=1).sum()
    away = near.near(point, place).astype(float) @ near.metric - place
    assert np.linalg.norm(away) <= longest
    wanted = [int(rng.integers(order)) for order in orders]
    reachable = any(_said(values, z, orders) == wanted for z in every)
    assert (near.point(wanted) is not None) == reachable


def _said(values: np.ndarray, z: object, orders: list[int]) -> list[int]:
    whole = np.array(z, dtype=object)
    return [int(sum(row * whole)) % order for row, order in zip(values, orders, strict=True)]


def test_remainders_of_any_size_are_shifted() -> None:
    assert shifted(3 << 200, 200) == 3.0
    assert shifted(5, 1) == 2.5
    assert shifted(-5, -2) == -20.0


@pytest.mark.parametrize("seed", SEEDS)
def test_the_cheapest_sum_is_the_least_of_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    orders = [int(order) for order in rng.integers(2, 5, size=int(rng.integers(1, 3)))]
    n = int(rng.integers(1, 5))
    codes = np.array([rng.integers(0, order, size=n) for order in orders])
    target = np.array([int(rng.integers(order)) for order in orders])
    cost = np.round(rng.random(n), 3)
    modulus = np.array(orders)
    least = min(
        (
            float(np.array(times) @ cost)
            for times in itertools.product(range(math.lcm(*orders)), repeat=n)
            if not ((codes @ np.array(times) - target) % modulus).any()
        ),
        default=None,
    )
    chosen = cheapest_sum(any_run(), orders, codes, cost, target)
    assert (chosen is None) == (least is None)
    if chosen is not None:
        assert not ((codes[:, chosen].sum(axis=1) - target) % modulus).any()
        assert cost[chosen].sum() == pytest.approx(least, abs=1e-6)


def covering(seed: int) -> IntegerProgram:
    """Return a random program like a master's: kinds of whom there are many, few types."""
    rng = np.random.default_rng(seed)
    kinds, types, n = int(rng.integers(4, 9)), int(rng.integers(1, 3)), 60
    members = np.zeros((kinds, n))
    for column in range(n):
        np.add.at(members[:, column], rng.integers(kinds, size=int(rng.integers(1, 5))), 1.0)
    members[:, :kinds] = np.eye(kinds)
    of_type = rng.integers(types, size=n)
    rows = np.vstack([members, [of_type == t for t in range(types)]])
    need = rng.integers(300, 900, size=kinds).astype(float)
    limit = np.full(types, 0.9 * need.sum())
    return IntegerProgram(
        cost=np.round(rng.uniform(1.0, 2.0, n) + 0.6 * members.sum(axis=0), 4),
        upper=np.full(n, 5_000.0),
        matrix=csr_array(rows.astype(float)),
        row_lower=np.append(need, np.full(types, -np.inf)),
        row_upper=np.append(need, np.round(limit)),
    )


def test_points_keep_all_rows_and_come_near_the_optimum() -> None:
    found = near = 0
    for seed in range(8):
        program = covering(seed)
        best = np.inf
        for values in LatticeRounding(any_run(), program, np.random.default_rng(seed)).points():
            used = program.matrix @ values
            assert (values >= 0).all()
            assert (values <= program.upper).all()
            assert (used >= program.row_lower).all()
            assert (used <= program.row_upper).all()
            assert program.cost @ values < best
            best = float(program.cost @ values)
        optimum = solve_with_highs(program, any_run()).bound
        assert optimum is not None
        assert best >= optimum - 1e-6 * optimum
        found += np.isfinite(best)
        near += best <= optimum + 1e-4 * optimum
    assert found >= 6
    assert near >= 6


def test_a_row_that_is_not_whole_is_left_to_others() -> None:
    program = covering(0)
    halved = IntegerProgram(
        program.cost, program.upper, program.matrix * 0.5, program.row_lower, program.row_upper
    )
    assert Equalities.of(halved) is None
    assert not list(LatticeRounding(any_run(), halved, np.random.default_rng(0)).points())


def test_of_columns_that_are_alike_the_cheapest_is_kept() -> None:
    matrix = csr_array(np.array([[1.0, 1.0, 2.0], [0.0, 0.0, 1.0]]))
    need = np.array([100.0, 50.0])
    program = IntegerProgram(np.array([2.0, 1.0, 3.0]), np.full(3, 200.0), matrix, need, need)
    equal = Equalities.of(program)
    assert equal is not None
    assert cheapest_alike(equal).tolist() == [1, 2]


def test_a_group_of_one_element_needs_no_columns() -> None:
    nothing = np.zeros((0, 5), dtype=np.int64)
    assert not len(cheapest_sum(any_run(), [], nothing, np.ones(5), nothing[:, 0]))
    found = characters_of(np.eye(3, dtype=np.int64), np.random.default_rng(0))
    assert found is not None
    assert not len(found)
    assert not len(vanishing(found, np.ones((3, 2), dtype=np.int64)))
