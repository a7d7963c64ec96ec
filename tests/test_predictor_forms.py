"""The two forms of a prediction, and how far each is followed."""

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
    assert_never_lower,
    bind_all,
    groups_and_more,
    padded,
    write_folder,
)

from placer.interference.bound_predictor import BoundPredictor
from placer.interference.evaluate import cross_validate
from placer.interference.forms import BESIDE_NEW_FAMILY, NOVELTIES, averaged, best_share
from placer.interference.measurements import Measurements, read_measurements
from placer.interference.predictor import ModelProfile, Predictor, VmTypeProfile
from placer.interference.profiles import Rows

NEW_FAMILY_MEMBER = 7  # the place of "odd" in what `bind_all` binds


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    folder = write_folder(tmp_path_factory.mktemp("forms"))
    return Predictor.train(read_measurements(folder), settings=QUICK)


def following(
    predictor: Predictor, share: float, beside_new_family: float | None = None
) -> BoundPredictor:
    """Return the predictor bound to known and new models, with one share for all targets.

    With `beside_new_family`, those beside a new family have that one.
    """
    shares = np.full(len(NOVELTIES), share)
    if beside_new_family is not None:
        shares[BESIDE_NEW_FAMILY] = beside_new_family
    forms = replace(predictor.forms, shares=shares)
    other = Predictor(
        predictor.known, predictor.vocabulary, forms, predictor.calibration, predictor.metadata
    )
    return bind_all(other)


@pytest.mark.parametrize("share", [0.35, 1.0])
@hypothesis_settings(deadline=None, max_examples=30)
@given(
    pairs=groups_and_more(8, 6),
    vm=st.integers(0, 2),
)
def test_company_never_lowers_either_form(
    predictor: Predictor, share: float, pairs: list[tuple[list[int], list[int]]], vm: int
) -> None:
    bound = following(predictor, share)
    small = padded([group for group, _ in pairs], 9)
    large = padded([group + more for group, more in pairs], 9)
    assert_never_lower(small, bound.slowdown(vm, small), large, bound.slowdown(vm, large))


@pytest.mark.parametrize(("share", "beside"), [(0.0, 1.0), (1.0, 0.0), (0.2, 0.7)])
@hypothesis_settings(deadline=None, max_examples=30)
@given(
    pairs=groups_and_more(8, 5),
    vm=st.integers(0, 2),
)
def test_a_new_family_that_joins_never_lowers_either(
    predictor: Predictor,
    share: float,
    beside: float,
    pairs: list[tuple[list[int], list[int]]],
    vm: int,
) -> None:
    bound = following(predictor, share, beside)
    small = padded([group for group, _ in pairs], 9)
    large = padded([[*group, NEW_FAMILY_MEMBER, *more] for group, more in pairs], 9)
    for one in (bound.slowdown, bound.upper):
        assert_never_lower(small, one(vm, small), large, one(vm, large))


def test_beside_a_new_family_its_share_counts_unless_company_were_lighter_without(
    predictor: Predictor,
) -> None:
    known, beside = padded([[0, 1]], 3), padded([[0, 1, NEW_FAMILY_MEMBER]], 3)
    for share, other in ((0.0, 1.0), (1.0, 0.0)):
        mixed = following(predictor, share, other).slowdown(0, beside)[0, :2]
        alone = following(predictor, share).slowdown(0, known)[0, :2]
        by_other = following(predictor, other).slowdown(0, beside)[0, :2]
        np.testing.assert_array_equal(mixed, np.maximum(alone, by_other))
        assert not np.array_equal(mixed, following(predictor, share).slowdown(0, beside)[0, :2])


@pytest.mark.parametrize("share", [0.0, 0.35, 1.0])
def test_factors_multiply_to_the_slowdown_at_any_share(predictor: Predictor, share: float) -> None:
    bound = following(predictor, share)
    for group in ([0, 1], [2, 2, 4], [0, 1, 3, 5]):
        assert_factors_multiply(bound, group)
        assert_drivers_are_of(bound, group, first=share < 1.0, second=share > 0.0)


@pytest.mark.parametrize(("share", "beside"), [(0.0, 1.0), (1.0, 0.0)])
def test_factors_multiply_beside_a_new_family(
    predictor: Predictor, share: float, beside: float
) -> None:
    bound = following(predictor, share, beside)
    for group in ([0, NEW_FAMILY_MEMBER], [0, 1, NEW_FAMILY_MEMBER], [2, 2, 4, NEW_FAMILY_MEMBER]):
        assert_factors_multiply(bound, group)
    # In a pair the known target follows one form, beside the new family, and that the other.
    assert_drivers_are_of(bound, [0, NEW_FAMILY_MEMBER], first=True, second=True)


def assert_factors_multiply(bound: BoundPredictor, group: list[int]) -> None:
    product = bound.explain(1, group).groupby("model", sort=False)["factor"].prod()
    row = padded([group], 4)
    for member, value in zip(row[0], bound.slowdown(1, row)[0], strict=True):
        if member >= 0:
            assert product[bound.models[member].name] == pytest.approx(value, rel=1e-4)


def assert_drivers_are_of(
    bound: BoundPredictor, group: list[int], *, first: bool, second: bool
) -> None:
    drivers = set(bound.explain(1, group)["driver"])
    assert any(one.startswith("by likeness: ") for one in drivers) == second
    assert any(one.startswith("demand of ") for one in drivers) == first


