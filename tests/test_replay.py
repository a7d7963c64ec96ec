"""Replay: VMs of a placement run for real, counted, and compared with what was predicted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from onnx_folder import write_models

from placer.cli import main
from placer.errors import InputError, UsageError
from placer.interference.measured import measured_slowdowns
from placer.interference.measurements import from_tables
from placer.measure import replay as replay_module
from placer.measure.dataset import Group
from placer.measure.guard import Guard, Limits, NotQuietError
from placer.measure.host import Between
from placer.measure.jobs import find_models, predicted_over_slo, shape_in, shapes_of
from placer.measure.judging import measured_score
from placer.measure.onnx_models import OnnxModel
from placer.measure.replay import replay, replay_all, rounds
from placer.measure.replayed import Replay, ReplayedModel, ReplayedVm, percentiles
from placer.measure.runner import Timed, Timing, Window
from placer.measure.shapes import Shape
from placer.placement import PlacedModel, Placement
from placer.problem import Instance

SHORT = Window(seconds=0.08, requests=3, longest=0.4, warm_up=0.02)
ANYTHING = Limits(sentinel=1e9, foreign=1e9, stolen=1e9)
"""Test machines are shared: here it matters that runs are made, not what they read."""

INSTANCE = {
    "format": "placer/instance",
    "version": 1,
    "name": "pair",
    "vm_types": [
        {"name": "1-core", "capacity": {}, "price": 0.5},
        {"name": "big", "capacity": {}, "price": 1.0},
    ],
    "models": [
        {"name": "small", "replicas": 4, "solo_latency_ms": 0.01, "slo_ms": 1e6},
        {"name": "wide", "replicas": 3, "rate_rps": 40, "solo_latency_ms": 0.1, "slo_ms": 1e-4},
    ],
    "interference": {"kind": "pairwise", "slowdown": {}, "default": 1.25},
    "objective": {"slo": {"penalty": 10.0}},
}
VMS = [
    ("1-core-0", "1-core", ["small", "wide"]),
    ("1-core-1", "1-core", ["wide", "small"]),
    ("big-0", "big", ["small", "small"]),
    ("big-1", "big", ["wide"]),
]


def placement_of(vms: Sequence[tuple[str, str, list[str]]] = VMS, **said: float) -> Placement:
    content = [
        {"name": name, "vm_type": vm_type, "models": [{"name": m, **said} for m in models]}
        for name, vm_type, models in vms
    ]
    return Placement.from_dict({"instance": "pair", "vms": content})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"), {"small": 32, "wide": 192})


@pytest.fixture(scope="module")
def models(folder: Path) -> dict[str, OnnxModel]:
    return find_models(folder, ["small", "wide"])


@pytest.fixture(scope="module")
def replayed(models: dict[str, OnnxModel]) -> Replay:
    """A placement of four VMs, of which two are equal, replayed with an instance."""
    return replay(
        placement_of(), models, shapes={"big": Shape(1)}, instance=Instance.from_dict(INSTANCE),
        repeats=2, window=SHORT, limits=ANYTHING,
    )  # fmt: skip


@pytest.fixture
def no_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command line, which has no option for it, accept every run."""
    begin = Guard.__init__
    monkeypatch.setattr(Guard, "__init__", lambda self, limits=None: begin(self, ANYTHING))


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["replay", *(str(argument) for argument in arguments)])


def test_equal_vms_are_run_once_and_counted(replayed: Replay) -> None:
    assert [(vm.names, vm.runs) for vm in replayed.vms] == [
        (("1-core-0", "1-core-1"), 2),
        (("big-0",), 2),
        (("big-1",), 3),  # it is a solo run as well, and those are made three times
    ]
    totals = replayed.totals()
    assert (totals["vms"], totals["different_vms"], totals["vms_replayed"]) == (4, 3, 4)
    assert totals["replicas"] == 7
    assert replayed.stopped_by == "complete"
    assert not replayed.closed_loop


