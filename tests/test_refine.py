"""Refine: the loop of solving, measuring and learning, on a known truth and on this host."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import combinations_with_replacement
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from onnx_folder import write_models

from placer.checker import check
from placer.cli import main
from placer.errors import InputError, UsageError
from placer.interference.measurements import Measurements, from_tables
from placer.interference.predictor import Predictor, Settings
from placer.measure.dataset import Group
from placer.measure.design import solos_needed
from placer.measure.guard import Guard, Limits, NotQuietError
from placer.measure.jobs import find_models
from placer.measure.judging import groups_of
from placer.measure.laboratory import HostLaboratory
from placer.measure.refine import (
    AGREED,
    BUDGET,
    INTERRUPTED,
    NOT_QUIET,
    ROUNDS,
    STALLED,
    UNMEASURABLE,
    Refined,
    Refinement,
    Round,
    refine,
)
from placer.measure.runner import Window
from placer.measure.shapes import Shape
from placer.placement import Placement
from placer.problem import Instance

FEW_TREES = Settings(trees=60, learning_rate=0.2, depth=4, encoding_folds=4, calibration_folds=2)
ANYTHING = Limits(sentinel=1e9, foreign=1e9, stolen=1e9)
SHORT = Window(seconds=0.05, requests=2, longest=0.3, warm_up=0.02)
VCPU = {"narrow": 1.0, "broad": 2.0}
DEMAND = {"light": 0.3, "busy": 0.6, "heavy": 0.9, "cache": 0.4}
SOLO_MS = 10.0

INSTANCE = Instance.from_dict(
    {
        "format": "placer/instance",
        "version": 1,
        "name": "loop",
        "vm_types": [
            {"name": "narrow", "capacity": {}, "price": 0.6, "max_models": 3},
            {"name": "broad", "capacity": {}, "price": 1.0, "max_models": 3},
        ],
        "models": [
            {"name": name, "replicas": 2, "solo_latency_ms": SOLO_MS, "slo_ms": 3 * SOLO_MS}
            for name in DEMAND
        ],
        "interference": {"kind": "predictor"},
        "objective": {"price": 1.0, "degradation": 0.5, "slo": {"penalty": 1.0}},
    }
)


def true_slowdown(group: Group, model: str) -> float:
    """Contention above the cores, and two replicas of `cache` that hurt each other."""
    load = sum(DEMAND[name] for name in group.models) / VCPU[group.vm_type]
    clash = 0.8 if model == "cache" and group.models.count("cache") > 1 else 0.0
    return max(1.0, load) + 0.03 * (len(group.models) - 1) + clash


class Truth:
    """A laboratory that measures a function."""

    def __init__(self, groups: Iterable[Group] = ()) -> None:
        self.rows: list[tuple[str, str, str, float]] = []
        self.done: set[object] = set()
        self.asked: list[list[Group]] = []
        groups = list(groups)
        for group in (*solos_needed(groups), *groups):
            self.add(group)

    def add(self, group: Group) -> None:
        run = f"{len(self.rows):05d}"
        self.done.add(group.key)
        self.rows += [
            (run, group.vm_type, m, SOLO_MS * true_slowdown(group, m)) for m in group.models
        ]

    def lacking(self, groups: Sequence[Group]) -> list[Group]:
        return [group for group in groups if group.key not in self.done]

    def measure(self, groups: Sequence[Group]) -> None:
        self.asked.append(list(groups))
        for group in groups:
            self.add(group)

    def measurements(self) -> Measurements | None:
        if not self.rows:
            return None
        table = pd.DataFrame(self.rows, columns=["run", "vm_type", "model", "latency_ms_p50"])
        models = pd.DataFrame({"model": list(DEMAND), "demand": list(DEMAND.values())})
        vm_types = pd.DataFrame({"vm_type": list(VCPU), "vcpu": list(VCPU.values())})
        return from_tables(table.astype(object), models, vm_types)


def some_groups() -> list[Group]:
    """All pairs and half of the triples, but for those with `cache` twice."""
    found = [
        Group.closed(vm_type, names)
        for vm_type in VCPU
        for size in (2, 3)
        for names in combinations_with_replacement(sorted(DEMAND), size)
        if names.count("cache") < 2
    ]
    return found[::2]


@pytest.fixture(scope="module")
def laboratory() -> Truth:
    return Truth(some_groups())


@pytest.fixture(scope="module")
def refined(laboratory: Truth) -> Refined:
    return refine(INSTANCE, laboratory, rounds=6, tolerance=0.10, settings=FEW_TREES)


@pytest.fixture(scope="module")
def trained() -> Predictor:
    measurements = Truth(some_groups()).measurements()
    assert measurements is not None
    return Predictor.train(measurements, settings=FEW_TREES)


@pytest.fixture
def no_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command line, which has no option for it, accept every run."""
    begin = Guard.__init__
    monkeypatch.setattr(Guard, "__init__", lambda self, limits=None: begin(self, ANYTHING))


