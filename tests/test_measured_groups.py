"""Measured groups beside a predictor: found again, never pruned away, said so, checked."""

from __future__ import annotations

import json
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from brute_force import brute_force
from click.testing import CliRunner
from test_exact_paths import assert_optimal, seeds, solved
from test_predictor import QUICK, write_folder
from test_predictor_in_solvers import DEGREE, Slowdowns, as_table, batch, present
from test_refine import INSTANCE, Truth, some_groups

from placer.cli import main
from placer.errors import InputError
from placer.files import read_instance
from placer.interference.binding import extrapolation_notes
from placer.interference.listed import ListedGroups
from placer.interference.measured import measured_groups, measured_notes, measured_slowdowns
from placer.interference.measurements import Measurements, from_tables, read_measurements
from placer.interference.plain import group_slowdowns
from placer.interference.predictor import Predictor
from placer.measure.refine import AGREED, refine
from placer.problem import Instance
from placer.protection import chance_of, protected
from placer.scoring import score
from placer.solvers.registry import SOLVERS
from placer.solving import solve
from placer.status import Status

NAMES = ["bert", "vgg", "mobilenet", "resnet50"]
SOLO_MS = 10.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained predictor, and the measurements that it was trained on in `data`."""
    folder = tmp_path_factory.mktemp("measured")
    (folder / "data").mkdir()
    measured = read_measurements(write_folder(folder / "data", runs=60))
    Predictor.train(measured, settings=QUICK, workers=1).save(folder / "predictor.json")
    return folder


@pytest.fixture(scope="module")
def predictor(folder: Path) -> Predictor:
    return Predictor.load(folder / "predictor.json")


def measurements(slowdowns: Slowdowns, rate: float | None = None) -> Measurements:
    """Return measurements in which every group ran once and was slowed down so."""
    rows = [(f"solo {vm} {name}", vm, name, rate, SOLO_MS) for vm in ("c2", "c4") for name in NAMES]
    for number, ((vm, names), values) in enumerate(slowdowns.items()):
        rows += [(f"run {number}", vm, name, rate, SOLO_MS * values[name]) for name in names]
    columns = ["run", "vm_type", "model", "rate_rps", "latency_ms_p50"]
    table = pd.DataFrame(rows, columns=columns).astype(object)
    table = table.where(table.notna(), None)
    models = pd.DataFrame({"model": NAMES}).astype(object)
    return from_tables(table, models, pd.DataFrame({"vm_type": ["c2", "c4"]}).astype(object))


def random_slowdowns(seed: int, share: float = 0.4) -> Slowdowns:
    """Return slowdowns of random groups, which know nothing of monotony."""
    random = np.random.default_rng(seed)
    found: Slowdowns = {}
    for vm in ("c2", "c4"):
        for size in range(2, DEGREE + 1):
            for names in combinations_with_replacement(sorted(NAMES), size):
                if random.random() < share:
                    values = random.choice([0.5, 0.8, 1.0, 1.3, 2.0, 4.0], len(NAMES))
                    found[vm, names] = {
                        name: float(v) for name, v in zip(NAMES, values, strict=True)
                        if name in names
                    }  # fmt: skip
    return found


def given(predictor: Predictor, slowdowns: Slowdowns, **changes: Any) -> Instance:
    """Return a small batch of the models in NAMES with these measured groups."""
    models = [model for model in batch()["models"] if model["name"] in NAMES]
    data = batch(**{"models": models, "interference": {"kind": "predictor"}, **changes})
    return Instance.from_dict(data).with_predictor(predictor, measurements(slowdowns))


def test_listed_groups_are_found_among_others() -> None:
    random = np.random.default_rng(0)
    for kinds, width in ((1, 3), (2, 4), (5, 3), (40, 5)):
        groups = {
            tuple(sorted(random.integers(0, kinds, random.integers(1, width + 1)).tolist()))
            for _ in range(60)
        }
        values = {group: random.random(len(group)).tolist() for group in groups}
        listed = ListedGroups([(group[::-1], v[::-1]) for group, v in values.items()])
        assert {tuple(k for k in row if k >= 0) for row in listed.rows.tolist()} == groups
        for wide in range(1, width + 3):
            asked = np.full((200, wide), -1, dtype=np.int32)
            for row in asked:
                size = int(random.integers(0, wide + 1))
                row[:size] = np.sort(random.integers(0, kinds, size))
            found = np.full(asked.shape, -7.0)
            listed.lay_over(found, asked)
            for row, value in zip(asked.tolist(), found.tolist(), strict=True):
                group = tuple(k for k in row if k >= 0)
                expected = sorted(zip(group, values.get(group, [-7.0] * len(group)), strict=True))
                assert sorted(zip(group, value, strict=False)) == expected
                assert all(v == -7.0 for v in value[len(group) :])


def test_nothing_is_listed_where_no_group_was_measured(predictor: Predictor) -> None:
    instance = given(predictor, {})
    plain = Instance.from_dict(instance.to_dict()).with_predictor(predictor)
    assert solve(instance, workers=1).objective == solve(plain, workers=1).objective


@pytest.mark.parametrize("listed", [True, False], ids=["listed", "grown"])
@pytest.mark.parametrize("seed", seeds(0, 12))
def test_no_measured_group_is_pruned_away(
    predictor: Predictor, seed: int, listed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    slowdowns = random_slowdowns(seed, share=0.1 + 0.07 * seed % 0.8)
    slos = {"slo_quantile": 0.9} if seed % 3 == 0 else {}
    models = [
        {**model, "solo_latency_ms": SOLO_MS, **({"slo_ms": 2.5 * SOLO_MS} if seed % 3 < 2 else {})}
        for model in batch()["models"]
        if model["name"] in NAMES
    ]
    kind = {"kind": "predictor", **slos}
    instance = given(predictor, slowdowns, models=models, interference=kind)
    best = brute_force(as_table(instance, slowdowns))
    run = solved(instance, monkeypatch, listed=listed)
    assert_optimal(run, None if best is None else best[0])


@pytest.mark.parametrize("solver", present())
def test_every_solver_takes_measured_groups_as_it_takes_a_table(
    predictor: Predictor, solver: str
) -> None:
    slowdowns = random_slowdowns(99)
    instance = given(predictor, slowdowns)
    table = as_table(instance, slowdowns)
    best = brute_force(table)
    assert best is not None
    result = solve(instance, solver=solver, workers=1, seed=3)
    assert result.objective is not None
    same = score(table, result.placement.assignment()).objective
    assert result.objective == pytest.approx(same, abs=1e-9)
    if SOLVERS[solver].exact:
        assert result.status == Status.OPTIMAL
        assert result.objective == pytest.approx(best[0], abs=1e-6)


def test_the_command_reads_the_folder_and_says_what_is_measured(
    folder: Path, tmp_path: Path
) -> None:
    kind = {"kind": "predictor", "predictor": str(folder / "predictor.json"),
            "measured": str(folder / "data")}  # fmt: skip
    models = [model for model in batch()["models"] if model["name"] in NAMES]
    (tmp_path / "batch.json").write_text(json.dumps(batch(models=models, interference=kind)))
    instance = read_instance(tmp_path / "batch.json")
    done = CliRunner().invoke(main, ["solve", str(tmp_path / "batch.json"), "-o",
                                     str(tmp_path / "placement.json")])  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert "shared VMs, predicted on the others" in " ".join((done.stdout + done.stderr).split())
    again = CliRunner().invoke(
        main, ["check", str(tmp_path / "batch.json"), str(tmp_path / "placement.json")]
    )
    assert again.exit_code == 0, again.stdout
    known = measured_groups(instance)
    truth = measured_slowdowns(read_measurements(folder / "data"))
    assert known
    for (vm_type, names), values in known.items():
        assert values == truth[vm_type, tuple((name, None) for name in names)]
        found = group_slowdowns(instance, [(vm_type, names)])[vm_type, names]
        assert found is not None
        assert found.mean == values


def test_a_folder_that_cannot_be_read_is_refused(folder: Path, predictor: Predictor) -> None:
    data = batch(interference={"kind": "predictor", "measured": "nowhere"})
    instance = Instance.from_dict(data, file=folder / "batch.json").with_predictor(predictor)
    with pytest.raises(InputError, match=r"nowhere.*does not exist") as caught:
        solve(instance, workers=1)
    assert caught.value.path == "interference.measured"


def test_measured_groups_are_those_at_the_models_rates(predictor: Predictor) -> None:
    slowdowns: Slowdowns = {("c2", ("bert", "vgg")): {"bert": 1.5, "vgg": 1.25}}
    models = [{"name": "bert"}, {"name": "vgg", "rate_rps": 2.0}]
    closed = given(predictor, slowdowns)
    assert measured_groups(closed) == slowdowns
    other = given(predictor, slowdowns, models=models)
    assert measured_groups(other) == {}
    assert "no group" in measured_notes(other, [("c2", ["bert", "vgg"])])[0]
    rates = [{"name": name, "rate_rps": 7.12345678} for name in ("bert", "vgg")]
    data = {**closed.to_dict(), "models": rates}
    at_rate = Instance.from_dict(data).with_predictor(predictor, measurements(slowdowns, 7.12346))
    assert measured_groups(at_rate) == slowdowns


def test_notes_say_on_how_many_vms_slowdowns_are_measured(predictor: Predictor) -> None:
    slowdowns: Slowdowns = {("c2", ("bert", "vgg")): {"bert": 1.5, "vgg": 1.25}}
    instance = given(predictor, slowdowns)
    used = [("c2", ["vgg", "bert"]), ("c2", ["vgg", "bert"]), ("c4", ["bert", "vgg"])]
    assert measured_notes(instance, [*used, ("c2", ["bert"])]) == [
        "slowdowns are measured on 2 of 3 shared VMs, predicted on the others"
    ]
    assert measured_notes(instance, [("c2", ["bert"])]) == []
    plain = Instance.from_dict(instance.to_dict()).with_predictor(predictor)
    assert measured_notes(plain, used) == []
    five: Slowdowns = {("c4", ("bert",) * 5): {"bert": 3.0}}
    wide = [("c4", ["bert"] * 5)]
    assert extrapolation_notes(given(predictor, {}), wide) != []
    assert extrapolation_notes(given(predictor, five), wide) == []


def test_protection_bounds_the_measured_slowdown(predictor: Predictor) -> None:
    slowdowns: Slowdowns = {("c2", ("bert", "vgg")): {"bert": 1.5, "vgg": 1.25}}
    models = [{"name": name, "solo_latency_ms": SOLO_MS, "slo_ms": 40.0} for name in NAMES]
    instance = given(predictor, slowdowns, models=models)
    group = ("c2", ("bert", "vgg"))
    uppers = []
    for level in (0.5, 0.8, 0.95):
        found = group_slowdowns(protected(instance, level), [group])[group]
        assert found is not None
        assert found.mean == slowdowns[group]
        uppers.append(found.upper["bert"])
    assert 1.5 <= uppers[0] < uppers[1] < uppers[2]
    limits = [
        {**model, "slo_ms": SOLO_MS * (uppers[1] + uppers[2]) / 2 if model["name"] == "bert"
         else 1000.0} for model in models
    ]  # fmt: skip
    tight = given(predictor, slowdowns, models=limits)
    chance = chance_of(tight, [group, group, ("c2", ["bert"])], 0.8)
    assert (chance.replicas, chance.alone) == (4, 1)
    lowest = 1.0 - max(
        q for q in (0.5, 0.8, 0.9, 0.95, 0.98, 0.99)
        if (one := group_slowdowns(protected(tight, q), [group])[group]) is not None
        and one.upper["bert"] <= (uppers[1] + uppers[2]) / 2
    )  # fmt: skip
    assert chance.expected_misses == pytest.approx(2 * lowest + 2 * 0.01)


def test_refined_placements_are_stated_by_measurements_where_the_instance_names_them() -> None:
    interference = {"kind": "predictor", "measured": "in the laboratory"}
    instance = Instance.from_dict({**INSTANCE.to_dict(), "interference": interference})
    refined = refine(instance, Truth(some_groups()), settings=QUICK, tolerance=1e-6)
    assert refined.stopped_by == AGREED
    last = refined.rounds[-1]
    assert last.measured == pytest.approx(last.predicted, rel=1e-5)
    assert refined.placement is not None
    assert refined.placement.objective == pytest.approx(refined.measured)