def test_totals_add_up_from_the_rows(replayed: Replay) -> None:
    data = json.loads(json.dumps(replayed.to_dict()))
    assert (data["format"], data["version"], data["kind"]) == ("placer/replay", 1, "measured")
    rows = [(m, len(vm["names"]) * m["replicas"]) for vm in data["vms"] for m in vm["models"]]
    totals = data["totals"]
    for side in ("predicted", "measured"):
        whole = sum(count * (m["slowdown"][side] - 1.0) for m, count in rows)
        assert totals["degradation"][side] == pytest.approx(whole)
        assert totals["slos_missed"][side] == sum(c for m, c in rows if m["over_slo"][side])
        worst = max(m["slowdown"][side] for m, _ in rows)
        assert totals["worst_slowdown"][side] == pytest.approx(worst)
    assert totals["requests"] == sum(m["requests"] for m, _ in rows) > 0
    assert totals["slos"] == 7
    assert totals["latency_ms"]["p50"] <= totals["latency_ms"]["p95"] <= totals["latency_ms"]["p99"]
    assert data["host"]["cpu_model"]
    assert data["host"]["protocol"]["window_seconds"] == SHORT.seconds
    assert data["runs"]["kept"] >= 2 + 2 + 3 + 3 * 3


def test_measured_is_told_from_predicted(replayed: Replay) -> None:
    shared, twins, alone = replayed.vms
    by_name = {model.name: model for model in shared.models}
    assert by_name["small"].predicted_slowdown == by_name["wide"].predicted_slowdown == 1.25
    assert by_name["wide"].rate_rps == 40
    assert by_name["wide"].over_slo
    assert not by_name["small"].over_slo
    assert twins.models[0].replicas == 2
    assert twins.shape == "1-core"
    assert alone.models[0].predicted_slowdown == 1.0
    if not alone.models[0].saturated:
        assert alone.models[0].slowdown == pytest.approx(1.0)
    for vm in replayed.vms:
        for model in vm.models:
            assert len(model.latencies_ms)
            assert model.slowdown is None or model.slowdown > 0


def test_the_objective_is_the_instances_with_measured_slowdowns(replayed: Replay) -> None:
    totals = replayed.totals()
    assert totals["price"] == 3.0
    if totals["saturated_replicas"]:
        pytest.skip("the machine could not keep up with 40 requests/s")
    terms = totals["measured_terms"]
    assert terms["price"] == 3.0
    assert terms["slo"] == 10.0 * 3
    assert terms["degradation"] == pytest.approx(totals["degradation"]["measured"])
    assert totals["objective"]["measured"] == pytest.approx(sum(terms.values()))


class FakeCampaign:
    """A campaign on a host where each replica takes 10 ms times the replicas on its VM."""

    kept = 10**9
    error: BaseException = KeyboardInterrupt()

    def __init__(self, data: object, models: object, shapes: object, **options: Any) -> None:
        self._on_run = options["on_run"]

    def __enter__(self) -> FakeCampaign:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def measure(self, groups: Sequence[Group]) -> None:
        for number, group in enumerate(groups):
            if number == self.kept:
                raise self.error
            ms = 10.0 * len(group.models)
            answers = np.full(4, ms + number / 1000)
            timing = Timing(ms, ms, ms, 1000 / ms, 4, 1.0, saturated=False, latencies_ms=answers)
            timed = Timed([timing] * len(group.models), 1.0, Between(1.0, 0.0, 0.0))
            self._on_run(group, timed, "0.5 processors stolen")  # thrown away, so it counts nowhere
            self._on_run(group, timed, "")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeCampaign]:
    """Let replays run on a host whose times are known."""
    campaign = type("Campaign", (FakeCampaign,), {})
    monkeypatch.setattr(replay_module, "Campaign", campaign)
    return campaign


PACKED = [("1-core-0", "1-core", ["small", "wide"])]


