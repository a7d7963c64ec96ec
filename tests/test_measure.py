"""The profiler: shapes, designs, the data set's files, the guard, and short real campaigns."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from onnx_folder import write_models

from placer.cli import main
from placer.errors import InputError, UsageError
from placer.interference.measurements import read_measurements
from placer.measure import design, host
from placer.measure.campaign import Campaign
from placer.measure.dataset import DataSet, Group, by_run
from placer.measure.guard import Guard, Limits, NotQuietError, Reading
from placer.measure.onnx_models import read_models
from placer.measure.plan import Plan, read_plan
from placer.measure.runner import Timed, Window, timing
from placer.measure.shapes import Shape

SHORT = Window(seconds=0.08, requests=3, longest=0.5, warm_up=0.02)
ANYTHING = Limits(sentinel=1e9, foreign=1e9, stolen=1e9)
"""Test machines are shared: here it matters that runs are made, not what they read."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"), {"small": 32, "wide": 256})


@pytest.fixture
def busy_neighbour() -> Iterator[None]:
    """Keep one processor busy in another process."""
    loop = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    yield
    loop.kill()
    loop.wait()


@pytest.mark.parametrize(
    "name", ["1-core", "2-core", "1.5-of-2-core", "2-core-2-threads", "1-core-512-mib"]
)
def test_a_shape_is_named_for_what_it_is(name: str) -> None:
    assert Shape.parse(name).name == name


@pytest.mark.parametrize("name", ["", "two-core", "0-core", "3-of-2-core", "2-core-0-threads"])
def test_other_names_are_no_shapes(name: str) -> None:
    with pytest.raises(UsageError, match="VM type"):
        Shape.parse(name)


def test_a_complete_design_has_every_multiset_once() -> None:
    groups = design.complete([Shape(1), Shape(2)], ["a", "b", "c"], 3)
    assert len(groups) == 2 * (6 + 10)
    assert len({group.key for group in groups}) == len(groups)


def test_random_groups_differ_and_never_overload_an_open_loop() -> None:
    latency = {"a": 10.0, "b": 20.0}
    rates = design.rates_of(latency, [0.2, 0.6])
    assert rates == {"a": [20.0, 70.0], "b": [10.0, 30.0]} or rates["a"][0] == 20.0
    shapes = [Shape(1), Shape(2)]
    source = design.random_groups(shapes, ["a", "b"], {2: 1, 3: 1, 5: 1}, rates, latency, 0)
    groups = [group for group, _ in zip(source, range(60), strict=False)]
    assert len({group.key for group in groups}) == len(groups)
    assert any(rate is not None for group in groups for rate in group.rates)
    for group in groups:
        load = sum(
            1.0 if rate is None else rate * latency[m] / 1000
            for m, rate in zip(group.models, group.rates, strict=True)
        )
        open_loops = [rate for rate in group.rates if rate is not None]
        if len(open_loops) == len(group.rates):
            assert load <= Shape.parse(group.vm_type).vcpu


def test_solos_are_asked_for_at_every_rate_used() -> None:
    solos = design.solos_needed([Group("t", ("a", "b"), (5.0, None)), Group("t", ("a",), (None,))])
    assert [(g.models, g.rates) for g in solos] == [
        (("a",), (None,)), (("a",), (5.0,)), (("b",), (None,)),
    ]  # fmt: skip


def run_of(name: str, kept: str = "yes", reason: str = "") -> dict[str, object]:
    return {"run": name, "host": "h", "vm_type": "t", "degree": 2, "models": "a b",
            "kept": kept, "reason": reason}  # fmt: skip


def rows_for(name: str) -> list[dict[str, object]]:
    return [{"run": name, "vm_type": "t", "model": model, "latency_ms_p50": 2.5} for model in "ab"]


def test_a_data_set_is_read_again_as_it_was_written(tmp_path: Path) -> None:
    data = DataSet(tmp_path / "set")
    data.add(run_of("h-1"), rows_for("h-1"))
    data.add(run_of("h-2", "no", "sentinel +9 %"), rows_for("h-2"))
    again = DataSet(tmp_path / "set")
    assert again.done == {Group.closed("t", ["b", "a"]).key: 1}
    assert again.thrown() == {"sentinel": 1}
    assert {row["run"] for row in again.rows} == {"h-1"}


