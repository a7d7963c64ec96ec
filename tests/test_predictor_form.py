"""What holds for the predictor on any data: monotone, sane in degree, explained, encoded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from test_predictor import (
    QUICK,
    VCPU,
    assert_never_lower,
    bind_all,
    groups_and_more,
    padded,
    write_folder,
)

from placer.errors import InputError
from placer.interference.bound_predictor import BoundPredictor
from placer.interference.calibration import Calibration
from placer.interference.evaluate import cross_validate, predict_examples, splits
from placer.interference.measurements import Measurements, read_measurements
from placer.interference.predictor import ModelProfile, Predictor, VmTypeProfile

RATES = (None, 2.0, 5.0)


def write_rates(folder: Path, *, seed: int = 0, runs: int = 120, largest: int = 4) -> Path:
    """Write cores shared by models that serve at a rate or back to back, some helped by company."""
    random = np.random.default_rng(seed)
    work = {f"m{place}": 12.0 * 1.5**place for place in range(5)}
    cores = {"one": 1.0, "half": 1.5, "two": 2.0}
    lines = ["run,vm_type,model,rate_rps,latency_ms_p50,cpu_util"]
    for vm in cores:
        for model, solo in work.items():
            for rate in RATES:
                busy = 1.0 if rate is None else rate * solo / 1000.0
                lines.append(f"s {vm} {model} {rate},{vm},{model},{rate or ''},{solo},{busy}")
    for run in range(runs):
        vm = list(cores)[random.integers(3)]
        group = [(f"m{random.integers(5)}", RATES[random.integers(3)])
                 for _ in range(random.integers(2, largest + 1))]  # fmt: skip
        busy = [1.0 if r is None else r * work[m] / 1000.0 for m, r in group]
        for place, (model, rate) in enumerate(group):
            others = sum(busy) - busy[place]
            slow = max(1.0, (1.0 + others) / cores[vm]) * random.lognormal(0.0, 0.02)
            lines.append(f"g{run},{vm},{model},{rate or ''},{work[model] * slow},")
    (folder / "measurements.csv").write_text("\n".join(lines) + "\n")
    (folder / "models.csv").write_text(
        "\n".join(["model,kind", *(f"{m},cnn" for m in work)]) + "\n"
    )
    types = [f"{name},{count}" for name, count in cores.items()]
    (folder / "vm_types.csv").write_text("\n".join(["vm_type,vcpu", *types]) + "\n")
    return folder


@pytest.fixture(scope="module")
def rates(tmp_path_factory: pytest.TempPathFactory) -> Measurements:
    return read_measurements(write_rates(tmp_path_factory.mktemp("rates")))


@pytest.fixture(scope="module")
def bounds(
    rates: Measurements, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, BoundPredictor]:
    """Predictors of three data sets: rates, pairs only, and groups with features."""
    pairs = write_rates(tmp_path_factory.mktemp("pairs"), seed=1, largest=2)
    groups = write_folder(tmp_path_factory.mktemp("groups"))
    models = [ModelProfile(f"m{place}", rate) for place in range(5) for rate in RATES]
    models += [
        ModelProfile("new", 3.0, {"kind": "cnn"}, {"one": 30.0, "half": 30.0, "two": 28.0}),
        ModelProfile("odd", None, {"kind": "rnn"}, {"one": 300.0, "half": 200.0, "two": 90.0}),
    ]
    vm_types = [VmTypeProfile(name) for name in ("one", "half", "two")]
    found = {}
    for name, data in (("rates", rates), ("pairs", read_measurements(pairs))):
        found[name] = Predictor.train(data, settings=QUICK).bind(models, vm_types)
    known = Predictor.train(read_measurements(groups), settings=QUICK)
    return found | {"groups": bind_all(known)}


@pytest.mark.parametrize("name", ["rates", "pairs", "groups"])
@hypothesis_settings(deadline=None, max_examples=25)
@given(
    pairs=groups_and_more(17, 7),
    vm=st.integers(0, 2),
    quantile=st.sampled_from([0.5, 0.95, 0.99]),
)
def test_company_never_lowers_a_mean_or_a_bound(
    bounds: dict[str, BoundPredictor],
    name: str,
    pairs: list[tuple[list[int], list[int]]],
    vm: int,
    quantile: float,
) -> None:
    bound = bounds[name]
    count = len(bound.models)
    small = padded([[m % count for m in group] for group, _ in pairs], 10)
    large = padded([[m % count for m in group + more] for group, more in pairs], 10)
    for ask in (bound.slowdown, lambda v, g: bound.upper(v, g, quantile)):
        assert_never_lower(small, ask(vm, small), large, ask(vm, large))


def test_rates_matter_as_offered_load(bounds: dict[str, BoundPredictor]) -> None:
    bound = bounds["rates"]
    names = [(model.name, model.rate_rps) for model in bound.models]
    target, idle, busy = (names.index(("m4", rate)) for rate in RATES[::-1])
    assert target != idle
    beside = {rate: names.index(("m4", rate)) for rate in RATES}
    groups = padded([[target, beside[rate], beside[rate]] for rate in (2.0, 5.0, None)], 3)
    slow = [bound.slowdown(0, groups[[row]])[0][groups[row] == target][0] for row in range(3)]
    assert slow[0] < slow[1] < slow[2]
    assert busy == beside[None]


def test_a_degree_that_was_never_measured(tmp_path: Path) -> None:
    data = read_measurements(write_rates(tmp_path, runs=160, largest=6))
    found = cross_validate(data, 2, "degree", settings=QUICK, largest_degree=3, calibrate=False)
    score = {one["predictor"]: one["mape"] for one in found}
    assert score["unified"] < 15.0
    assert score["unified"] < 0.6 * score["mean"]


def test_factors_multiply_to_the_slowdown(bounds: dict[str, BoundPredictor]) -> None:
    for bound in bounds.values():
        for group in ([0, 1], [2, 2, 4], [0, 1, 3, 5, 5]):
            row = padded([group], 6)
            table = bound.explain(1, group)
            assert list(table) == ["model", "driver", "factor"]
            product = table.groupby("model", sort=False)["factor"].prod()
            slow = bound.slowdown(1, row)[0]
            for member, value in zip(row[0], slow, strict=True):
                if member >= 0 and len({bound.models[m].name for m in group}) == len(set(group)):
                    name = bound.models[member].name
                    assert product[name] == pytest.approx(value, rel=1e-4)
            drivers = set(table["driver"])
            assert any(driver.startswith("demand of ") for driver in drivers)
            assert any(driver.startswith("learned: ") for driver in drivers)
        assert bound.explain(0, [1]).empty
    nameless = ModelProfile("x", None, {"kind": "cnn"})
    bound = bounds["rates"].predictor.bind([nameless], [VmTypeProfile("one")])
    with pytest.raises(InputError, match="not in the predictor's training data"):
        bound.explain(0, [0, 0])


def test_the_encoding_tells_vm_types_apart(tmp_path: Path) -> None:
    predictor = Predictor.train(read_measurements(write_folder(tmp_path)), settings=QUICK)
    table = predictor.encoding()
    assert list(table) == ["vm_type", "x", "y"]
    assert table["vm_type"].tolist() == list(VCPU)
    assert np.isfinite(table[["x", "y"]].to_numpy()).all()
    x = dict(zip(table["vm_type"], table["x"], strict=True))
    assert x["c2"] > x["c4"] > x["c8"]  # one replica takes a larger share of a smaller VM


def test_few_runs_place_a_new_vm_type(tmp_path: Path) -> None:
    data = read_measurements(write_folder(tmp_path, runs=240))
    held = {}
    first_form = replace(QUICK, share=0.0)
    for runs in (0, 10):
        found = cross_validate(
            data, 5, "vm_type", settings=first_form, calibration_runs=runs, calibrate=False
        )
        held[runs] = found[0]["mape"]
    assert held[10] < 12.0
    assert held[10] < held[0]


@pytest.mark.parametrize("runs", [0, 5])
def test_held_out_vm_types_and_families(tmp_path: Path, runs: int) -> None:
    data = read_measurements(write_folder(tmp_path, runs=60))
    rows = data.rows[data.rows["degree"] > 1]
    sides = list(splits(data, "vm_type", 5, 0, 3, runs))
    assert len(sides) == 3
    for train, test in sides:
        (vm,) = set(rows.loc[rows["run"].isin(test), "vm_type"])
        left = rows[rows["run"].isin(train) & (rows["vm_type"] == vm)]
        assert left["run"].nunique() == runs
        assert not train & test
    family = data.models["family"]
    sides = list(splits(data, "family", None, 0, 3))
    assert len(sides) == family.nunique()
    assert all(train.isdisjoint(test) for train, test in sides)


def test_strangers_and_higher_degrees_have_wider_bounds(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    truth = 1.0 + random.exponential(1.0, 3000)
    degree = random.integers(2, 4, 3000)
    near = truth * np.exp(random.normal(0.0, 0.05, 3000))
    far = truth * np.exp(random.normal(0.0, 0.2, 3000))
    found = Calibration.of(truth, near, degree, {"model": far, "vm_type": far, "degree": near})
    mean = np.linspace(1.0, 6.0, 50)
    plain = found.upper(mean, np.full(50, 3), 0.95)
    for model, vm, size in ((True, False, 3), (False, True, 3), (False, False, 4)):
        assert (found.upper(mean, np.full(50, size), 0.95, model, vm) > plain).all()
    assert 3.0 < found.widening("model", 0.95) < 5.0
    assert (np.diff(plain) >= 0.0).all()
    bare = Calibration.of(truth, near, degree)
    assert (bare.upper(mean, np.full(50, 3), 0.95, True) > plain).all()
    assert Calibration.none().upper(mean, np.full(50, 3), 0.95) == pytest.approx(mean)


def test_the_bound_rises_where_the_error_falls_faster_than_the_mean_grows() -> None:
    random = np.random.default_rng(3)
    predicted = np.sort(1.0 + 3.0 * random.random(2000))
    noise = np.where(predicted < 1.5, 0.5, 0.01)
    truth = predicted * np.exp(noise * random.normal(0.0, 1.0, 2000))
    found = Calibration.of(truth, predicted, np.full(2000, 2))
    upper = found.upper(np.linspace(1.0, 5.0, 400), np.full(400, 2), 0.99)
    assert (np.diff(upper) >= 0.0).all()


@pytest.mark.parametrize("case", ["tiny", "no features", "one vm type", "texts only"])
def test_poor_data_still_train(tmp_path: Path, case: str) -> None:
    write_rates(tmp_path, runs=20 if case == "tiny" else 40)
    if case == "no features":
        for name, key in (("models", "model"), ("vm_types", "vm_type")):
            lines = (tmp_path / f"{name}.csv").read_text().split("\n")
            kept = [key, *(line.split(",")[0] for line in lines[1:] if line)]
            (tmp_path / f"{name}.csv").write_text("\n".join(kept) + "\n")
    if case == "one vm type":
        lines = (tmp_path / "measurements.csv").read_text().split("\n")
        kept = [lines[0], *(line for line in lines[1:] if line.split(",")[1:2] == ["one"])]
        (tmp_path / "measurements.csv").write_text("\n".join(kept) + "\n")
    if case == "texts only":
        text = (tmp_path / "vm_types.csv").read_text().splitlines()
        shapes = ["vm_type,shape", *(f"{line.split(',')[0]},s{line[-1]}" for line in text[1:])]
        (tmp_path / "vm_types.csv").write_text("\n".join(shapes) + "\n")
    data = read_measurements(tmp_path)
    predictor = Predictor.train(data, settings=QUICK)
    predictor.save(tmp_path / "p.json")
    examples, mean, upper = predict_examples(Predictor.load(tmp_path / "p.json"), data)
    assert (mean >= 1.0).all()
    assert (upper >= mean).all()
    assert np.abs(mean / examples.slowdown - 1.0).mean() < 0.25
    assert np.isfinite(predictor.encoding()[["x", "y"]].to_numpy()).all()


def test_a_rate_without_a_solo_run_takes_the_nearest(bounds: dict[str, BoundPredictor]) -> None:
    predictor = bounds["rates"].predictor
    models = [ModelProfile("m3", rate) for rate in (0.1, 4.9, 5.0, 9.0)]
    bound = predictor.bind(models, [VmTypeProfile("one")])
    slow = bound.slowdown(0, np.repeat(np.arange(4)[:, None], 3, axis=1))[:, 0]
    assert slow[0] < 0.9 * slow[1]
    # No run has a load between 5 requests/s and back to back, so 9 reads as the nearest does.
    assert slow[[1, 3]] == pytest.approx(slow[2], rel=0.1)
    assert "outside" in "".join(bound.extrapolation(0, np.array([[0, 0]])))