@pytest.mark.usefixtures("fake")
def test_several_placements_share_one_campaign(models: dict[str, OnnxModel]) -> None:
    spread = placement_of([("1-core-0", "1-core", ["small"]), ("1-core-1", "1-core", ["wide"])])
    found = replay_all({"spread": spread, "packed": placement_of(PACKED)}, models, repeats=1)
    assert found["spread"].runs_kept == found["packed"].runs_kept == 3 + 3 + 1
    assert [vm.slowdowns("measured") for vm in found["spread"].vms] == [(1.0, 1.0)] * 2
    totals = found["packed"].totals()
    assert totals["degradation"] == {"predicted": None, "measured": 2.0}
    assert totals["objective"] == {"predicted": None, "measured": None}
    assert "closed loop" in found["packed"].notes[0]


@pytest.mark.usefixtures("fake")
def test_errors_and_ratio_compare_what_was_both_predicted_and_measured(
    models: dict[str, OnnxModel],
) -> None:
    totals = replay(placement_of(PACKED, slowdown=1.6), models).totals()
    assert totals["mean_slowdown"] == {"predicted": pytest.approx(1.6), "measured": 2.0}
    assert totals["degradation"] == {"predicted": pytest.approx(1.2), "measured": 2.0}
    assert totals["degradation_ratio"] == pytest.approx(2.0 / 1.2)
    assert totals["mean_absolute_error_percent"] == pytest.approx(20.0)
    assert totals["replicas_compared"] == 2


@pytest.mark.usefixtures("fake")
def test_every_vm_runs_itself_where_that_is_asked(models: dict[str, OnnxModel]) -> None:
    twice = placement_of([(f"1-core-{n}", "1-core", ["small", "wide"]) for n in range(2)])
    found = replay(twice, models, every=True, repeats=2)
    assert [(vm.names, vm.runs) for vm in found.vms] == [(("1-core-0",), 2), (("1-core-1",), 2)]
    first, second = (vm.models[0].latencies_ms for vm in found.vms)
    assert not set(first) & set(second)
    assert found.totals()["degradation"]["measured"] == 4.0


def test_every_round_holds_each_group_and_its_solos() -> None:
    pair, alone = Group.closed("1-core", ["a", "b"]), Group.closed("1-core", ["a"])
    order = rounds([pair, alone], {pair.key: 2, alone.key: 2}, 3, seed=0)
    count = {key: sum(g.key == key for g in order) for key in {g.key for g in order}}
    assert count == {pair.key: 2, alone.key: 3, Group.closed("1-core", ["b"]).key: 3}
    assert {group.key for group in order[:3]} == count.keys()


def test_ctrl_c_reports_what_was_replayed(
    models: dict[str, OnnxModel], fake: type[FakeCampaign]
) -> None:
    fake.kept = 4
    found = replay(placement_of(), models, shapes={"big": Shape(1)})
    assert found.stopped_by == "interrupt"
    assert found.runs_kept == 4
    assert json.dumps(found.to_dict())


@pytest.mark.parametrize("kept", [0, 3])
def test_a_host_that_is_never_quiet(
    kept: int, models: dict[str, OnnxModel], fake: type[FakeCampaign]
) -> None:
    fake.kept = kept
    fake.error = NotQuietError("the host was not quiet for 5 s (x); the same command goes on")
    if not kept:
        with pytest.raises(NotQuietError, match=r"not quiet for 5 s \(x\)$"):
            replay(placement_of(PACKED), models)
        return
    found = replay(placement_of(PACKED), models)
    assert found.stopped_by == "not-quiet"
    assert found.notes[0] == "the host was not quiet for 5 s (x)"
    assert found.totals()["degradation"]["measured"] == 2.0


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("2-core", "2-core"), ("lab-2-core", "2-core"), ("x1.5-of-2-core", "1.5-of-2-core"),
        ("c5-1-core-2-threads", "1-core-2-threads"), ("c2", None), ("3-of-2-core", None),
    ],
)  # fmt: skip
def test_shapes_are_read_from_the_end_of_a_name(name: str, shape: str | None) -> None:
    found = shape_in(name)
    assert (None if found is None else found.name) == shape


