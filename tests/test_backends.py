"""Every backend against the enumeration of small random integer programs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from random import Random

import numpy as np
import pytest
from scipy.sparse import csr_array

from placer.errors import UsageError
from placer.problem import Instance
from placer.solvers.backend_cpsat import solve_with_cpsat, whole_costs, whole_rows
from placer.solvers.backend_highs import solve_with_highs
from placer.solvers.backend_pulp import solve_with_pulp, solver_name
from placer.solvers.batch import compile_batch
from placer.solvers.group_costs import GroupCosts
from placer.solvers.integer_program import Backend, IntegerProgram, IntegerResult
from placer.solvers.integer_values import implied_upper, keeps_rows
from placer.solvers.run import Options, Run

INF = float("inf")
BACKENDS: dict[str, tuple[Backend, str]] = {
    "highs": (solve_with_highs, "highs"),
    "cp-sat": (solve_with_cpsat, "highs"),
    "pulp-highs": (solve_with_pulp, "highs"),
    "pulp-cbc": (solve_with_pulp, "cbc"),
    "pulp-scip": (solve_with_pulp, "scip"),
}


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """The name of each backend in turn."""
    if request.param == "pulp-scip":
        pytest.importorskip("pyscipopt", reason="SCIP is not installed")
    return str(request.param)


def new_run(**options: float | int | str | None) -> Run:
    """Return a run of an instance that no backend looks at."""
    batch = compile_batch(
        Instance.from_dict(
            {
                "format": "placer/instance",
                "version": 1,
                "vm_types": [{"name": "s", "capacity": {}}],
                "models": [{"name": "a"}],
            }
        )
    )
    return Run(batch, GroupCosts(batch), Options(**options))  # type: ignore[arg-type]


def solve(
    name: str,
    program: IntegerProgram,
    on_values: Callable[[np.ndarray], None] | None = None,
    **options: float | int | str | None,
) -> IntegerResult:
    """Solve `program` with the backend called `name`."""
    function, milp_solver = BACKENDS[name]
    return function(program, new_run(milp_solver=milp_solver, **options), on_values)


def make(
    cost: list[float],
    upper: list[float],
    rows: list[list[float]],
    lower: list[float],
    limit: list[float],
    start: list[float] | None = None,
) -> IntegerProgram:
    """Return an integer program written as lists."""
    return IntegerProgram(
        np.array(cost, dtype=float),
        np.array(upper, dtype=float),
        csr_array(np.array(rows, dtype=float).reshape(len(lower), len(cost))),
        np.array(lower, dtype=float),
        np.array(limit, dtype=float),
        None if start is None else np.array(start, dtype=float),
    )


def enumerated(program: IntegerProgram) -> float | None:
    """Return the optimum by trying each point, None where there is none."""
    upper = implied_upper(program)
    points = [np.array(p) for p in product(*(range(int(u) + 1) for u in upper))]
    costs = [float(program.cost @ p) for p in points if keeps_rows(program, p)]
    return min(costs, default=None)


def random_program(seed: int) -> IntegerProgram:
    """Return a program of up to five variables: fractions, negative costs, infinite limits."""
    rng = Random(seed)
    n, m = rng.randint(1, 5), rng.randint(0, 4)
    values: list[float] = [-2, -1, 1, 1, 2, 3, 0.1, 0.3, 0.1 + 0.2, 0.25, 1 / 3, -0.7, 2**0.5, 1e3]
    upper = [float(rng.randint(0, 3)) for _ in range(n)]
    cost = [rng.choice([0, 1, 2.5, -1, -0.3, 0.1 + 0.2, 1 / 3, 100, -(2**0.5)]) for _ in range(n)]
    rows, lower, limit = [], [], []
    for _ in range(m):
        row = [rng.choice(values) if rng.random() < 0.6 else 0.0 for _ in range(n)]
        inside = sum(a * rng.randint(0, int(u)) for a, u in zip(row, upper, strict=True))
        form = rng.random()
        spread = rng.choice([0.0, 0.5, 1.0])
        rows.append(row)
        lower.append(inside - spread if form < 0.7 else -INF)
        limit.append(inside + spread if form > 0.35 else INF)
    if rng.random() < 0.4:  # one infinite limit, which a row of its own implies
        j = rng.randrange(n)
        rows.append([float(i == j) * 1.5 for i in range(n)])
        lower.append(-INF)
        limit.append(1.5 * upper[j] + 0.2)
        upper[j] = INF
    return make(cost, upper, rows, lower, limit)


@pytest.mark.parametrize("block", range(4))
def test_agrees_with_enumeration(backend: str, block: int) -> None:
    for seed in range(block * 20, block * 20 + 20):
        program = random_program(seed)
        best = enumerated(program)
        result = solve(backend, program)
        if best is None:
            assert result.infeasible or backend == "pulp-cbc", seed
            assert result.values is None, seed
            assert result.bound is None, seed
            continue
        assert not result.infeasible, seed
        assert result.complete, seed
        assert result.values is not None, seed
        assert keeps_rows(program, result.values), seed
        assert float(program.cost @ result.values) == pytest.approx(best, rel=1e-6, abs=1e-9)
        assert result.bound is not None, seed
        assert result.bound <= best + 1e-12 * max(1, abs(best)), seed
        assert result.bound >= best - 1e-6 * max(abs(best), 1e-2), seed


@pytest.mark.parametrize("above", [0.3, 0.0, -0.3])
def test_a_cutoff_hides_only_what_costs_more(backend: str, above: float) -> None:
    for seed in range(40):
        program = random_program(seed)
        best = enumerated(program)
        if best is None:
            continue
        cutoff = best + above + 1e-9 * max(1.0, abs(best))
        result = solve(backend, replace(program, cutoff=cutoff))
        if above >= 0:
            assert result.values is not None, seed
            assert float(program.cost @ result.values) == pytest.approx(best, rel=1e-6, abs=1e-9)
        else:
            assert result.values is None or float(program.cost @ result.values) >= best - 1e-9
        assert result.bound is None or result.bound <= best + 1e-9 * max(1.0, abs(best)), seed
        assert above < 0 or not result.infeasible, seed


def test_cbc_keeps_what_its_preprocessing_loses() -> None:
    result = solve("pulp-cbc", random_program(297))
    assert result.values is not None
    assert result.bound == pytest.approx(2.5)


def test_where_cbc_falls_over_nothing_is_proved() -> None:
    program = make([0.3], [3], [[-2.0], [1.0]], [-3.0, 1.5], [INF, INF])
    result = solve("pulp-cbc", program)
    assert result.values is None
    assert result.bound is None


def test_random_programs_mix_feasible_and_infeasible() -> None:
    found = [enumerated(random_program(seed)) is None for seed in range(80)]
    assert 5 < sum(found) < 60


def test_without_variables_or_rows(backend: str) -> None:
    empty = solve(backend, make([], [], [], [], []))
    assert empty.values is not None
    assert (len(empty.values), empty.bound, empty.infeasible) == (0, 0.0, False)
    impossible = solve(backend, make([], [], [[]], [1.0], [INF]))
    assert impossible.infeasible
    free = solve(backend, make([1.0, -2.0], [3.0, 3.0], [], [], []))
    assert free.values is not None
    assert free.values.tolist() == [0, 3]
    assert free.bound == pytest.approx(-6.0)


def test_without_costs(backend: str) -> None:
    result = solve(backend, make([0, 0], [5, 5], [[1, 1]], [3], [3]))
    assert result.values is not None
    assert result.values.sum() == 3
    assert result.bound == 0.0


def test_an_empty_row_that_cannot_hold_is_infeasible(backend: str) -> None:
    assert solve(backend, make([1], [1], [[0.0]], [1], [2])).infeasible


def test_no_limit_below_is_not_called_infeasible(backend: str) -> None:
    result = solve(backend, make([-1.0, 1.0], [INF, INF], [[1, -1]], [0], [INF]))
    assert not result.infeasible
    assert result.bound is None


def test_listener_hears_of_solutions(backend: str) -> None:
    heard: list[np.ndarray] = []
    program = knapsack(30)
    result = solve(backend, program, heard.append)
    assert result.values is not None
    assert all(keeps_rows(program, values) for values in heard)
    if backend not in ("pulp-cbc", "pulp-scip"):
        assert heard
        assert float(program.cost @ heard[-1]) == pytest.approx(float(program.cost @ result.values))


@pytest.mark.parametrize("backend", ["cp-sat", "pulp-highs"])
def test_what_the_listener_raises_is_raised(backend: str) -> None:
    def fail(values: np.ndarray) -> None:
        raise RuntimeError("of the listener")

    with pytest.raises(RuntimeError, match="of the listener"):
        solve(backend, knapsack(30), fail)


def knapsack(n: int, rows: int = 2, seed: int = 7) -> IntegerProgram:
    """Return a multi-knapsack with fractional weights and profits."""
    rng = np.random.default_rng(seed)
    weight = rng.uniform(1, 9, (rows, n)).round(3)
    return IntegerProgram(
        -rng.uniform(1, 9, n),
        np.ones(n),
        csr_array(weight),
        np.full(rows, -INF),
        weight.sum(axis=1) * 0.4,
    )


def test_start_is_taken(backend: str) -> None:
    program = knapsack(30)
    best = solve(backend, program)
    assert best.values is not None
    again = IntegerProgram(**{**program.__dict__, "start": best.values.astype(float)})
    result = solve(backend, again)
    assert result.values is not None
    assert float(program.cost @ result.values) == pytest.approx(float(program.cost @ best.values))


def test_time_limit_leaves_a_bound_that_holds(backend: str) -> None:
    program = market_split(8, 50)
    heard: list[np.ndarray] = []
    run_result = solve(backend, program, heard.append, time_limit=0.7)
    assert not run_result.infeasible
    assert not run_result.complete
    if run_result.values is not None and run_result.bound is not None:
        assert run_result.bound <= float(program.cost @ run_result.values)


def market_split(rows: int, n: int) -> IntegerProgram:
    """Return a market split problem with slack, for which no solver has a proof in seconds."""
    rng = np.random.default_rng(1)
    share = rng.integers(0, 100, (rows, n)).astype(float)
    matrix = np.hstack([share, np.eye(rows), -np.eye(rows)])
    target = np.floor(share.sum(axis=1) / 2)
    cost = np.concatenate([np.zeros(n), np.ones(2 * rows)])
    upper = np.concatenate([np.ones(n), np.full(2 * rows, 5000.0)])
    return IntegerProgram(cost, upper, csr_array(matrix), target, target)


@pytest.mark.parametrize("backend", ["cp-sat", "pulp-highs"])
def test_interrupt_ends_the_search(backend: str) -> None:
    function, milp_solver = BACKENDS[backend]
    run = new_run(milp_solver=milp_solver)

    def stop() -> None:
        run.interrupted = True

    timer = threading.Timer(0.5, stop)
    timer.start()
    result = function(market_split(8, 50), run)
    timer.cancel()
    assert run.interrupted
    assert run.seconds() < 20
    assert not result.complete
    assert not result.infeasible


def test_gap_asked_for_is_kept(backend: str) -> None:
    program = knapsack(60, rows=4)
    result = solve(backend, program, gap=0.05)
    assert result.values is not None
    assert result.bound is not None
    objective = float(program.cost @ result.values)
    assert 0 <= objective - result.bound <= 0.05 * abs(objective)


def test_no_gap_is_reached_exactly_with_decimal_costs() -> None:
    program = make([0.1, 0.1 + 0.2, 0.085], [9, 9, 9], [[1, 2, 3]], [7], [INF])
    result = solve("cp-sat", program, gap=0.0)
    assert result.values is not None
    assert result.bound == float(program.cost @ result.values)


def test_same_seed_gives_same_values() -> None:
    program = knapsack(60, rows=4)
    first, second = (solve("cp-sat", program, seed=3) for _ in range(2))
    assert first.values is not None
    assert second.values is not None
    assert first.values.tolist() == second.values.tolist()
    assert first.bound == second.bound


@pytest.mark.parametrize("seed", range(20))
def test_whole_costs_are_a_bound(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cost = rng.normal(size=8) * 10.0 ** rng.integers(-6, 7)
    upper = rng.integers(0, 10**6, 8).astype(float)
    costs = whole_costs(cost, upper)
    for _ in range(50):
        point = np.floor(rng.uniform(0, 1, 8) * (upper + 1))
        below = float(costs.coefficient @ point.astype(np.int64)) / costs.scale - costs.error
        true = float(cost @ point)
        assert below <= true + 1e-12 * float(np.abs(cost) @ point)
    assert float(np.abs(costs.coefficient).astype(float) @ upper) <= 2.0**53


@pytest.mark.parametrize("seed", range(20))
def test_whole_rows_lose_no_feasible_point(seed: int) -> None:
    program = random_program(seed)
    upper = implied_upper(program)
    rows = list(whole_rows(program, upper))
    for point in product(*(range(int(u) + 1) for u in upper)):
        values = np.array(point)
        if keeps_rows(program, values):
            for row in rows:
                total = int(row.coefficient @ values[row.column])
                assert row.lower is None or total >= row.lower
                assert row.upper is None or total <= row.upper


def test_decimal_rows_are_exact() -> None:
    program = make([1, 1], [9, 9], [[0.1 + 0.2, 0.5]], [-INF], [4 + 1e-6])
    (row,) = whole_rows(program, implied_upper(program))
    assert (row.coefficient.tolist(), row.lower, row.upper) == ([3, 5], None, 40)


def test_implied_upper_follows_rows_through_other_variables() -> None:
    program = make([1, 1], [INF, 3], [[1, -2]], [-INF], [1])
    assert implied_upper(program).tolist() == [7, 3]


@pytest.mark.parametrize(
    ("wanted", "name"), [("highs", "HiGHS"), ("CBC", "PULP_CBC_CMD"), ("pulp_cbc_cmd",) * 2]
)
def test_solver_names_whatever_their_case(wanted: str, name: str) -> None:
    assert solver_name(wanted).lower() == name.lower()


@pytest.mark.parametrize(
    ("wanted", "words"), [("hihgs", "did you mean 'highs'"), ("mipcl_cmd", "not installed here")]
)
def test_other_solvers_are_refused_with_those_there_are(wanted: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        solver_name(wanted)
    assert "highs" in str(caught.value)
    assert "cbc" in str(caught.value)