def test_the_loop_ends_where_prediction_and_truth_agree(refined: Refined) -> None:
    last = refined.rounds[-1]
    assert refined.stopped_by == AGREED
    assert last.apart is not None
    assert last.apart <= 0.10
    assert all(one.unmeasured == 0 for one in refined.rounds)


def test_only_what_the_placements_use_is_measured(refined: Refined, laboratory: Truth) -> None:
    _, *rounds = laboratory.asked  # the first were the solo runs that the data lacked
    assert [len(groups) for groups in rounds] == [one.measured_now for one in refined.rounds]
    known = {group.key for group in some_groups()}
    for groups, one in zip(rounds, refined.rounds, strict=True):
        used = {group.key for group in groups_of(INSTANCE, one.placement.assignment())}
        assert {group.key for group in groups} <= used - known


def test_the_best_placement_is_the_best_as_measured(refined: Refined) -> None:
    assert refined.measured is not None
    assert refined.measured == min(one.measured for one in refined.rounds if one.measured)
    assert refined.placement is not None
    by_hand = 0.0
    for vm in refined.placement.vms:
        names = [model.name for model in vm.models]
        by_hand += {"narrow": 0.6, "broad": 1.0}[vm.vm_type]
        for model in vm.models:
            truth = true_slowdown(Group.closed(vm.vm_type, names), model.name)
            assert (model.model_extra or {})["measured_slowdown"] == pytest.approx(truth, rel=1e-4)
            by_hand += 0.5 * (truth - 1.0) + (truth > 3.0)
    assert refined.measured == pytest.approx(by_hand, rel=1e-4)


def test_the_placement_is_valid_with_the_refined_predictor(refined: Refined) -> None:
    assert refined.placement is not None
    assert refined.predictor is not None
    data = json.loads(json.dumps(refined.to_dict()))
    assert (data["format"], data["version"]) == ("placer/refinement", 1)
    assert data["placement"]["measured"]["objective"] == pytest.approx(refined.measured)
    again = Placement.from_dict(data["placement"])
    assert check(INSTANCE.with_predictor(refined.predictor), again).violations == []


def test_it_may_begin_from_the_instances_predictor(trained: Predictor) -> None:
    nothing = Truth()
    found = refine(INSTANCE.with_predictor(trained), nothing, rounds=1, settings=FEW_TREES)
    assert len(nothing.asked[0]) == len(DEMAND) * len(VCPU)
    assert all(len(group.models) == 1 for group in nothing.asked[0])
    assert found.rounds[0].measured is not None
    assert found.stopped_by in (ROUNDS, AGREED)


def test_nothing_to_begin_from_is_said() -> None:
    data = {**INSTANCE.to_dict(), "interference": {"kind": "predictor", "predictor": "no.json"}}
    with pytest.raises(InputError, match=r"interference\.predictor: .*no such file"):
        refine(Instance.from_dict(data), Truth())


class Failing(Truth):
    """A laboratory in which something happens in the first round."""

    def __init__(self, error: BaseException | None) -> None:
        super().__init__()
        self.error = error

    def measure(self, groups: Sequence[Group]) -> None:
        if not self.asked:
            super().measure(groups)
        elif self.error is not None:
            raise self.error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyboardInterrupt(), INTERRUPTED),
        (NotQuietError("not quiet for 9 s; goes on"), NOT_QUIET),
        (None, UNMEASURABLE),
    ],
)
def test_what_could_not_be_measured_is_not_made_up(
    error: BaseException | None, reason: str, trained: Predictor
) -> None:
    found = refine(INSTANCE.with_predictor(trained), Failing(error))
    assert found.stopped_by == reason
    assert found.rounds[0].measured is None
    assert found.measured is None
    assert found.placement is not None
    assert found.placement.objective == pytest.approx(found.rounds[0].predicted)
    assert "measured" not in found.to_dict()["placement"]