def test_a_vm_type_that_no_shape_plays_is_refused() -> None:
    with pytest.raises(InputError, match=r"^vms\[2\].vm_type: VM type 'big' is no shape"):
        shapes_of(placement_of(), {})
    with pytest.raises(InputError, match=r"^vms\[2\].vm_type: .* has 4096 cores"):
        shapes_of(placement_of(), {"big": Shape(4096)})


def test_what_an_instance_says_must_fit(models: dict[str, OnnxModel]) -> None:
    def refused(changed: dict[str, object], message: str) -> None:
        instance = Instance.from_dict({**INSTANCE, **changed})
        with pytest.raises(InputError, match=message):
            replay(placement_of(), models, shapes={"big": Shape(1)}, instance=instance)

    first = INSTANCE["models"][0]  # type: ignore[index]
    refused({"models": [first]}, r"models\[1\].name: model 'wide' is not in the instance")
    idle = {"name": "wide", "rate_rps": 0}
    refused({"models": [first, idle]}, "has rate_rps 0")
    refused({"vm_types": [{"name": "1-core", "capacity": {}}]}, r"^vms\[2\].vm_type: .* not in the")
    with pytest.raises(InputError, match=r"^vms: there is no VM with a replica"):
        replay(placement_of([("1-core-0", "1-core", [])]), models)


def test_an_slo_is_predicted_by_its_upper_bound() -> None:
    placed = {"name": "a", "slowdown": 1.5, "latency_ms": 15.0, "slo_ms": 18.0}
    assert predicted_over_slo(PlacedModel(**placed)) is False
    assert predicted_over_slo(PlacedModel(**placed, slowdown_upper=2.0)) is True
    assert predicted_over_slo(PlacedModel(name="a", slowdown=1.5, slo_ms=18.0)) is None


def test_requests_weigh_as_much_as_there_are_vms() -> None:
    many = ReplayedModel("a", 1, slo_ms=5.0, latency_ms_p50=1.0, latencies_ms=np.full(10, 1.0))
    few = ReplayedModel("a", 1, slo_ms=5.0, latency_ms_p50=9.0, latencies_ms=np.full(10, 9.0))
    vms = (
        ReplayedVm(("x", "y", "z"), "1-core", "1-core", 1, (many,)),
        ReplayedVm(("w",), "1-core", "1-core", 2, (few,)),
    )
    totals = Replay("i", vms, closed_loop=True).totals()
    assert totals["requests_over_slo_share"] == pytest.approx(5 / 35)
    assert totals["latency_ms"] == {"p50": 1.0, "p95": 9.0, "p99": 9.0}
    assert totals["slos_missed"]["measured"] == 1
    assert totals["degradation"] == {"predicted": None, "measured": None}
    assert percentiles(np.zeros(0), np.zeros(0)) == {"p50": None, "p95": None, "p99": None}


def test_slowdowns_of_measured_groups() -> None:
    import pandas as pd

    rows = [
        ("s1", "a", None, 10), ("s2", "b", None, 20), ("s3", "b", 5, 22),
        ("g1", "a", None, 15), ("g1", "b", None, 30), ("g2", "b", None, 50), ("g2", "a", None, 17),
        ("g3", "a", None, 20), ("g3", "a", None, 24), ("g3", "b", 5, 44),
        ("g4", "b", None, 30), ("g4", "b", 5, 44),
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["run", "model", "rate_rps", "latency_ms_p50"], dtype=object)
    measured = measured_slowdowns(
        from_tables(
            table.assign(vm_type="t"),
            pd.DataFrame({"model": ["a", "b"]}),
            pd.DataFrame({"vm_type": ["t"]}),
        )
    )
    assert measured == {
        Group.closed("t", ["b", "a"]).key: {"a": pytest.approx(1.6), "b": 2.0},
        Group("t", ("a", "a", "b"), (None, None, 5.0)).key: {"a": pytest.approx(2.2), "b": 2.0},
    }


