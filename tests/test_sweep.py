"""Sweeps: every cell once, resumable, in parallel, one Parquet row each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from random_instances import random_instance

from placer import InputError, write_instance
from placer.cli import main
from placer.errors import UsageError
from placer.parallel import Workers
from placer.sweep import plan_from_data, read_sweep_plan, sweep
from placer.sweep_summary import shifted_geometric_mean, summarise


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two tiny instances and a plan of 2 x 2 x 2 cells."""
    for seed in (3, 4):
        write_instance(tmp_path / f"random-{seed}.json", random_instance(seed))
    (tmp_path / "plan.toml").write_text(
        'instances = ["random-*.json"]\nsolvers = ["auto", "greedy"]\nseeds = [0, 1]\n'
        "time_limit = 20\n"
    )
    return tmp_path


def test_a_sweep_runs_each_cell_once_and_goes_on(folder: Path) -> None:
    plan = read_sweep_plan(folder / "plan.toml")
    output = folder / "results.parquet"
    rows = sweep(plan, output, Workers(jobs=2))
    assert len(rows) == 8
    assert set(rows["status"]) <= {"optimal", "feasible", "infeasible", "unknown"}
    for name in ("cell", "machine", "placer", "python", "ortools", "seconds", "peak_mib"):
        assert rows[name].notna().all(), name
    assert (rows["peak_mib"] > 10).all()
    stored = pd.read_parquet(output)
    assert sorted(stored["cell"]) == sorted(rows["cell"])
    seen = []
    again = sweep(plan, output, on_progress=seen.append)
    assert not seen
    assert list(again["cell"]) == list(rows["cell"])
    assert list(again["started"]) == list(rows["started"])


def test_what_a_stopped_sweep_had_done_is_not_done_again(folder: Path) -> None:
    plan = read_sweep_plan(folder / "plan.toml")
    output = folder / "results.parquet"
    rows = sweep(plan, output, Workers(jobs=2))
    output.unlink()
    journal = folder / "results.journal"
    lines = [json.dumps(row) for row in rows.head(5).to_dict("records")]
    journal.write_text("\n".join([*lines, '{"cell": "half a li']))
    seen = []
    again = sweep(plan, output, Workers(jobs=2), on_progress=seen.append)
    assert [state.total for state in seen] == [3, 3, 3]
    assert seen[-1].known == 5
    assert len(again) == 8
    assert not journal.exists()


def test_a_cell_that_fails_is_a_row_and_may_be_tried_again(folder: Path) -> None:
    plan = read_sweep_plan(folder / "plan.toml")
    wrong = plan_from_data(
        {"instances": ["random-3.json"], "solvers": ["milp"], "milp_solver": "no-such"}, folder
    )
    output = folder / "results.parquet"
    rows = sweep(wrong, output, Workers(jobs=1))
    assert list(rows["status"]) == ["error"]
    assert "no-such" in rows["error"].iloc[0]
    count: list[int] = []
    sweep(wrong, output, on_progress=lambda state: count.append(1))
    assert not count
    sweep(wrong, output, retry_errors=True, on_progress=lambda state: count.append(1))
    assert count == [1]
    assert len(sweep(plan, output, Workers(jobs=2))) == 8
    assert len(pd.read_parquet(output)) == 9


def test_cells_run_anew_where_that_is_asked_for(folder: Path) -> None:
    plan = read_sweep_plan(folder / "plan.toml")
    output = folder / "results.parquet"
    before = sweep(plan, output, Workers(jobs=2))
    seen: list[Any] = []
    after = sweep(plan, output, Workers(jobs=2), again=True, on_progress=seen.append)
    assert len(seen) == len(before) == len(after)
    assert (after["started"] >= before["started"]).all()
    assert len(pd.read_parquet(output)) == len(before)


