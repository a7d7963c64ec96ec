"""The contention's own formula: its slopes, and how firmly effects are held back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_predictor import write_folder

from placer.interference.contention import GLOBALS
from placer.interference.contention_fit import Design, fit_contention
from placer.interference.measurements import Known, read_measurements
from placer.interference.profiles import Vocabulary, make_vocabulary
from placer.interference.regressors import regressors
from placer.interference.training import FIRMNESSES, Examples, firmest, make_examples


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Vocabulary, Examples]:
    measurements = read_measurements(write_folder(tmp_path_factory.mktemp("data"), runs=120))
    known = Known.of(measurements)
    vocabulary = make_vocabulary(known)
    return vocabulary, make_examples(vocabulary, known, measurements)


def test_slopes_are_those_of_the_formula(learned: tuple[Vocabulary, Examples]) -> None:
    vocabulary, examples = learned
    profiles, rows = examples.profiles, examples.rows
    fitted = fit_contention(vocabulary, profiles, rows, examples.slowdown)
    table = regressors(vocabulary, profiles)[1]
    design = Design.of(fitted, profiles, rows, fitted.standardised(profiles, table))
    random = np.random.default_rng(0)
    theta = fitted.theta + 0.1 * random.normal(size=len(fitted.theta))
    _, slopes = design.log_slowdown(theta, jacobian=True)
    step = 1e-5
    for place in [*random.choice(len(theta), 40), *(design.globals + np.arange(len(GLOBALS)))]:
        moved = step * (np.arange(len(theta)) == place)
        apart = design.log_slowdown(theta + moved)[0] - design.log_slowdown(theta - moved)[0]
        np.testing.assert_allclose(
            slopes[:, [place]].toarray()[:, 0], apart / (2 * step), atol=1e-6
        )


def test_light_contention_is_all_there_once_the_vm_is_filled(
    learned: tuple[Vocabulary, Examples],
) -> None:
    vocabulary, examples = learned
    fitted = fit_contention(vocabulary, examples.profiles, examples.rows, examples.slowdown)
    demands = fitted.demands(vocabulary, examples.profiles)
    light = fitted.terms(examples.profiles, examples.rows, demands).light
    assert (light > 0.0).all()
    assert (light <= np.log1p(np.exp(fitted.globals()["light"]))).all()


def test_effects_are_held_back_where_measurements_are_noisy(
    learned: tuple[Vocabulary, Examples],
) -> None:
    vocabulary, examples = learned
    noise = np.random.default_rng(1).lognormal(0.0, 0.4, len(examples.slowdown))
    noisy = replace(examples, slowdown=examples.slowdown * noise)
    assert firmest(vocabulary, noisy, seed=0) > firmest(vocabulary, examples, seed=0)
    one_mix = examples.take(examples.mix == examples.mix[0])
    assert firmest(vocabulary, one_mix, seed=0) == FIRMNESSES[0]


def test_firmer_effects_are_smaller(learned: tuple[Vocabulary, Examples]) -> None:
    vocabulary, examples = learned
    sizes = []
    for firmness in (FIRMNESSES[0], FIRMNESSES[-1]):
        fitted = fit_contention(
            vocabulary, examples.profiles, examples.rows, examples.slowdown, firmness
        )
        effects = fitted.theta[: fitted.place("regressors")]
        sizes.append(float(np.square(effects).sum()))
    assert sizes[1] < sizes[0]