def test_a_measured_score_needs_every_group() -> None:
    instance = Instance.from_dict(INSTANCE)
    assignment = [("1-core", ["small", "wide"]), ("big", ["wide"])]
    key = Group("1-core", ("small", "wide"), (None, 40.0)).key
    assert measured_score(instance, assignment, {}) is None
    scored = measured_score(instance, assignment, {key: {"small": 1.5, "wide": 3.0}})
    assert scored is not None
    assert scored.terms["degradation"] == pytest.approx(2.5)
    assert scored.terms["slo"] == 20.0
    here = {("1-core", "small"): 1e6, ("big", "wide"): 1e-5}
    scored = measured_score(instance, assignment, {key: {"small": 1.5, "wide": 3.0}}, here)
    assert scored is not None
    assert scored.terms["slo"] == 20.0  # small now misses, wide on big no more


@pytest.mark.usefixtures("no_guard")
def test_the_command_writes_and_prints(folder: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "placement.json", tmp_path / "replay.json"
    stated = placement_of([("lab-1-core-0", "lab-1-core", ["small", "wide"])], slowdown=1.5)
    file.write_text(json.dumps(stated.to_dict()))
    short = ["--seconds", "0.05", "--repeats", "1", "--quiet"]
    result = run(file, "--models", folder, *short, "-o", out)
    assert result.exit_code == 0, result.output
    data = json.loads(out.read_text())
    assert data["vms"][0]["shape"] == "1-core"
    assert data["closed_loop"]
    for text in ("pair: 1 VM", "Slowdown", "Latency of all requests", "ratio", "closed loop"):
        assert text in result.stdout
    assert "1.50 / 1.50" in result.stdout


def test_bad_usage_is_refused_before_anything_runs(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "placement.json"
    file.write_text(json.dumps(placement_of().to_dict()))
    wrong = tmp_path / "wrong.json"
    wrong.write_text(json.dumps(placement_of([("1-core-0", "1-core", ["smal"])]).to_dict()))
    with_models = (file, "--models", folder)
    for arguments, said in [
        ((file,), "no models: give --models FOLDER"),
        ((file, "--models", tmp_path), "has no .onnx file"),
        (with_models, f"{file}: vms[2].vm_type: VM type 'big' is no shape of this host"),
        ((*with_models, "--vm-type", "bog=1-core"), "no VM type 'bog' (did you mean 'big'?)"),
        ((*with_models, "--vm-type", "big"), "expected NAME=SHAPE"),
        ((*with_models, "--vm-type", "big=huge"), "found VM type 'huge'"),
        ((wrong, "--models", folder), "vms[0].models[0].name: there is no smal.onnx (did you mean"),
        ((*with_models, "-o", file), "is the placement's own file"),
        ((*with_models, "-o", tmp_path / "no" / "x"), "there is no folder"),
        ((tmp_path / "none.json", "--models", folder), "cannot be read"),
    ]:
        result = run(*arguments)
        assert result.exit_code == 2, (arguments, result.output)
        assert said in result.stderr


def test_a_host_that_is_not_quiet_is_exit_status_1(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "placement.json"
    file.write_text(json.dumps(placement_of([("x", "1-core", ["small"])]).to_dict()))

    def refuse(self: object, groups: object) -> None:
        raise NotQuietError("the host was not quiet for 5 s (x)")

    monkeypatch.setattr(replay_module.Bench, "run", refuse)
    result = run(file, "--models", folder, "--patience", "5s", "--quiet")
    assert (result.exit_code, result.stderr) == (1, "placer: the host was not quiet for 5 s (x)\n")


def test_shapes_that_are_none_are_usage_errors() -> None:
    from placer.cli.replay import read_shapes

    assert read_shapes(["a=b=2-core"], ["a=b"]) == {"a=b": Shape(2)}
    with pytest.raises(UsageError):
        read_shapes(["=2-core"], ["a"])
