"""Placements near large linear values; integer programs of large values told from their centre."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from scipy.sparse import csr_array

from placer.problem import Instance
from placer.solvers import backend_highs, rounding
from placer.solvers.backend_cpsat import solve_with_cpsat
from placer.solvers.backend_highs import solve_with_highs
from placer.solvers.batch import compile_batch
from placer.solvers.column_generation import ColumnGeneration
from placer.solvers.greedy import Greedy
from placer.solvers.group_costs import GroupCosts
from placer.solvers.growth import GrowthPricing
from placer.solvers.integer_program import IntegerProgram, moved
from placer.solvers.linear_bound import LinearBound
from placer.solvers.master import Rows
from placer.solvers.rounding import Rounding, rounded_down
from placer.solvers.run import Options, Run
from tests.test_group_search import larger_batch


def many_replicas(seed: int, times: int = 150, limits: set[str] | None = None) -> Run:
    """Return a run of a batch with many times its replicas and VMs, begun greedily."""
    data = larger_batch(seed, "sum", limits or set()).to_dict()
    for model in data["models"]:
        model["replicas"] = times * model.get("replicas", 1) + seed % 7
    data["vm_types"][0]["count"] *= times
    batch = compile_batch(Instance.from_dict(data))
    run = Run(batch, GroupCosts(batch), Options(seed=seed, time_limit=60.0))
    Greedy().solve(run)
    return run


def bound_of(run: Run) -> LinearBound | None:
    if run.best is None:
        return None
    return ColumnGeneration(run, Rows(run.batch), GrowthPricing(run)).solve()


def test_rounding_keeps_every_rule_and_comes_nearer_to_the_bound() -> None:
    tried = better = 0
    for seed in range(12):
        run = many_replicas(seed)
        linear = bound_of(run)
        if linear is None:
            continue
        near = Rounding.of(run, Rows(run.batch), solve_with_highs, linear)
        before = run.objective
        if near is None or before is None:
            continue
        near.search(2.0, np.random.default_rng(seed))
        tried += 1
        assert run.best is not None
        assert run.objective_of(run.best) == pytest.approx(run.objective, abs=1e-6)
        assert linear.bound - 1e-6 * abs(linear.bound) <= run.objective <= before
        better += run.objective < before - 1e-6
    assert tried >= 5
    assert better >= 3


@pytest.mark.parametrize("pivots", [0, 20])
def test_an_interior_point_leads_to_the_bound_of_simplex(
    pivots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(8):
        simplex = bound_of(many_replicas(seed, times=1 + 30 * (seed % 2)))
        with monkeypatch.context() as patch:
            patch.setattr(backend_highs, "PIVOTS", pivots)
            other = bound_of(many_replicas(seed, times=1 + 30 * (seed % 2)))
        assert (simplex is None) == (other is None)
        if simplex is not None and other is not None:
            assert other.converged
            assert other.bound == pytest.approx(simplex.bound, rel=1e-7)


def test_small_values_are_not_rounded() -> None:
    run = many_replicas(3, times=1)
    linear = bound_of(run)
    assert linear is not None
    assert rounded_down(linear) is None


def covering(seed: int) -> IntegerProgram:
    """Return a random covering program whose rows need 50 to 300."""
    rng = Random(seed)
    m, n = rng.randint(2, 4), rng.randint(4, 9)
    matrix = np.array([[rng.choice([0, 0, 1, 1, 2, 3]) for _ in range(n)] for _ in range(m)])
    need = np.array([float(rng.randint(50, 300)) for _ in range(m)])
    exact = np.array([rng.random() < 0.5 for _ in range(m)])
    cost = np.array([rng.choice([1.0, 1.3, 2.0, 2.7, 3.1]) for _ in range(n)]) + matrix.sum(axis=0)
    upper = np.array([rng.choice([20.0, 400.0, np.inf]) for _ in range(n)])
    limit = np.where(exact, need, np.inf)
    return IntegerProgram(cost, upper, csr_array(matrix.astype(float)), need, limit)


@pytest.mark.parametrize("seed", range(60))
def test_large_programs_have_the_same_optimum_from_their_centre(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = covering(seed)
    run = many_replicas(0)
    run.options = replace(run.options, gap=0.0)
    seen: list[float] = []

    def see(values: np.ndarray) -> None:
        assert (values >= 0).all()
        assert (values <= program.upper).all()
        used = program.matrix @ values
        assert (used >= program.row_lower).all()
        assert (used <= program.row_upper).all()
        seen.append(float(program.cost @ values))

    centred = solve_with_highs(program, run, see)
    bounded = replace(program, upper=np.minimum(program.upper, 1e4))
    other = solve_with_cpsat(bounded, run)
    monkeypatch.setattr(backend_highs, "LARGE", np.inf)
    plain = solve_with_highs(program, run)
    assert centred.infeasible == plain.infeasible == other.infeasible
    if centred.infeasible:
        return
    assert centred.values is not None
    assert plain.values is not None
    assert other.values is not None
    see(centred.values)
    cost = float(program.cost @ centred.values)
    assert min(seen) == pytest.approx(cost)
    assert cost == pytest.approx(float(program.cost @ plain.values))
    assert cost == pytest.approx(float(program.cost @ other.values))
    assert centred.bound is not None
    assert cost - 1e-5 <= centred.bound <= cost + 1e-6


def test_some_programs_begin_at_a_centre() -> None:
    run = many_replicas(0)
    centres = [backend_highs._centre(covering(seed), run, np.inf) for seed in range(20)]
    assert sum(centre is not None for centre in centres) >= 10


@pytest.mark.parametrize("seed", range(10))
def test_a_moved_program_is_the_same_one(seed: int) -> None:
    program, rng = replace(covering(seed), cutoff=1_000.0), Random(seed)
    by = np.array([rng.randint(0, 5) for _ in program.cost])
    values = by + np.array([rng.randint(0, 5) for _ in program.cost])
    left, rest = values - by, moved(program, by)
    for limits, others in (
        (program.row_lower, rest.row_lower),
        (program.row_upper, rest.row_upper),
    ):
        assert np.allclose(limits - program.matrix @ values, others - rest.matrix @ left)
    assert np.allclose(program.upper - values, rest.upper - left)
    assert rest.cutoff is not None
    assert rest.cutoff - rest.cost @ left == pytest.approx(1_000.0 - program.cost @ values)


@pytest.mark.parametrize("limits", ["", "slo", "penalty", "apart"])
def test_evening_out_keeps_every_rule(limits: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounding, "FEW_ROWS", 1)
    better = 0
    for seed in range(3):
        run = many_replicas(seed, limits={limits})
        linear = bound_of(run)
        near = (
            None if linear is None else Rounding.of(run, Rows(run.batch), solve_with_highs, linear)
        )
        if near is None or linear is None:
            continue
        for quick, again in ((True, False), (False, False), (False, True)):
            with run.at_most(0.6):
                better += near.even_out(np.random.default_rng(seed), quick=quick, again=again)
            assert run.best is not None
            assert run.objective is not None
            assert run.objective_of(run.best) == pytest.approx(run.objective, abs=1e-6)
            assert run.objective >= linear.bound - 1e-6 * abs(linear.bound)
    assert better >= 2


def test_rows_too_few_or_too_many_have_no_lattice(monkeypatch: pytest.MonkeyPatch) -> None:
    run = many_replicas(3)
    linear = bound_of(run)
    assert linear is not None
    near = Rounding.of(run, Rows(run.batch), solve_with_highs, linear)
    assert near is not None
    assert not near.even_out(np.random.default_rng(0))
    monkeypatch.setattr(rounding, "FEW_ROWS", 1)
    monkeypatch.setattr(rounding, "MOST_ROWS", 2)
    assert not near.even_out(np.random.default_rng(0))
