"""Measures how far off predictions are where the fit has not seen the group, model or VM type."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from placer.interference.calibration import Calibration
from placer.interference.forms import (
    BESIDE_NEW_FAMILY,
    MEASURED,
    NEW_FAMILY,
    NEW_MODEL,
    NEW_VM,
    NOVELTIES,
    averaged,
    best_share,
)
from placer.interference.profiles import Vocabulary
from placer.interference.training import Examples, Settings, fit, folds, without

MODEL_FOLDS, FAMILY_FOLDS, VM_FOLDS, ENCODING_FOLDS, LEAST_FOLDS = 4, 6, 3, 4, 3


@dataclass(frozen=True)
class HeldOut:
    """Log slowdowns by each form (n, 2) of targets that the fit has not seen, NaN where it has.

    `novelty` (n,) is the place in NOVELTIES of each target to the fit that it was held out of.
    """

    logs: np.ndarray
    novelty: np.ndarray

    def slowdown(self, shares: np.ndarray) -> np.ndarray:
        """Return the predictions (n,), NaN where there is none."""
        return np.exp(averaged(self.logs, shares[self.novelty]))


def calibrate(
    vocabulary: Vocabulary, examples: Examples, settings: Settings, seed: int, threads: int
) -> tuple[np.ndarray, Calibration]:
    """Return the shares of the second form (6,), and the calibration of the upper bounds.

    Both come from predictions of groups that the fit has not seen. The scores by degree come from
    folds of mixes; those of strangers from folds of models and of VM types; that of higher degrees
    from a fit without the largest degree. Shares come from folds of mixes, models, families and VM
    types; with a share given, nothing is held out for them.
    """
    if settings.share is not None and settings.calibration_folds < 2:
        return np.full(len(NOVELTIES), settings.share), Calibration.none()
    profiles, rows = examples.profiles, examples.rows
    held_out = partial(hold_out, vocabulary, examples, settings, seed, threads)
    mix_folds = max(settings.calibration_folds, LEAST_FOLDS)
    near = held_out(each(folds(examples.mix, mix_folds, seed + 1)))
    models = held_out(without(examples, profiles.model, MODEL_FOLDS, seed + 4))
    vms = held_out(each(folds(rows.vm, VM_FOLDS, seed + 5)))
    if settings.share is None:
        families = held_out(without(examples, profiles.family, FAMILY_FOLDS, seed + 6))
        parts = {MEASURED: near, NEW_MODEL: models, NEW_FAMILY: families, NEW_VM: vms,
                 BESIDE_NEW_FAMILY: families}  # fmt: skip
        shares = shares_of(examples.slowdown, parts)
    else:
        shares = np.full(len(NOVELTIES), settings.share)
    if settings.calibration_folds < 2:
        return shares, Calibration.none()
    degree = rows.degree()
    above = held_out([degree == degree.max()])
    strange = {"model": models, "vm_type": vms, "degree": above}
    return shares, Calibration.of(
        examples.slowdown,
        near.slowdown(shares),
        degree,
        {name: held.slowdown(shares) for name, held in strange.items()},
    )


def hold_out(
    vocabulary: Vocabulary,
    examples: Examples,
    settings: Settings,
    seed: int,
    threads: int,
    masks: Iterable[np.ndarray],
) -> HeldOut:
    """Return what fits without the rows of each mask (n,) say of these rows."""
    quicker = replace(settings, encoding_folds=min(settings.encoding_folds, ENCODING_FOLDS))
    profiles, rows = examples.profiles, examples.rows
    found = HeldOut(np.full((len(rows.target), 2), np.nan), np.zeros(len(rows.target), int))
    for mask in masks:
        if mask.any() and not mask.all():
            learned = fit(vocabulary, examples.take(~mask), quicker, seed, threads)
            held = rows.take(mask)
            found.logs[mask] = learned.ready(vocabulary, profiles).logs(held)
            found.novelty[mask] = learned.novelty(profiles, held)
    return found


def each(fold: np.ndarray) -> list[np.ndarray]:
    """Return a mask (n,) for each number in `fold` (n,)."""
    return [fold == one for one in range(fold.max() + 1)]


def shares_of(measured: np.ndarray, parts: dict[int, HeldOut]) -> np.ndarray:
    """Return the share for each of NOVELTIES, chosen on the targets held out for it.

    Where those of a new family are too few, the share is that of a new model; else, where they are
    too few, that of measured targets. The first form stands alone until the data speak, and on VM
    types with few runs, each of which it learns from.
    """
    shares = np.zeros(len(NOVELTIES))
    for sort, part in parts.items():
        of_sort = np.isfinite(part.logs).all(axis=1) & (part.novelty == sort)
        found = best_share(measured[of_sort], part.logs[of_sort])
        instead = NEW_MODEL if sort == NEW_FAMILY else MEASURED
        shares[sort] = shares[instead] if found is None else found
    return shares
