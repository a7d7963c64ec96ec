"""Measures how far off predictions are where the fit has not seen the group, model or VM type."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from placer.interference.calibration import Calibration
from placer.interference.features import build
from placer.interference.profiles import Vocabulary
from placer.interference.training import Examples, Settings, fit, folds, without_models

MODEL_FOLDS, VM_FOLDS, ENCODING_FOLDS = 4, 3, 4


def calibrate(
    vocabulary: Vocabulary, examples: Examples, settings: Settings, seed: int, threads: int
) -> Calibration:
    """Return the calibration from predictions of groups that the fit has not seen.

    The scores by degree come from folds of mixes; those of strangers from folds of models and of
    VM types; that of higher degrees from a fit without the largest degree.
    """
    if settings.calibration_folds < 2:
        return Calibration.none()
    quicker = replace(settings, encoding_folds=min(settings.encoding_folds, ENCODING_FOLDS))

    def held_out(masks: Iterable[np.ndarray]) -> np.ndarray:
        found = np.full(len(examples.slowdown), np.nan)
        for mask in masks:
            if not mask.any() or mask.all():
                continue
            learned = fit(vocabulary, examples.take(~mask), quicker, seed, threads)
            columns, terms = build(
                vocabulary, examples.profiles, learned[0], examples.rows.take(mask)
            )
            found[mask] = learned[1].slowdown(columns.matrix(), terms.log())
        return found

    degree = examples.rows.degree()
    fold = folds(examples.mix, settings.calibration_folds, seed + 1)
    near = held_out([fold == one for one in range(fold.max() + 1)])
    models = held_out(without_models(examples, MODEL_FOLDS, seed + 4))
    vm = folds(examples.rows.vm, VM_FOLDS, seed + 5)
    vms = held_out([vm == one for one in range(vm.max() + 1)])
    above = held_out([degree == degree.max()])
    return Calibration.of(
        examples.slowdown, near, degree, {"model": models, "vm_type": vms, "degree": above}
    )