def test_a_run_cut_off_while_written_does_not_count(tmp_path: Path) -> None:
    data = DataSet(tmp_path / "set")
    data.add(run_of("h-1"), rows_for("h-1"))
    with (tmp_path / "set" / "measurements.csv").open("a") as stream:
        stream.write("h-2,t,a,,2.5,,,,,,,x\nh-2,t,b")
    again = DataSet(tmp_path / "set")
    assert {row["run"] for row in again.rows} == {"h-1"}
    with (tmp_path / "set" / "measurements.csv").open(newline="") as stream:
        assert {row["run"] for row in csv.DictReader(stream)} == {"h-1"}


def test_merging_keeps_both_and_refuses_another_vm_type_of_the_same_name(tmp_path: Path) -> None:
    for name in ("one", "two"):
        data = DataSet(tmp_path / name)
        data.add(run_of(f"{name}-1"), rows_for(f"{name}-1"))
        data.describe("vm_types.csv", "vm_type", {"t": {"host": "same"}})
    first = DataSet(tmp_path / "one")
    assert first.merge(DataSet(tmp_path / "two")) == 1
    assert first.merge(DataSet(tmp_path / "two")) == 0
    assert set(by_run(first.rows)) == {"one-1", "two-1"}
    other = DataSet(tmp_path / "three")
    other.describe("vm_types.csv", "vm_type", {"t": {"host": "another"}})
    with pytest.raises(InputError, match="another name"):
        first.merge(other)


def test_a_timing_counts_what_lies_within_the_window() -> None:
    served = {"start": [0, 1, 2, 3], "end": [0.9, 1.9, 2.9, 3.9], "cpu": [0.5, 1.0, 1.5, 2.0]}
    one = timing(served, 1.0, 3.0, None)
    assert one.latency_ms_p50 == pytest.approx(900.0)
    assert one.requests == 2
    assert one.throughput_rps == pytest.approx(1.0)
    assert one.cpu_util == pytest.approx(0.5, abs=0.05)
    assert not one.saturated


def test_an_open_loop_that_falls_behind_is_saturated() -> None:
    start = np.arange(0, 2, 0.01)
    served = {"start": start.tolist(), "end": (start * 3 + 0.03).tolist(), "cpu": start.tolist()}
    assert timing(served, 0.5, 2.0, 100.0).saturated
    served["end"] = (start + 0.005).tolist()
    assert not timing(served, 0.5, 2.0, 100.0).saturated


def test_the_guard_finds_what_moved() -> None:
    guard = Guard.__new__(Guard)
    guard.limits = Limits()
    calm, none = host.Between(1.0, 0.0, 0.0), np.array([1.0, 2.0])
    from collections import deque

    guard._accepted = deque([none, none * 1.01, none * 0.99])
    usual = Reading(none, calm)
    assert guard.judge(usual, Timed([], 1.0, calm), usual) == ""
    slow = Reading(none * [1.0, 1.2], calm)
    assert guard.judge(usual, Timed([], 1.0, calm), slow).startswith("sentinel +20 %")
    loaded = Timed([], 1.0, host.Between(1.0, 0.5, 0.0))
    assert guard.judge(usual, loaded, usual).startswith("foreign load")
    stolen = Timed([], 1.0, host.Between(1.0, 0.0, 0.2))
    assert "stolen" in guard.judge(usual, stolen, usual)


@pytest.mark.usefixtures("busy_neighbour")
def test_a_neighbours_load_is_seen(models: Path) -> None:
    guard = Guard(Limits(patience=0.5))
    try:
        with pytest.raises(NotQuietError, match="goes on from there"):
            guard.begin(lambda reason: None)
    finally:
        guard.close()


def test_static_features_are_read_off_the_graph(models: Path) -> None:
    small, wide = read_models(models)
    assert small.features["gflops"] == pytest.approx(2 * 2 * 32 * 32 * 1e-9)
    assert wide.features["parameters_m"] == pytest.approx(256 * 256 / 1e6)
    assert wide.features["weights_mib"] == pytest.approx(4 * 256 * 256 / 2**20)


def test_a_campaign_measures_each_group_once_and_resumes(tmp_path: Path, models: Path) -> None:
    groups = [Group.closed("1-core", ["small", "wide"]), Group("1-core", ("small",), (50.0,))]
    for expected in (2, 0):
        data = DataSet(tmp_path / "set")
        campaign = Campaign(data, read_models(models), [Shape(1)], window=SHORT, limits=ANYTHING)
        with campaign:
            assert campaign.measure(groups) == expected
    rows = by_run(DataSet(tmp_path / "set").rows)
    assert sorted(map(len, rows.values())) == [1, 2]
    alone = next(row[0] for row in rows.values() if len(row) == 1)
    assert float(alone["memory_mib"]) > 1
    assert alone["rate_rps"] == "50"


