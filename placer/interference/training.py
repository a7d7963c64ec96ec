"""Fits the effects, the trees and the calibration to measured groups."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from placer._version import __version__
from placer.errors import InputError
from placer.interference.calibration import Calibration
from placer.interference.effects import Effects
from placer.interference.features import build
from placer.interference.measurements import Known, Measurements
from placer.interference.profiles import (
    ModelProfile,
    Profiles,
    Rows,
    VmTypeProfile,
    Vocabulary,
    compile_profiles,
)
from placer.interference.trees import Trees, start


@dataclass(frozen=True)
class Settings:
    """How the trees are grown; the defaults were chosen on held-out groups."""

    trees: int = 250
    learning_rate: float = 0.1
    depth: int = 5
    row_share: float = 0.8
    column_share: float = 0.6
    least_weight: float = 0.5
    ridge: float = 1.0
    turning_point: float = 0.1  # log errors above this count linearly, as they do in MAPE
    start_mix: float = 0.5  # exponent of the pair overheads in the start; the rest is degree - 1
    unseen_weight: float = 0.15  # weight of the copies of rows whose models are played unseen
    encoding_folds: int = 10
    calibration_folds: int = 5


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


def calibrate(
    vocabulary: Vocabulary, examples: Examples, settings: Settings, seed: int, threads: int
) -> Calibration:
    """Return the calibration from predictions of groups that the fit has not seen."""
    if settings.calibration_folds < 2:
        return Calibration({}, {})
    fold = folds(examples.mix, settings.calibration_folds, seed + 1)
    predicted = np.full(len(fold), np.nan)
    for one in range(fold.max() + 1 if fold.max() > 0 else 0):
        held = np.flatnonzero(fold == one)
        effects, trees = fit(
            vocabulary, examples.take(np.flatnonzero(fold != one)), settings, seed, threads
        )
        rows = examples.rows.take(held)
        columns, overhead = build(vocabulary, examples.profiles, effects, rows)
        predicted[held] = trees.slowdown(columns.matrix(), overhead, rows.degree())
    known = np.isfinite(predicted)
    degree = examples.rows.degree()
    return Calibration.fit(examples.slowdown[known], predicted[known], degree[known])


def fit(
    vocabulary: Vocabulary, examples: Examples, settings: Settings, seed: int, threads: int
) -> tuple[Effects, Trees]:
    """Fit the effects, then the trees on features whose effects have not seen their row."""
    profiles, rows, slowdown = examples.profiles, examples.rows, examples.slowdown
    effects = Effects.fit(vocabulary, profiles, rows, slowdown)
    parts = []
    fold = folds(examples.mix, settings.encoding_folds, seed + 2)
    for one in range(fold.max() + 1):
        held = fold == one
        parts.append((held, held, 1.0))
    if settings.unseen_weight > 0:
        parts.extend(unseen_parts(examples, settings, seed))
    matrices, overheads, places, weights = [], [], [], []
    for held, without, weight in parts:
        some = rows.take(held)
        rest = Effects.fit(vocabulary, profiles, rows.take(~without), slowdown[~without])
        columns, overhead = build(vocabulary, profiles, rest, some)
        matrices.append(columns.matrix())
        overheads.append(start(overhead, some.degree(), settings.start_mix))
        places.append(np.flatnonzero(held))
        weights.append(np.full(len(places[-1]), weight))
    place = np.concatenate(places)
    booster = boost(
        np.concatenate(matrices),
        columns.constraints,
        slowdown[place],
        np.concatenate(overheads),
        np.concatenate(weights),
        settings,
        seed,
        threads,
    )
    return effects, Trees(booster, settings.start_mix)


def unseen_parts(
    examples: Examples, settings: Settings, seed: int
) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """Return copies of the rows to encode as if some of their models had never been measured."""
    rows, model = examples.rows, examples.profiles.model
    fold = folds(np.arange(model.max() + 1), settings.encoding_folds, seed + 3)
    of_co = np.where(rows.co >= 0, fold[model[rows.co]], -1)
    of_target = fold[model[rows.target]]
    parts = []
    for one in range(fold.max() + 1):
        touched = (of_target == one) | (of_co == one).any(axis=1)
        if touched.any() and not touched.all():
            parts.append((touched, touched, settings.unseen_weight))
    return parts


def boost(
    features: np.ndarray,
    constraints: list[int],
    slowdown: np.ndarray,
    begin: np.ndarray,
    weight: np.ndarray,
    settings: Settings,
    seed: int,
    threads: int,
) -> Any:
    """Grow monotone trees f so that 1 + begin * exp(f) has the least error in log slowdown."""
    import xgboost

    goal = np.log(slowdown)

    def objective(margin: np.ndarray, _: Any) -> tuple[np.ndarray, np.ndarray]:
        # Gauss-Newton on log(1 + begin * exp(f)), pseudo-Huber so that outliers count as in MAPE.
        overhead = begin * np.exp(np.clip(margin.astype(np.float64), -20.0, 20.0))
        error = np.log1p(overhead) - goal
        slope = np.maximum(overhead / (1.0 + overhead), 0.05)
        robust = weight / np.sqrt(1.0 + (error / settings.turning_point) ** 2)
        return error * slope * robust, slope**2 * robust + 1e-6

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
