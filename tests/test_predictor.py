"""The unified predictor: monotone, symmetric, calibrated, saved and loaded safely."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from placer.errors import InputError
from placer.interference.calibration import Calibration
from placer.interference.evaluate import cross_validate, evaluate, splits
from placer.interference.measurements import Measurements, read_measurements
from placer.interference.predictor import (
    ModelProfile,
    Predictor,
    Settings,
    VmTypeProfile,
)

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
QUICK = Settings(trees=40, learning_rate=0.2, depth=4, encoding_folds=4, calibration_folds=3)
MODELS = ["bert", "gpt", "mobilenet", "resnet18", "resnet50", "vgg"]
HEAVY = [0.9, 1.3, 0.1, 0.3, 0.5, 0.8]
VCPU = {"c2": 2, "c4": 4, "c8": 8}


def write_folder(folder: Path, *, seed: int = 0, runs: int = 160) -> Path:
    """Write groups of 2 to 4 models whose slowdown is a threshold on the summed demand."""
    random = np.random.default_rng(seed)
    lines = ["run,vm_type,model,rate_rps,latency_ms_p50,cpu_util,memory_mib"]
    for vm, cores in VCPU.items():
        for place, model in enumerate(MODELS):
            solo = 40 * HEAVY[place] / cores**0.5
            lines.append(f"solo-{vm}-{model},{vm},{model},,{solo},{HEAVY[place] / cores},100")
    for run in range(runs):
        vm = list(VCPU)[random.integers(3)]
        members = random.integers(0, len(MODELS), random.integers(2, 5))
        demand = sum(HEAVY[m] for m in members)
        for m in members:
            slow = max(1 + 0.05 * (len(members) - 1), 2.2 * demand / VCPU[vm])
            solo = 40 * HEAVY[m] / VCPU[vm] ** 0.5
            latency = solo * slow * random.lognormal(0, 0.02)
            lines.append(f"run-{run},{vm},{MODELS[m]},,{latency},,")
    (folder / "measurements.csv").write_text("\n".join(lines) + "\n")
    families = ["transformer", "transformer", "cnn", "resnet", "resnet", "cnn"]
    table = [f"{m},{f},{h}" for m, f, h in zip(MODELS, families, HEAVY, strict=True)]
    (folder / "models.csv").write_text("\n".join(["model,family,gflops", *table]) + "\n")
    types = [f"{name},{cores}" for name, cores in VCPU.items()]
    (folder / "vm_types.csv").write_text("\n".join(["vm_type,vcpu", *types]) + "\n")
    return folder


def groups_and_more(
    models: int, widest: int, *, most: int = 40
) -> st.SearchStrategy[list[tuple[list[int], list[int]]]]:
    """Groups of up to `widest` places of models, each with up to three that join it."""
    member = st.integers(0, models - 1)
    group = st.lists(member, min_size=1, max_size=widest)
    more = st.lists(member, min_size=1, max_size=3)
    return st.lists(st.tuples(group, more), min_size=1, max_size=most)


def assert_never_lower(
    small: np.ndarray, before: np.ndarray, large: np.ndarray, after: np.ndarray
) -> None:
    """Check that no member of `small` is slowed down less in `large`, row by row."""
    for row, group in enumerate(small):
        for model in set(group[group >= 0].tolist()):
            low = before[row][group == model][0]
            high = after[row][large[row] == model][0]
            assert 1.0 <= low <= high < np.inf


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measurements:
    return read_measurements(write_folder(tmp_path_factory.mktemp("measured")))


@pytest.fixture(scope="module")
def predictor(measured: Measurements) -> Predictor:
    return Predictor.train(measured, settings=QUICK)


def bind_all(predictor: Predictor) -> Any:
    stranger = ModelProfile(
        "stranger", 3.0, {"family": "cnn", "gflops": 0.7}, {"c2": 25.0, "c4": 18.0, "c8": 12.0}
    )
    odd = ModelProfile("odd", None, {"family": "new"}, {"c2": 2.0, "c4": 1.5, "c8": 1.0})
    return predictor.bind([*map(ModelProfile, MODELS), stranger, odd], [*map(VmTypeProfile, VCPU)])


def padded(groups: list[list[int]], width: int) -> np.ndarray:
    out = np.full((len(groups), width), -1)
    for row, group in zip(out, groups, strict=True):
        row[: len(group)] = sorted(group)
    return out


def test_a_lone_replica_is_exactly_one_and_padding_is_nan(predictor: Predictor) -> None:
    bound = bind_all(predictor)
    groups = padded([[0], [1, 2], []], 3)
    for values in (bound.slowdown(0, groups), bound.upper(0, groups, 0.9)):
        assert values.dtype == np.float64
        assert values.shape == groups.shape
        assert values[0, 0] == 1.0
        assert (np.isnan(values) == (groups < 0)).all()
        assert (values[1, :2] > 1.0).all()
    assert bound.slowdown(0, np.empty((0, 3), dtype=int)).shape == (0, 3)


def test_replicas_of_one_model_are_equal(predictor: Predictor) -> None:
    values = bind_all(predictor).slowdown(1, padded([[0, 0, 3, 3, 3]], 6))[0]
    assert values[0] == values[1]
    assert values[2] == values[3] == values[4]


def test_a_batch_answers_as_single_rows_do(predictor: Predictor) -> None:
    bound = bind_all(predictor)
    random = np.random.default_rng(3)
    groups = padded([list(random.integers(0, 8, random.integers(1, 6))) for _ in range(200)], 7)
    together = bound.slowdown(2, groups)
    for row in range(0, 200, 17):
        np.testing.assert_array_equal(bound.slowdown(2, groups[[row]])[0], together[row])


@hypothesis_settings(deadline=None, max_examples=40)
@given(groups_and_more(8, 6, most=60), st.integers(0, 2), st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_more_co_runners_never_lower_a_prediction(
    predictor: Predictor, pairs: list[tuple[list[int], list[int]]], vm: int, quantile: float
) -> None:
    bound = bind_all(predictor)
    small = padded([group for group, _ in pairs], 9)
    large = padded([group + more for group, more in pairs], 9)
    for ask in (bound.slowdown, lambda v, g: bound.upper(v, g, quantile)):
        assert_never_lower(small, ask(vm, small), large, ask(vm, large))
    assert (np.nan_to_num(bound.upper(vm, large, quantile))
            >= np.nan_to_num(bound.slowdown(vm, large))).all()  # fmt: skip


def test_training_is_deterministic_and_survives_a_file(
    predictor: Predictor, measured: Measurements, tmp_path: Path
) -> None:
    predictor.save(tmp_path / "p.json")
    loaded = Predictor.load(tmp_path / "p.json")
    again = Predictor.train(measured, settings=QUICK)
    groups = padded([[0, 1], [2, 3, 4], [5, 5, 6, 7], [1, 7]], 5)
    for vm in range(3):
        expected = bind_all(predictor).upper(vm, groups, 0.9)
        np.testing.assert_array_equal(bind_all(loaded).upper(vm, groups, 0.9), expected)
        np.testing.assert_array_equal(bind_all(again).upper(vm, groups, 0.9), expected)
    loaded.save(tmp_path / "q.json")
    assert (tmp_path / "p.json").read_bytes() == (tmp_path / "q.json").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.json", "q.json"]


def test_what_is_not_a_predictor_is_refused(predictor: Predictor, tmp_path: Path) -> None:
    predictor.save(tmp_path / "p.json")
    text = (tmp_path / "p.json").read_text()
    data = json.loads(text)
    bad = tmp_path / "bad.json"

    def refusal(content: str | None) -> str:
        if content is not None:
            bad.write_text(content)
        with pytest.raises(InputError) as caught:
            Predictor.load(bad if content is not None else tmp_path / "nothing.json")
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "no such file" in refusal(None)
    assert "not JSON" in refusal(text[: len(text) // 2])
    assert "not JSON" in refusal("")
    assert "not JSON" in refusal("[" * 100_000)
    assert "format: found 'list'" in refusal("[]")
    assert "format: found 'x'" in refusal(json.dumps({**data, "format": "x"}))
    assert "newer placer" in refusal(json.dumps({**data, "version": data["version"] + 1}))
    assert "train it again" in refusal(json.dumps({**data, "version": 1}))
    assert "version: found True" in refusal(json.dumps({**data, "version": True}))
    for part in ("metadata", "vocabulary", "known", "calibration", "forms"):
        assert "is missing" in refusal(json.dumps({k: v for k, v in data.items() if k != part}))
        assert f"{part}: " in refusal(json.dumps({**data, part: 3}))
        assert f"{part}: " in refusal(json.dumps({**data, part: {"x": 1}}))
    with pytest.raises(InputError, match="is a folder"):
        Predictor.load(tmp_path)
    with pytest.raises(InputError, match="is a folder"):
        predictor.save(tmp_path)
    with pytest.raises(InputError, match="cannot be written"):
        predictor.save(tmp_path / "no" / "p.json")


def test_strangers_must_be_described(predictor: Predictor) -> None:
    known = [VmTypeProfile("c2")]
    with pytest.raises(InputError, match=r"model 'resnet5' .*did you mean 'resnet50'.*gflops"):
        predictor.bind([ModelProfile("resnet5")], known)
    with pytest.raises(InputError, match=r"VM type 'c16' .*give its features \(vcpu\)"):
        predictor.bind([ModelProfile("bert")], [VmTypeProfile("c16")])
    bound = predictor.bind([ModelProfile("new", None, {"family": "cnn"})], known)
    with pytest.raises(InputError, match=r"give its features .*solo_latency_ms for 'c2'"):
        bound.slowdown(0, np.array([[0, 0]]))
    bound = predictor.bind([ModelProfile("bert")], [VmTypeProfile("c16", {"vcpu": 16})])
    with pytest.raises(InputError, match="solo_latency_ms for 'c16'"):
        bound.slowdown(0, np.array([[0, 0]]))


def test_it_says_where_it_extrapolates(predictor: Predictor) -> None:
    bound = bind_all(predictor)
    near, deep, strange, lone = bound.extrapolation(
        0, padded([[0, 1], [0, 0, 1, 1, 2], [0, 6], [6]], 5)
    )
    assert near == lone == ""
    assert "degree 5 is above 4" in deep
    assert "'stranger'" in strange
    new = predictor.bind(
        [ModelProfile("bert", None, {}, {"c16": 9.0})], [VmTypeProfile("c16", {"vcpu": 16})]
    )
    assert "no group was measured on 'c16'" in new.extrapolation(0, np.array([[0, 0]]))[0]
    assert new.slowdown(0, np.array([[0, 0]]))[0, 0] > 1.0


def test_it_beats_the_mean_and_covers_on_held_out_groups(measured: Measurements) -> None:
    found = cross_validate(measured, 3, "mix", settings=QUICK)
    score = {one["predictor"]: one for one in found}
    assert score["unified"]["mape"] < 0.5 * score["mean"]["mape"]
    assert score["unified"]["mape"] < score["additive"]["mape"]
    assert 88 <= score["unified"]["coverage"] <= 100


@pytest.mark.parametrize("grouping", ["run", "configuration", "mix", "model", "degree"])
def test_no_run_is_on_both_sides(measured: Measurements, grouping: str) -> None:
    rows = measured.rows[measured.rows["degree"] > 1]
    for train, test in splits(measured, grouping, 4, 0, 3):
        assert train
        assert test
        assert not train & test
        if grouping in ("configuration", "mix"):
            sides = [set(rows[rows["run"].isin(side)][grouping]) for side in (train, test)]
            assert not sides[0] & sides[1]


def test_evaluation_tells_training_rows_from_held_out_ones(
    predictor: Predictor, measured: Measurements, tmp_path: Path
) -> None:
    found = evaluate(predictor, measured)
    assert found["in_training"] == found["targets"]
    assert {row["data"] for row in found["rows"]} == {"in training"}
    other = read_measurements(write_folder(tmp_path, seed=9, runs=40))
    found = evaluate(predictor, other)
    assert found["in_training"] == 0
    assert {row["by"] for row in found["rows"]} == {"all", "degree", "vm_type"}
    assert found["rows"][0]["mape"] < 15


def test_no_shared_runs_is_refused(measured: Measurements) -> None:
    with pytest.raises(InputError, match="no run of two or more rows"):
        Predictor.train(measured.with_runs([]))


def test_one_shared_run_is_enough_to_train(measured: Measurements) -> None:
    one = Predictor.train(measured.with_runs(["run-0"]), settings=QUICK)
    groups = np.array([[0, 1]])
    assert (bind_all(one).upper(0, groups, 0.95) >= bind_all(one).slowdown(0, groups)).all()


def test_calibration_covers_and_rises_with_degree_and_quantile() -> None:
    random = np.random.default_rng(0)
    predicted = 1 + random.exponential(1.0, 9000)
    degree = random.integers(2, 5, 9000)
    measured = predicted * np.exp(random.normal(0, 0.05 * degree))
    half = Calibration.of(measured[:6000], predicted[:6000], degree[:6000])
    assert all(len(one.values) <= 2000 for one in half.degrees.values())
    previous = predicted
    for quantile in (0.5, 0.9, 0.95, 0.99):
        upper = half.upper(predicted, degree, quantile)
        assert (upper >= previous).all()
        previous = upper
        covered = (measured <= upper)[6000:].mean()
        assert abs(covered - quantile) < 0.02
        _, factors = half.factors(quantile)
        assert (np.diff(factors) >= 0).all()
    within = [half.upper(np.array([2.0]), np.array([d]), 0.9)[0] for d in (4, 5, 9, 12, 40)]
    assert within[0] < within[1] < within[2] <= within[3] <= within[4] < np.inf
    for wrong in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(InputError):
            half.factors(wrong)


def test_few_residuals_of_a_degree_borrow_from_the_pool() -> None:
    wide = Calibration.of(np.full(103, 1.5), np.r_[np.full(100, 1.0), np.full(3, 1.49)],
                           np.r_[np.full(100, 2), np.full(3, 3)])  # fmt: skip
    degrees, factors = wide.factors(0.9)
    assert degrees.tolist() == [2, 3]
    assert factors[1] == factors[0]


def test_importing_it_loads_neither_xgboost_nor_pandas() -> None:
    code = (
        "import sys, placer.interference.predictor, placer.interference.evaluate, "
        "placer.cli.train, placer.cli.evaluate, placer.cli.predict;"
        "assert not {'xgboost', 'pandas', 'rich'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data folder is not beside this one")
@pytest.mark.parametrize(
    ("name", "grouping"), [("parvagpu", "configuration"), ("gavel_motivation", "mix")]
)
def test_it_beats_the_baselines_on_published_measurements(name: str, grouping: str) -> None:
    data = read_measurements(SHARED / name)
    quick = Settings(trees=80, learning_rate=0.2, encoding_folds=5, share=0.1)
    found = cross_validate(data, 2, grouping, settings=quick, calibrate=False)
    score = {one["predictor"]: one["mape"] for one in found}
    assert score["unified"] < score["additive"] < score["mean"]
    assert score["unified"] < 8.0