def test_an_average_lies_between_the_forms(predictor: Predictor) -> None:
    groups = padded([[0, 1], [2, 3, 4], [0, 5, 5], [1, 6]], 4)
    first, second = (following(predictor, share).slowdown(0, groups) for share in (0.0, 1.0))
    half = following(predictor, 0.5).slowdown(0, groups)
    used = groups >= 0
    np.testing.assert_allclose(half[used], np.sqrt(first[used] * second[used]), rtol=1e-12)


def test_a_target_is_as_new_as_its_model_family_and_vm_type(predictor: Predictor) -> None:
    bound = predictor.bind(
        [
            ModelProfile("bert"),
            ModelProfile("cousin", None, {"family": "cnn", "gflops": 0.4}, {"c2": 9.0, "c16": 5.0}),
            ModelProfile("alien", None, {"family": "rnn", "gflops": 0.4}, {"c2": 9.0, "c16": 5.0}),
        ],
        [VmTypeProfile("c2"), VmTypeProfile("c16", {"vcpu": 16})],
    )
    rows = Rows(np.array([0, 1, 2, 1]), np.array([0, 0, 0, 1]), np.full((4, 1), 0))
    found = predictor.forms.novelty(bound.profiles, rows)
    assert [NOVELTIES[one] for one in found] == [
        "measured", "new model", "new family", "new VM type",
    ]  # fmt: skip
    # Of co-runners a new family alone counts, and only beside a target that is not of one itself.
    beside = Rows(np.array([0, 0, 0, 2]), np.zeros(4, dtype=int), np.array([[0], [1], [2], [2]]))
    assert [NOVELTIES[one] for one in predictor.forms.novelty(bound.profiles, beside)] == [
        "measured", "measured", "beside a new family", "new family",
    ]  # fmt: skip


def test_a_vm_type_with_few_runs_is_nearly_new(tmp_path: Path) -> None:
    data = read_measurements(write_folder(tmp_path, runs=240))
    rows = data.rows[data.rows["degree"] > 1]
    small = set(rows.loc[rows["vm_type"] == "c2", "run"])
    kept = set(sorted(small)[:6]) | (set(rows["run"]) - small)
    found = Predictor.train(data.with_runs(kept), settings=QUICK)
    bound = bind_all(found)
    rows_of = Rows(np.zeros(2, dtype=int), np.array([0, 1]), np.ones((2, 1), dtype=int))
    sorts = found.forms.novelty(bound.profiles, rows_of)
    assert [NOVELTIES[one] for one in sorts] == ["nearly new VM type", "measured"]


def test_the_share_of_least_error_is_chosen() -> None:
    random = np.random.default_rng(0)
    truth = np.exp(random.uniform(0.2, 1.5, 400))
    good = np.log(truth) + random.normal(0.0, 0.02, 400)
    poor = np.log(truth) + random.normal(0.3, 0.2, 400)
    assert best_share(truth, np.column_stack([good, poor])) == pytest.approx(0.0, abs=0.05)
    assert best_share(truth, np.column_stack([poor, good])) == pytest.approx(1.0, abs=0.05)
    apart = np.column_stack([np.log(truth) + 0.2, np.log(truth) - 0.2])
    assert best_share(truth, apart) == pytest.approx(0.5)
    assert best_share(truth[:5], apart[:5]) is None
    np.testing.assert_allclose(averaged(apart, 0.5), np.log(truth))


def write_law(folder: Path) -> Measurements:
    """Write families whose names tell nothing: gflops alone make the demand."""
    random = np.random.default_rng(4)
    heavy = {f"m{place}": 0.1 + 0.08 * place for place in range(16)}
    family = {name: f"family{place % 5}" for place, name in enumerate(heavy)}
    cores = {"small": 2.0, "large": 4.0}
    lines = ["run,vm_type,model,latency_ms_p50"]
    lines += [f"s {v} {m},{v},{m},{30 * h / c**0.5}" for v, c in cores.items()
              for m, h in heavy.items()]  # fmt: skip
    for run in range(400):
        vm = str(random.choice(list(cores)))
        group = [f"m{place}" for place in random.integers(0, 16, random.integers(2, 5))]
        for place, target in enumerate(group):
            others = sum(heavy[m] for at, m in enumerate(group) if at != place)
            slow = (1.0 + 0.9 * others / cores[vm]) * random.lognormal(0.0, 0.02)
            solo = 30 * heavy[target] / cores[vm] ** 0.5
            lines.append(f"{run},{vm},{target},{solo * slow}")
    (folder / "measurements.csv").write_text("\n".join(lines) + "\n")
    table = [f"{m},{family[m]},{h}" for m, h in heavy.items()]
    (folder / "models.csv").write_text("\n".join(["model,family,gflops", *table]) + "\n")
    (folder / "vm_types.csv").write_text("vm_type,vcpu\nsmall,2\nlarge,4\n")
    return read_measurements(folder)


def test_families_never_measured_are_better_off_than_by_the_poorer_form(tmp_path: Path) -> None:
    data = write_law(tmp_path)
    found = {"chosen": cross_validate(data, None, "family", settings=QUICK, calibrate=False)}
    for share in (0.0, 1.0):
        fixed = replace(QUICK, share=share)
        found[f"{share}"] = cross_validate(data, None, "family", settings=fixed, calibrate=False)
    mape = {name: scores[0]["mape"] for name, scores in found.items()}
    assert mape["chosen"] < max(mape["0.0"], mape["1.0"])
    assert mape["chosen"] < 0.45 * found["chosen"][1]["mape"]  # of the mean slowdown
