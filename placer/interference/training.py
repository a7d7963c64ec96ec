"""Fits the contention and the trees to measured groups."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from placer._version import __version__
from placer.errors import InputError
from placer.interference.contention_fit import fit_contention
from placer.interference.excess import Excess, Plain, excess_goal
from placer.interference.features import build, prepare
from placer.interference.forms import NOVELTIES, Forms
from placer.interference.measurements import Known, Measurements
from placer.interference.profiles import (
    ModelProfile,
    Profiles,
    Rows,
    VmTypeProfile,
    Vocabulary,
    compile_profiles,
)
from placer.interference.trees import Trees

FIRMNESSES = (1.0, 3.0, 10.0, 30.0)
FIRMNESS_FOLDS = 3


@dataclass(frozen=True)
class Settings:
    """How the trees are grown; the defaults were chosen on held-out groups."""

    trees: int = 120
    learning_rate: float = 0.05
    depth: int = 4
    row_share: float = 0.8
    column_share: float = 0.6
    least_weight: float = 0.5
    ridge: float = 5.0
    turning_point: float = 0.1  # log errors above this count linearly, as they do in MAPE
    unseen_weight: float = 0.15  # weight of the copies of rows whose models are played unseen
    encoding_folds: int = 8
    calibration_folds: int = 5
    share: float | None = None  # of the second form; None chooses it on held-out groups
    firmness: float | None = None  # of the contention's effects; None chooses it so, too

    def of_excess(self) -> Settings:
        """Return the settings for the trees of the second form, which correct nothing."""
        return replace(self, column_share=0.5, least_weight=10.0, turning_point=0.5)


@dataclass(frozen=True)
class Examples:
    """Training rows: slowdown (n,), and the mix and configuration of each as numbers (n,)."""

    profiles: Profiles
    rows: Rows
    slowdown: np.ndarray
    mix: np.ndarray

    def take(self, which: np.ndarray) -> Examples:
        """Return some of the examples."""
        return Examples(self.profiles, self.rows.take(which), self.slowdown[which], self.mix[which])


def make_examples(vocabulary: Vocabulary, known: Known, measurements: Measurements) -> Examples:
    """Return the measured targets as rows; raises InputError where there are none."""
    targets = measurements.targets()
    if targets.empty:
        raise InputError(
            "has no run of two or more rows with measured latencies; there is no interference "
            "to learn from",
            source=measurements.source,
        )
    shared = measurements.rows[measurements.rows["degree"] > 1]
    key = list(zip(shared["model"], shared["rate_rps"].fillna(-1.0), strict=True))
    kinds = {one: place for place, one in enumerate(sorted(set(key)))}
    models = [ModelProfile(name, None if rate < 0 else rate) for name, rate in kinds]
    vms = [VmTypeProfile(name) for name in sorted(known.vm_types)]
    members: dict[str, list[int]] = {}
    for run, one in zip(shared["run"], key, strict=True):
        members.setdefault(run, []).append(kinds[one])
    own = list(zip(targets["model"], targets["rate_rps"].fillna(-1.0), strict=True))
    co = np.full((len(targets), int(targets["degree"].max()) - 1), -1)
    for place, (run, one) in enumerate(zip(targets["run"], own, strict=True)):
        others = sorted(members[run])
        others.remove(kinds[one])
        co[place, : len(others)] = others
    target = np.array([kinds[one] for one in own])
    places = {name: place for place, name in enumerate(sorted(known.vm_types))}
    vm = np.array([places[name] for name in targets["vm_type"]])
    mix = np.unique(targets["mix"].to_numpy(dtype=str), return_inverse=True)[1]
    profiles = compile_profiles(vocabulary, known, models, vms)
    return Examples(profiles, Rows(target, vm, co), targets["slowdown"].to_numpy(float), mix)


def folds(groups: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return a fold number (n,) for each row so that equal groups (n,) share a fold."""
    _, place = np.unique(groups, return_inverse=True)
    number_of = place.max() + 1
    return (np.random.default_rng(seed).permutation(number_of) % min(count, number_of))[place]


def firmest(vocabulary: Vocabulary, examples: Examples, seed: int) -> float:
    """Return which of FIRMNESSES gives the contention of the least error on held-out mixes.

    The noisier the measurements are, the less a single effect can be believed.
    """
    profiles, rows, slowdown = examples.profiles, examples.rows, examples.slowdown
    fold = folds(examples.mix, FIRMNESS_FOLDS, seed + 8)
    errors = np.zeros(len(FIRMNESSES))
    for one in range(fold.max() + 1) if fold.max() > 0 else ():
        held, learned = fold == one, None
        for place, firmness in enumerate(FIRMNESSES):
            learned = fit_contention(
                vocabulary, profiles, rows.take(~held), slowdown[~held], firmness, begin=learned
            )
            demands = learned.demands(vocabulary, profiles)
            log = learned.terms(profiles, rows.take(held), demands).log()
            errors[place] += np.abs(np.exp(log) / slowdown[held] - 1.0).sum()
    return FIRMNESSES[int(np.argmin(errors))]