def test_why_the_loop_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = Refinement(INSTANCE, Truth(), tolerance=0.05)
    placement = Placement.from_dict({"vms": []})
    first = Round(1, placement, 1.0, 1.2, 2.0, 2.4, 0, 0.2, 3, 2, 0, 1.0)
    monkeypatch.setattr(loop, "_rounds", [first, first])
    second = replace(first, number=2)
    assert loop._reason(first) == ""
    assert loop._reason(second) == ""
    assert loop._reason(replace(second, measured_now=0)) == STALLED
    assert loop._reason(replace(second, apart=0.05)) == AGREED
    assert loop._reason(replace(second, apart=None, unmeasured=1)) == UNMEASURABLE
    monkeypatch.setattr(loop, "_deadline", 0.0)
    assert loop._reason(second) == BUDGET


def test_the_laboratory_measures_what_is_lacking(tmp_path: Path) -> None:
    folder = write_models(tmp_path / "models", {"small": 32, "wide": 192})
    models = find_models(folder, ["small", "wide"])
    made = HostLaboratory(
        tmp_path / "data", models, {"c1": Shape(1)}, repeats=2, window=SHORT, limits=ANYTHING
    )
    pair = Group.closed("c1", ["wide", "small"])
    assert made.measurements() is None
    assert made.lacking([pair]) == [pair]
    made.measure([pair])
    assert made.lacking([pair]) == []
    measured = made.measurements()
    assert measured is not None
    rows = measured.rows
    assert rows.groupby("degree")["run"].nunique().to_dict() == {1: 6, 2: 2}
    assert set(measured.models.index) == {"small", "wide"}


def test_a_parquet_data_set_is_not_shadowed(tmp_path: Path) -> None:
    (tmp_path / "measurements.parquet").touch()
    with pytest.raises(UsageError, match="Parquet"):
        HostLaboratory(tmp_path, {}, {})


def command_files(folder: Path, trained: Predictor) -> tuple[Path, list[str]]:
    """Write models, a predictor and an instance; return the instance and usual options."""
    models = write_models(folder / "models", {"light": 32, "heavy": 128})
    trained.save(folder / "first.json")
    data = INSTANCE.to_dict()
    data["models"] = [
        {"name": "light", "replicas": 2, "solo_latency_ms": SOLO_MS, "slo_ms": 3 * SOLO_MS},
        {"name": "heavy", "replicas": 0},
    ]
    data["vm_types"] = [{"name": "narrow", "capacity": {}, "price": 5.0}]
    data["interference"] = {"kind": "predictor", "predictor": "first.json"}
    file = folder / "instance.json"
    file.write_text(json.dumps(data))
    options = ["--data", str(folder / "data"), "--models", str(models), "--quiet"]
    return file, options


@pytest.mark.usefixtures("no_guard")
def test_the_command_writes_what_it_found(tmp_path: Path, trained: Predictor) -> None:
    file, options = command_files(tmp_path, trained)
    out, placement = tmp_path / "refined.json", tmp_path / "placement.json"
    options += ["--vm-type", "narrow=1-core", "-o", str(out), "--placement", str(placement)]
    options += ["--rounds", "1", "--seconds", "0.05", "--repeats", "1"]
    result = CliRunner().invoke(main, ["refine", str(file), *options])
    assert result.exit_code == 0, result.output
    assert "Rounds of loop" in result.stdout
    assert "kept: the placement of round 1" in result.stdout
    assert Predictor.load(out).metadata["models"]
    stated = json.loads(placement.read_text())
    assert stated["measured"]["objective"] > 0
    assert (tmp_path / "data" / "runs.csv").exists()


def test_bad_usage_of_the_command(tmp_path: Path, trained: Predictor) -> None:
    file, options = command_files(tmp_path, trained)
    one = str(tmp_path / "x.json")
    for arguments, said in [
        ([], f"{file}: vm_types[0].name: VM type 'narrow' is no shape of this host"),
        (["--vm-type", "narow=1-core"], "(did you mean 'narrow'?)"),
        (["-o", str(file)], "is the instance's own file"),
        (["-o", one, "--placement", one], "expected two files"),
    ]:
        result = CliRunner().invoke(main, ["refine", str(file), *options, *arguments])
        assert result.exit_code == 2, result.output
        assert said in result.stderr
    (tmp_path / "models" / "light.onnx").unlink()
    arguments = [*options, "--vm-type", "narrow=1-core"]
    result = CliRunner().invoke(main, ["refine", str(file), *arguments])
    assert result.exit_code == 2
    assert f"{file}: models[0].name: there is no light.onnx" in result.stderr