def test_a_trace_tells_how_objective_and_bound_went(folder: Path) -> None:
    plan = plan_from_data({"instances": ["random-3.json"], "trace": True}, folder)
    plain = plan_from_data({"instances": ["random-3.json"]}, folder)
    output = folder / "results.parquet"
    sweep(plain, output, Workers(jobs=1))
    sweep(plan, output, Workers(jobs=1))
    rows = pd.read_parquet(output)
    assert rows["trace"].isna().tolist() == [True, False]
    (last,) = sweep(plan, output)["trace"]  # read, not run
    seconds, objective, bound = np.array([list(point) for point in last], dtype=float).T
    assert (np.diff(seconds) >= 0).all()
    assert objective[-1] == pytest.approx(rows["objective"].iloc[1])
    assert bound[-1] == pytest.approx(rows["bound"].iloc[1])
    assert (np.diff(objective[~np.isnan(objective)]) <= 0).all()
    assert (np.diff(bound[~np.isnan(bound)]) >= 0).all()


def test_the_summary_counts_wins_gaps_and_means() -> None:
    rows = pd.DataFrame(
        {
            "instance": ["a", "a", "b", "b"],
            "seed": 0,
            "solver": ["x", "y", "x", "y"],
            "options": "default",
            "status": ["optimal", "feasible", "optimal", "error"],
            "objective": [10.0, 12.0, 5.0, None],
            "gap": [0.0, 0.2, 0.0, None],
            "seconds": [1.0, 3.0, 3.0, 1.0],
            "peak_mib": [100.0, 200.0, 150.0, None],
        }
    )
    lines = summarise(rows).set_index("solver")
    assert list(lines["wins"]) == [2, 0]
    assert list(lines["proved"]) == [2, 0]
    assert list(lines["errors"]) == [0, 1]
    assert lines.loc["y", "above best %"] == pytest.approx(20.0)
    assert lines.loc["x", "seconds (sgm)"] == pytest.approx(np.sqrt(2 * 4) - 1)
    assert shifted_geometric_mean(np.array([3.0]), 1.0) == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('instances = ["none-*.json"]', "instances[0]: found 'none-*.json'"),
        ('instances = ["random-3.json"]\nsolver = ["auto"]', "did you mean 'solvers'"),
        ('instances = ["random-3.json"]\nsolvers = ["gredy"]', "did you mean 'greedy'"),
        ('instances = ["random-3.json"]\nseeds = [true]', "seeds: found [True]"),
        ('instances = ["random-3.json"]\ntime_limit = 0', "time_limit: found 0"),
        ('instances = ["random-3.json"]\n[variants.a]\ngaps = 1', "variants.a.gaps"),
        ("solvers = []", "solvers: expected one or more"),
        ("instances = [", "is not TOML"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused_by_its_place(
    folder: Path, text: str, said: str
) -> None:
    (folder / "wrong.toml").write_text(text)
    if text.startswith("solvers"):
        (folder / "wrong.toml").write_text('instances = ["random-3.json"]\n' + text)
    with pytest.raises(InputError) as caught:
        read_sweep_plan(folder / "wrong.toml")
    assert said in str(caught.value)
    assert "wrong.toml" in str(caught.value)


def test_workers_that_make_no_sense_are_refused() -> None:
    for fields in ({"backend": "daks"}, {"scheduler": "tcp://x:1"}, {"jobs": 0}):
        with pytest.raises(UsageError):
            Workers(**fields)  # type: ignore[arg-type]


def test_the_command_prints_a_line_for_each_solver(folder: Path) -> None:
    arguments = ["sweep", str(folder / "plan.toml"), "-o", str(folder / "out.parquet")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.stderr
    assert "auto" in result.stdout
    assert "greedy" in result.stdout
    assert "8 of 8 cells" in result.stderr
    again = CliRunner().invoke(main, [*arguments, "--format", "json", "--quiet"])
    assert len(json.loads(again.stdout)) == 8
    assert not again.stderr
