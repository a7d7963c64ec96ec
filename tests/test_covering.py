"""Covers by beam search: against the optimum, and what is no covering at all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_array

from placer.solvers.backend_highs import solve_with_highs
from placer.solvers.covering import Beams, Covering
from placer.solvers.integer_program import IntegerProgram
from placer.solvers.run import Options, Run
from tests.test_rounding import many_replicas


def partition(rows: int, seed: int) -> IntegerProgram:
    """Return a program that asks for one column for each row, and limits two sums of columns."""
    rng = np.random.default_rng(seed)
    alone = np.eye(rows)
    groups = np.array([rng.permutation(rows) < rng.integers(2, 5) for _ in range(20 * rows)]).T
    matrix = np.hstack([alone, groups]).astype(float)
    sizes = matrix.sum(axis=0)
    cost = sizes**0.7 * rng.uniform(0.8, 1.2, len(sizes))
    sort, weight = rng.integers(3, size=len(sizes)) == 0, rng.uniform(0.5, 1.5, len(sizes))
    return IntegerProgram(
        cost=cost,
        upper=np.ones(len(cost)),
        matrix=csr_array(np.vstack([matrix, sort, weight])),
        row_lower=np.append(np.ones(rows), [-np.inf, -np.inf]),
        row_upper=np.append(np.ones(rows), [max(1, rows // 8), 0.7 * rows]),
    )


def without_clock() -> Run:
    begun = many_replicas(0)
    return Run(begun.batch, begun.costs, Options())


def keeps(program: IntegerProgram, values: np.ndarray) -> bool:
    held = program.matrix @ values
    return bool((held >= program.row_lower).all() and (held <= program.row_upper + 1e-9).all())


@pytest.mark.parametrize("seed", range(6))
def test_covers_keep_every_row_and_are_the_optimum_of_small_programs(seed: int) -> None:
    program, run = partition(10 + seed, seed), without_clock()
    covering = Covering.of(program, run)
    assert covering is not None
    values = covering.search(run, np.inf, Beams(3, 20_000), np.random.default_rng(seed))
    optimum = solve_with_highs(program, run)
    assert values is not None
    assert optimum.values is not None
    assert optimum.complete
    assert keeps(program, values)
    assert program.cost @ values == pytest.approx(program.cost @ optimum.values)
    assert covering.bound <= program.cost @ values + 1e-9


def test_covers_of_more_rows_than_a_word_has_bits_keep_every_row() -> None:
    program, run = partition(150, 1), without_clock()
    covering = Covering.of(program, run)
    assert covering is not None
    values = covering.search(run, np.inf, Beams(2, 20_000), np.random.default_rng(0))
    assert values is not None
    assert keeps(program, values)
    assert program.cost @ values < 1.05 * covering.bound


def test_no_cover_is_found_that_is_not_better() -> None:
    program, run = partition(12, 3), without_clock()
    covering = Covering.of(program, run)
    assert covering is not None
    best = covering.search(run, np.inf, Beams(3, 20_000), np.random.default_rng(0))
    assert best is not None
    assert (
        covering.search(run, float(program.cost @ best), Beams(3, 20_000), np.random.default_rng(1))
        is None
    )


def test_programs_of_another_kind_are_left_alone() -> None:
    program, run = partition(8, 0), without_clock()
    twice = replace(program, row_lower=2.0 * program.row_lower, row_upper=2.0 * program.row_upper)
    assert Covering.of(twice, run) is None
    loose = replace(program, row_upper=np.where(np.isfinite(program.row_lower), 2.0, 1.0))
    assert Covering.of(loose, run) is None
    negative = replace(program, matrix=csr_array(-program.matrix.toarray()))
    assert Covering.of(negative, run) is None