PLAN = """
models = "models"
vm_types = ["1-core"]
design = "complete"
degree = 2
repeats = 1
seconds = 0.05
requests = 2
[limits]
sentinel = 1e9
foreign = 1e9
stolen = 1e9
"""


def test_the_command_writes_a_set_that_can_be_trained_on(tmp_path: Path) -> None:
    write_models(tmp_path / "models", {"small": 32, "wide": 256})
    plan = tmp_path / "plan.toml"
    plan.write_text(PLAN)
    arguments = ["measure", str(plan), "-o", str(tmp_path / "set")]
    result = CliRunner().invoke(main, arguments, prog_name="placer")
    assert result.exit_code == 0, result.output
    assert "5 runs kept" in result.stdout
    assert "thrown away" in result.stderr
    measured = read_measurements(tmp_path / "set")
    assert sorted(measured.targets()["model"]) == ["small", "small", "wide", "wide"]
    trained = ["train", str(tmp_path / "set"), "-o", str(tmp_path / "predictor.json")]
    assert CliRunner().invoke(main, trained, prog_name="placer").exit_code == 0


def test_every_group_runs_once_in_each_pass(tmp_path: Path) -> None:
    write_models(tmp_path / "models", {"small": 32, "wide": 256})
    plan = tmp_path / "plan.toml"
    for passes, runs in ((1, 5), (2, 8)):
        plan.write_text(PLAN.replace("repeats = 1", f"repeats = 1\npasses = {passes}"))
        arguments = ["measure", str(plan), "-o", str(tmp_path / "set")]
        result = CliRunner().invoke(main, arguments, prog_name="placer")
        assert result.exit_code == 0, result.output
        kept = by_run(DataSet(tmp_path / "set").rows)
        assert len(kept) == runs
    pairs = Counter(tuple(sorted(r["model"] for r in rows)) for rows in kept.values())
    assert {group: n for group, n in pairs.items() if len(group) == 2} == {
        ("small", "small"): 2,
        ("small", "wide"): 2,
        ("wide", "wide"): 2,
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("desing = 'random'", "desing: unknown field (did you mean 'design'?)"),
        ("design = 'rando'", "design: found 'rando' (did you mean 'random'?)"),
        ("degree = 'four'", "degree: found 'four'; expected a whole number"),
        ("loads = 0.2", "loads: found 0.2; expected a list"),
        ("loads = [-1.0]", "loads: expected numbers above 0"),
        ("[limits]\nforein = 1", "limits.forein: unknown field (did you mean 'foreign'?)"),
        ("[[groups]]\nmodel = ['a']", "groups[0].model: unknown field (did you mean 'models'?)"),
        ("degree = = 3", "is not TOML"),
    ],
)
def test_a_wrong_plan_is_refused_with_its_place(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "plan.toml"
    file.write_text(text)
    with pytest.raises(InputError) as error:
        read_plan(file)
    assert expected in str(error.value)
    assert str(file) in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nowhere", "-o", "OUT"], "does not exist"),
        (["MODELS", "-o", "OUT", "--vm-type", "two-core"], "expected a shape"),
        (["MODELS", "-o", "OUT", "--vm-type", "4096-core"], "this host offers"),
        (["MODELS", "-o", "OUT", "--design", "complet"], "did you mean 'complete'"),
        (["MODELS", "-o", "OUT", "--only", "smal"], "did you mean 'small'"),
        (["MODELS", "-o", "OUT", "--budget", "soon"], "expected a time"),
        (["-o", "OUT"], "nothing to measure"),
        (["MODELS"], "missing -o"),
        (["-o", "OUT", "--merge", "MODELS"], "no runs.csv"),
    ],
)
def test_wrong_usage_is_one_line(
    tmp_path: Path, models: Path, arguments: list[str], expected: str
) -> None:
    places = {"MODELS": str(models), "OUT": str(tmp_path / "out")}
    said = CliRunner().invoke(
        main, ["measure", *(places.get(a, a) for a in arguments)], prog_name="placer"
    )
    assert said.exit_code == 2
    assert expected in said.stderr
    assert "Traceback" not in said.stderr


def test_usual_designs_follow_the_plan() -> None:
    assert Plan().window() == Window(1.0, 20, 4.0)
    with pytest.raises(InputError, match="above 0"):
        Plan(runs=0)
