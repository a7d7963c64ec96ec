"""A trained predictor as an instance's interference: every solver, the check and the command."""

from __future__ import annotations

import json
from functools import cache
from importlib.util import find_spec
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from test_predictor import QUICK, write_folder

from placer.cli import main
from placer.errors import InputError
from placer.files import read_instance
from placer.interference import binding
from placer.interference.binding import bound_predictor, extrapolation_notes, load_predictor
from placer.interference.measurements import read_measurements
from placer.interference.predictor import Predictor
from placer.problem import Instance, Model
from placer.scoring import score
from placer.solvers.registry import SOLVERS
from placer.solving import solve
from placer.status import Status

BLIND = ("least-loaded", "round-robin", "random", "first-fit-decreasing", "best-fit-decreasing")
DEGREE = 3

Slowdowns = dict[tuple[str, tuple[str, ...]], dict[str, float]]
"""By VM type and sorted names, the slowdown of each model."""


def present() -> list[str]:
    """Return the solvers whose modules are there."""
    homes = {name: f"placer.solvers.{entry.home.split(':')[0]}" for name, entry in SOLVERS.items()}
    return [name for name, home in homes.items() if find_spec(home) is not None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained predictor, and an instance that names it from a folder below."""
    folder = tmp_path_factory.mktemp("predicted")
    data = folder / "data"
    data.mkdir()
    measured = read_measurements(write_folder(data, runs=90))
    Predictor.train(measured, settings=QUICK, workers=1).save(folder / "predictor.json")
    (folder / "instances").mkdir()
    (folder / "instances" / "batch.json").write_text(json.dumps(batch()))
    return folder


def batch(**changes: Any) -> dict[str, Any]:
    """Return a batch of four known models and a described one, six replicas, as JSON data."""
    described = {"family": "cnn", "gflops": 0.6}
    models: list[dict[str, Any]] = [
        {"name": "bert", "replicas": 2, "demand": {"vcpu": 0.9}},
        {"name": "vgg", "demand": {"vcpu": 0.8}},
        {"name": "mobilenet", "demand": {"vcpu": 0.1}, "weight": 2.0},
        {"name": "resnet50", "demand": {"vcpu": 0.5}},
        {"name": "stranger", "demand": {"vcpu": 0.6}, "features": described,
         "solo_latency_ms": {"c2": 20.0, "c4": 14.0}},
    ]  # fmt: skip
    data: dict[str, Any] = {
        "format": "placer/instance",
        "version": 1,
        "name": "predicted",
        "vm_types": [
            {"name": "c2", "capacity": {"vcpu": 2}, "price": 0.5, "max_models": DEGREE},
            {"name": "c4", "capacity": {"vcpu": 4}, "price": 0.9, "count": 2, "max_models": DEGREE},
        ],
        "models": models,
        "interference": {"kind": "predictor", "predictor": "../predictor.json"},
    }
    return data | changes


@cache
def loaded(path: Path) -> Predictor:
    return Predictor.load(path)


def predicted(folder: Path, **changes: Any) -> Instance:
    """Return the batch with its predictor in memory."""
    return Instance.from_dict(batch(**changes)).with_predictor(loaded(folder / "predictor.json"))


def late(model: Model, vm_type: str, slowdown: float) -> bool:
    solo = model.solo_latency_on(vm_type)
    return model.slo_ms is not None and solo is not None and solo * slowdown > model.slo_ms


def as_table(instance: Instance, measured: Slowdowns | None = None) -> Instance:
    """Return the same batch with the predictor's answers written out as a group table.

    Groups in `measured` have those slowdowns. Groups with a replica over its SLO are left out, by
    the bound that the instance asks for.
    """
    bound = bound_predictor(instance)
    quantile = getattr(instance.interference, "slo_quantile", None)
    slowdown: dict[str, list[dict[str, Any]]] = {}
    for t, vm_type in enumerate(instance.vm_types):
        for size in range(1, DEGREE + 1):
            for group in combinations_with_replacement(range(len(instance.models)), size):
                row = np.array([group])
                mean = bound.slowdown(t, row)
                members = [instance.models[k] for k in group]
                names = tuple(sorted(m.name for m in members))
                if known := (measured or {}).get((vm_type.name, names)):
                    mean = np.array([[known[m.name] for m in members]])
                upper = mean if quantile is None else bound.upper_of(t, row, mean, quantile)
                if any(late(m, vm_type.name, u) for m, u in zip(members, upper[0], strict=True)):
                    continue
                entry = {"models": [m.name for m in members], "slowdown": mean[0].tolist()}
                slowdown.setdefault(vm_type.name, []).append(entry)
    data = instance.to_dict()
    return Instance.from_dict({**data, "interference": {"kind": "groups", "slowdown": slowdown}})


@pytest.mark.parametrize("solver", present())
def test_every_solver_takes_a_predictor_as_it_takes_its_table(folder: Path, solver: str) -> None:
    instance = read_instance(folder / "instances" / "batch.json")
    table = as_table(instance)
    optimum = solve(table, solver="groups", workers=1).objective
    assert optimum is not None
    result = solve(instance, solver=solver, workers=1, seed=3)
    assert result.objective is not None
    same = score(table, result.placement.assignment()).objective
    assert result.objective == pytest.approx(same, abs=1e-9)
    assert result.objective >= optimum - 1e-6
    if SOLVERS[solver].exact:
        assert result.status == Status.OPTIMAL
        assert result.objective == pytest.approx(optimum, abs=1e-6)
    if SOLVERS[solver].exact or solver in BLIND:
        twin = solve(table, solver=solver, workers=1, seed=3)
        assert twin.objective == pytest.approx(result.objective, abs=1e-6)


@pytest.mark.parametrize("solver", [name for name in present() if SOLVERS[name].exact])
def test_slos_are_held_to_the_quantile_that_is_asked_for(folder: Path, solver: str) -> None:
    known = loaded(folder / "predictor.json")
    pair = Instance.from_dict(batch(models=[{"name": "vgg"}, {"name": "resnet50"}])).with_predictor(
        known
    )
    bound = bound_predictor(pair)
    alone = known.known.nearest("vgg", None)["c4"]["latency_ms_p50"]
    mean = bound.slowdown(1, np.array([[0, 1]]))[0, 0]
    upper = bound.upper(1, np.array([[0, 1]]), 0.95)[0, 0]
    assert upper > mean > 1.0
    vgg = {"name": "vgg", "solo_latency_ms": {"c4": alone}, "slo_ms": alone * (mean + upper) / 2,
           "vm_types": ["c4"]}  # fmt: skip
    other = {"name": "resnet50", "vm_types": ["c4"]}
    used = {}
    for quantile in (None, 0.95):
        kind = {"kind": "predictor", "slo_quantile": quantile}
        instance = predicted(folder, models=[vgg, other], interference=kind)
        table = as_table(instance)
        result = solve(instance, solver=solver, workers=1)
        assert result.status == Status.OPTIMAL
        twin = solve(table, solver=solver, workers=1)
        assert result.objective == pytest.approx(twin.objective, abs=1e-6)
        used[quantile] = len(result.placement.vms)
    assert used == {None: 1, 0.95: 2}
    one_vm = predicted(folder, models=[vgg, other], interference=kind, rules={"max_vms": 1})
    assert solve(one_vm, solver=solver, workers=1).status == Status.INFEASIBLE


def test_a_predictor_in_memory_answers_as_its_file_does(folder: Path) -> None:
    from_file = read_instance(folder / "instances" / "batch.json")
    in_memory = predicted(folder)
    results = [solve(one, solver="groups", workers=1) for one in (from_file, in_memory)]
    assert results[0].objective == results[1].objective
    assert load_predictor(in_memory) is loaded(folder / "predictor.json")


def test_an_unknown_model_is_refused_by_name(folder: Path) -> None:
    instance = predicted(folder, models=[{"name": "bertt"}, {"name": "vgg"}])
    with pytest.raises(
        InputError, match=r"'bertt' is not in the predictor's training data.*'bert'"
    ):
        solve(instance)
    unseen = {"name": "stranger", "features": {"family": "cnn"}}
    instance = predicted(folder, models=[unseen, {"name": "vgg"}])
    with pytest.raises(InputError, match=r"'stranger'.*solo_latency_ms for 'c2'"):
        solve(instance, solver="groups")


@pytest.mark.parametrize("kept", ["nowhere.json", "data", "data/models.csv"])
def test_a_predictor_that_cannot_be_read_is_refused(folder: Path, kept: str) -> None:
    data = batch(interference={"kind": "predictor", "predictor": kept})
    with pytest.raises(InputError) as caught:
        solve(Instance.from_dict(data, file=folder / "instance.json"))
    assert caught.value.path == "interference.predictor"
    assert kept in str(caught.value)


def test_builtin_is_refused_where_none_is_shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binding, "_BUILTIN_FILE", "not-shipped.json")
    with pytest.raises(InputError, match="without a built-in predictor") as caught:
        solve(Instance.from_dict(batch(interference={"kind": "predictor"})))
    assert caught.value.path == "interference.predictor"


def test_the_command_solves_and_refuses(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = folder / "instances" / "batch.json"
    done = CliRunner().invoke(main, ["solve", str(good), "--format", "json", "--quiet"])
    assert done.exit_code == 0, done.stderr
    (folder / "placement.json").write_text(done.stdout)
    checked = CliRunner().invoke(main, ["check", str(good), str(folder / "placement.json")])
    assert checked.exit_code == 0
    monkeypatch.setattr(binding, "_BUILTIN_FILE", "not-shipped.json")
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"models": [{"name": "bertt"}]}, "'bertt'"),
        ({"interference": {"kind": "predictor", "predictor": "builtin"}}, "built-in predictor"),
        ({"interference": {"kind": "predictor", "predictor": "gone.json"}}, "gone.json"),
    ]
    for changes, part in wrong:
        (folder / "instances" / "wrong.json").write_text(json.dumps(batch(**changes)))
        result = CliRunner().invoke(main, ["solve", str(folder / "instances" / "wrong.json")])
        assert result.exit_code == 2
        assert result.stdout == ""
        assert part in result.stderr
        assert result.stderr.count("\n") == 1


def test_notes_say_how_many_vms_are_far_from_the_training_data(folder: Path) -> None:
    instance = predicted(folder)
    near = [("c2", ["bert", "vgg"]), ("c2", ["stranger"]), ("c4", ["mobilenet"])]
    assert extrapolation_notes(instance, near) == []
    far = [*near, ("c4", ["bert", "stranger"]), ("c2", ["vgg", "stranger"]),
           ("c4", ["bert", "bert", "bert", "vgg", "vgg"])]  # fmt: skip
    notes = extrapolation_notes(instance, far)
    assert len(notes) == 2
    assert notes[0].endswith("no group with 'stranger' was measured (2 VMs)")
    assert notes[1].endswith("degree 5 is above 4, the largest measured (1 VM)")
    plain = Instance.from_dict(batch(interference={"kind": "none"}))
    assert extrapolation_notes(plain, far) == []
    assert extrapolation_notes(instance, []) == []


def test_notes_stay_few(folder: Path) -> None:
    strangers = [
        {"name": f"new{place}", "features": {"gflops": 0.5}, "solo_latency_ms": 10.0 + place}
        for place in range(12)
    ]
    instance = predicted(folder, models=strangers)
    assignment = [("c2", [f"new{place}", f"new{place + 1}"]) for place in range(11)]
    notes = extrapolation_notes(instance, assignment)
    assert len(notes) == binding.MOST_NOTES + 1
    assert "(2 VMs)" in notes[0]
    assert notes[-1] == "and 7 more such reasons"