def fit(
    vocabulary: Vocabulary, examples: Examples, settings: Settings, seed: int, threads: int
) -> Forms:
    """Fit both forms; the shares, which only held-out groups can tell, are those of the first."""
    profiles, rows, slowdown = examples.profiles, examples.rows, examples.slowdown
    firmness = FIRMNESSES[0] if settings.firmness is None else settings.firmness
    contention = fit_contention(vocabulary, profiles, rows, slowdown, firmness)
    matrices, logs, places, weights = [], [], [], []
    # The trees learn on the contention of fits that have not seen their row.
    for held, weight in parts_to_encode(examples, settings, seed):
        rest = fit_contention(
            vocabulary, profiles, rows.take(~held), slowdown[~held], firmness, begin=contention
        )
        columns, terms = build(prepare(vocabulary, profiles, rest), rows.take(held))
        matrices.append(columns.matrix())
        logs.append(terms.log())
        places.append(np.flatnonzero(held))
        weights.append(np.full(len(places[-1]), weight))
    booster = boost(
        np.concatenate(matrices),
        columns.constraints,
        np.log(slowdown[np.concatenate(places)]) - np.concatenate(logs),
        np.concatenate(weights),
        settings,
        seed,
        threads,
    )
    excess = fit_excess(vocabulary, examples, settings.of_excess(), seed, threads)
    return Forms(contention, Trees(booster), excess, np.zeros(len(NOVELTIES)))


def fit_excess(
    vocabulary: Vocabulary, examples: Examples, settings: Settings, seed: int, threads: int
) -> Excess:
    """Fit the second form."""
    columns = Plain.of(vocabulary, examples.profiles).columns(examples.rows)
    goal = excess_goal(examples.slowdown, examples.rows.degree())
    base = float(np.median(goal))
    weight = np.ones(len(goal))
    booster = boost(
        columns.matrix(), columns.constraints, goal - base, weight, settings, seed, threads
    )
    return Excess(Trees(booster), base)


def parts_to_encode(
    examples: Examples, settings: Settings, seed: int
) -> list[tuple[np.ndarray, float]]:
    """Return masks (n,) of rows to leave out and then to encode, with the weight of their copies.

    Each row comes once with its mix left out, and once more as if some of its models had never
    been measured.
    """
    fold = folds(examples.mix, settings.encoding_folds, seed + 2)
    parts = [(fold == one, 1.0) for one in range(fold.max() + 1)]
    if settings.unseen_weight > 0:
        touched = without(examples, examples.profiles.model, settings.encoding_folds, seed + 3)
        parts.extend((held, settings.unseen_weight) for held in touched)
    return parts


def without(examples: Examples, code: np.ndarray, count: int, seed: int) -> list[np.ndarray]:
    """Return for each fold of the kinds' codes (K,) a mask (n,) of the rows that have one of it."""
    rows = examples.rows
    fold = folds(np.arange(code.max() + 1), count, seed)
    of_co = np.where(rows.co >= 0, fold[code[rows.co]], -1)
    of_target = fold[code[rows.target]]
    masks = [(of_target == one) | (of_co == one).any(axis=1) for one in range(fold.max() + 1)]
    return [mask for mask in masks if mask.any() and not mask.all()]


def boost(
    features: np.ndarray,
    constraints: list[int],
    goal: np.ndarray,
    weight: np.ndarray,
    settings: Settings,
    seed: int,
    threads: int,
) -> Any:
    """Grow monotone trees with the least error to the logarithms `goal` (n,)."""
    import xgboost

    def objective(margin: np.ndarray, _: Any) -> tuple[np.ndarray, np.ndarray]:
        # Pseudo-Huber, so that outliers count as they do in MAPE.
        error = margin.astype(np.float64) - goal
        robust = weight / np.sqrt(1.0 + (error / settings.turning_point) ** 2)
        return error * robust, robust + 1e-6

    parameters = {
        "max_depth": settings.depth,
        "eta": settings.learning_rate,
        "subsample": settings.row_share,
        "colsample_bytree": settings.column_share,
        "min_child_weight": settings.least_weight,
        "reg_lambda": settings.ridge,
        "tree_method": "hist",
        "monotone_constraints": tuple(constraints),
        "base_score": 0.0,
        "seed": seed,
        "nthread": threads,
        "disable_default_eval_metric": True,
    }
    data = xgboost.DMatrix(features, label=goal, nthread=threads)
    return xgboost.train(parameters, data, settings.trees, obj=objective)


def describe(
    measurements: Measurements, examples: Examples, settings: Settings, seed: int
) -> dict[str, Any]:
    """Return what the predictor was trained on, for its file and for warnings."""
    import xgboost

    rows, profiles = examples.rows, examples.profiles
    shared = measurements.rows[measurements.rows["degree"] > 1]
    load = np.where(rows.co >= 0, profiles.load[rows.co, rows.vm[:, None]], np.nan)
    loads = np.concatenate([profiles.load[rows.target, rows.vm], load.ravel()])
    loads = loads[np.isfinite(loads)]
    return {
        "created_by": f"placer {__version__}",
        "xgboost": xgboost.__version__,
        "seed": seed,
        "settings": asdict(settings),
        "runs": int(shared["run"].nunique()),
        "targets": len(rows.target),
        "degrees": sorted({int(d) for d in rows.degree()}),
        "loads": [float(loads.min()), float(loads.max())],
        "models": sorted(set(shared["model"])),
        "vm_types": sorted(set(shared["vm_type"])),
        "fingerprints": sorted(set(fingerprints(measurements).values())),
    }


def fingerprints(measurements: Measurements) -> dict[str, str]:
    """Return for each shared run a short hash of its models and latencies, whatever its name."""
    shared = measurements.rows[measurements.rows["degree"] > 1]
    found: dict[str, list[str]] = {}
    for run, configuration, model, latency in zip(
        shared["run"], shared["configuration"], shared["model"], shared["latency_ms_p50"],
        strict=True,
    ):  # fmt: skip
        found.setdefault(run, [configuration]).append(f"{model} {latency:.9g}")
    return {
        run: hashlib.sha256("\n".join([parts[0], *sorted(parts[1:])]).encode()).hexdigest()[:12]
        for run, parts in found.items()
    }
