"""One monotone XGBoost model for the slowdown of every member of any group of models.

After Mendoza et al., "Interference-Aware Scheduling for Inference Serving" (EuroMLSys 2021,
doi 10.1145/3437984.3458837), widened from pairs to groups of any co-location degree:
slowdown = 1 + start * exp(trees), where the start is a mean of the summed pair overheads and of
degree - 1, and the trees may only rise as co-runners are added.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from placer._version import __version__
from placer.errors import InputError, near_name
from placer.interference.calibration import Calibration
from placer.interference.features import (
    Effects,
    ModelProfile,
    Profiles,
    Rows,
    VmTypeProfile,
    Vocabulary,
    build,
    compile_profiles,
    make_vocabulary,
)
from placer.interference.measurements import Known, Measurements

FORMAT, VERSION = "placer/predictor", 1
CHUNK = 100_000
MANY = 20_000  # rows from which a second thread pays


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


class Predictor:
    """Predicts slowdowns for every co-location degree and VM type; see `train` and `bind`."""

    def __init__(self, known: Known, vocabulary: Vocabulary, effects: Effects, trees: Trees,
                 calibration: Calibration, metadata: dict[str, Any]) -> None:
        self.known = known
        self.vocabulary = vocabulary
        self.effects = effects
        self.trees = trees
        self.calibration = calibration
        self.metadata = metadata

    @staticmethod
    def train(measurements: Measurements, *, seed: int = 0, workers: int | None = None,
              settings: Settings | None = None) -> Predictor:
        """Fit to measured groups; deterministic for a seed. `workers` is the number of threads.

        Raises InputError where there is no shared run to learn from.
        """
        settings = settings or Settings()
        known = Known.of(measurements)
        vocabulary = make_vocabulary(known)
        examples = make_examples(vocabulary, known, measurements)
        # Threads wait for each other longer than they work until the data are large.
        threads = workers or (1 if len(examples.slowdown) < MANY else min(2, os.cpu_count() or 1))
        calibration = calibrate(vocabulary, examples, settings, seed, threads)
        effects, trees = fit(vocabulary, examples, settings, seed, threads)
        metadata = describe(measurements, examples, settings, seed)
        return Predictor(known, vocabulary, effects, trees, calibration, metadata)

    def knowing(self, measurements: Measurements) -> Predictor:
        """Return the same predictor, told the features and solo runs of further measurements.

        What the training data say of a model, VM type or solo run stays; nothing is learned.
        """
        known = self.known.with_others(Known.of(measurements))
        return Predictor(known, self.vocabulary, self.effects, self.trees, self.calibration,
                         self.metadata)

    def bind(self, models: Sequence[ModelProfile],
             vm_types: Sequence[VmTypeProfile]) -> BoundPredictor:
        """Return the predictor for these models and VM types, which groups number by place.

        Raises InputError where one is neither in the training data nor described well enough.
        """
        for kind, given, known, columns in (
            ("model", models, self.known.models,
             [*self.vocabulary.model_numbers, *self.vocabulary.model_texts]),
            ("VM type", vm_types, self.known.vm_types,
             [*self.vocabulary.vm_numbers, *self.vocabulary.vm_texts]),
        ):  # fmt: skip
            for one in given:
                lacks = columns and not any(one.features.get(c) is not None for c in columns)
                if one.name not in known and lacks:
                    solo = " and solo_latency_ms" if kind == "model" else ""
                    raise InputError(
                        f"{kind} {one.name!r} is not in the predictor's training data"
                        f"{near_name(one.name, known)}; give its features "
                        f"({', '.join(columns)}){solo}"
                    )
        profiles = compile_profiles(self.vocabulary, self.known, models, vm_types)
        return BoundPredictor(self, profiles, tuple(models), tuple(vm_types))

    def predict(self, profiles: Profiles, rows: Rows) -> np.ndarray:
        """Return the mean slowdown (n,) of the rows' targets."""
        columns, overhead = build(self.vocabulary, profiles, self.effects, rows)
        return self.trees.slowdown(columns.matrix(), overhead, rows.degree())

    def to_json(self) -> dict[str, Any]:
        """Return the predictor as plain JSON data."""
        model = self.trees.to_json()
        return {
            "format": FORMAT,
            "version": VERSION,
            "metadata": self.metadata,
            "vocabulary": self.vocabulary.to_json(),
            "known": asdict(self.known),
            "effects": self.effects.to_json(),
            "calibration": self.calibration.to_json(),
            "checksum": checksum(model),
            "model": model,
        }

    def save(self, path: str | Path) -> None:
        """Write one JSON file, beside its place first and then renamed into it.

        Raises InputError where the file cannot be written; nothing is then written over.
        """
        path = Path(path)
        text = json.dumps(self.to_json(), allow_nan=False)
        if path.is_dir():
            raise InputError("is a folder; expected a file to write", source=str(path))
        temporary = None
        try:
            with tempfile.NamedTemporaryFile(
                "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
            ) as file:
                temporary = file.name
                file.write(text + "\n")
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(temporary, 0o666 & ~umask)
            os.replace(temporary, path)
        except OSError as error:
            if temporary:
                Path(temporary).unlink(missing_ok=True)
            raise InputError(f"cannot be written: {error.strerror}", source=str(path)) from None

    @staticmethod
    def load(path: str | Path) -> Predictor:
        """Read a predictor that `save` wrote; raises InputError for anything else."""
        source = str(path)
        if Path(path).is_dir():
            raise InputError("is a folder; expected a predictor file", source=source)
        try:
            data = json.loads(Path(path).read_bytes())
        except FileNotFoundError:
            raise InputError("there is no such file", source=source) from None
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror}", source=source) from None
        except (ValueError, RecursionError):
            raise InputError(
                "is not JSON (truncated, or another kind of file?); expected a predictor that "
                "`placer train` wrote",
                source=source,
            ) from None
        try:
            return Predictor.from_json(data)
        except InputError as error:
            raise error.within(source) from None

    @staticmethod
    def from_json(data: Any) -> Predictor:
        """Build from `to_json` data; raises InputError that says what is wrong."""
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            found = data.get("format") if isinstance(data, dict) else type(data).__name__
            raise InputError(f"found {found!r}; expected {FORMAT!r}", path="format")
        version = data.get("version")
        if type(version) is not int or version < 1:
            raise InputError(f"found {version!r}; expected {VERSION}", path="version")
        if version > VERSION:
            raise InputError(
                f"found {version}, from a newer placer; this one reads up to {VERSION}",
                path="version",
            )
        part = ""
        try:
            part = "metadata"
            metadata = {**data[part], "degrees": [int(d) for d in data[part]["degrees"]],
                        "loads": [float(x) for x in data[part]["loads"]]}  # fmt: skip
            part = "vocabulary"
            vocabulary = Vocabulary(**data[part])
            part = "known"
            known = Known(**data[part])
            part = "effects"
            effects = Effects.from_json(data[part])
            part = "calibration"
            calibration = Calibration.from_json(data[part])
            part = "model"
            if checksum(data[part]) != data.get("checksum"):
                raise ValueError("the checksum does not fit")
            trees = Trees.from_json(data[part], float(metadata["settings"]["start_mix"]))
        except KeyError as error:
            raise InputError(f"{error.args[0]!r} is missing", path=part) from None
        except (TypeError, ValueError, IndexError, AttributeError) as error:
            text = " ".join(str(error).split())
            raise InputError(f"is damaged: {text}", path=part) from None
        return Predictor(known, vocabulary, effects, trees, calibration, metadata)


def checksum(model: Any) -> str:
    """Return the SHA-256 of JSON data, so that a damaged model never reaches XGBoost."""
    text = json.dumps(model, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class BoundPredictor:
    """A predictor for given models and VM types; groups are arrays of places in `models`."""

    def __init__(self, predictor: Predictor, profiles: Profiles,
                 models: tuple[ModelProfile, ...], vm_types: tuple[VmTypeProfile, ...]) -> None:
        self.predictor = predictor
        self.profiles = profiles
        self.models = models
        self.vm_types = vm_types

    def slowdown(self, vm_type: int, groups: np.ndarray) -> np.ndarray:
        """Return the mean slowdown of each member, float64 (n, width), NaN in padding.

        `groups` (n, width) holds places in `models`, ascending, padded with -1 at the end. A
        lone replica is exactly 1.0; one more co-runner never lowers a slowdown. Raises InputError
        where a member's solo latency on the VM type is unknown.
        """
        groups = np.asarray(groups, dtype=np.int64)
        if groups.ndim != 2 or groups.shape[1] == 0:
            return np.full(groups.shape, np.nan)
        parts = [
            self._chunk(vm_type, groups[start : start + CHUNK])
            for start in range(0, max(len(groups), 1), CHUNK)
        ]
        return np.concatenate(parts)

    def upper(self, vm_type: int, groups: np.ndarray, quantile: float = 0.95) -> np.ndarray:
        """Return the bound that holds with probability `quantile`, shaped as `slowdown`.

        Monotone in the co-runners as the mean is, and never below it.
        """
        groups = np.asarray(groups, dtype=np.int64)
        degree = np.broadcast_to((groups >= 0).sum(axis=1, keepdims=True), groups.shape)
        mean = self.slowdown(vm_type, groups)
        return self.predictor.calibration.upper(mean, degree, quantile)

    def _chunk(self, vm_type: int, groups: np.ndarray) -> np.ndarray:
        self._check(vm_type, groups)
        out = np.where(groups >= 0, 1.0, np.nan)
        first = groups >= 0
        first[:, 1:] &= groups[:, 1:] != groups[:, :-1]
        first &= (groups >= 0).sum(axis=1, keepdims=True) > 1
        group, place = np.nonzero(first)
        if not len(group):
            return out
        co = groups[group]
        co[np.arange(len(group)), place] = -1
        rows = Rows(groups[group, place], np.full(len(group), vm_type), co)
        values = self.predictor.predict(self.profiles, rows)
        # Replicas of one model stand side by side and share the row of the first of them.
        row = np.cumsum(first.ravel()).reshape(first.shape) - 1
        shared = (groups >= 0) & ((groups >= 0).sum(axis=1, keepdims=True) > 1)
        out[shared] = values[row[shared]]
        return out

    def _check(self, vm_type: int, groups: np.ndarray) -> None:
        shared = groups[(groups >= 0).sum(axis=1) > 1]
        used = np.unique(shared[shared >= 0])
        unknown = used[~(self.profiles.solo[used, vm_type] > 0)]
        if len(unknown):
            name, vm = self.models[unknown[0]].name, self.vm_types[vm_type].name
            known = self.predictor.known
            if name in known.models:
                raise InputError(
                    f"model {name!r} was not measured alone on {vm!r}; give its solo_latency_ms "
                    f"for {vm!r}"
                )
            columns = self.predictor.vocabulary
            listed = ", ".join([*columns.model_numbers, *columns.model_texts])
            raise InputError(
                f"model {name!r} is not in the predictor's training data"
                f"{near_name(name, known.models)}; give its features ({listed}) and "
                f"solo_latency_ms for {vm!r}"
            )

    def extrapolation(self, vm_type: int, groups: np.ndarray) -> list[str]:
        """Return for each group why it is far from the training data, "" where it is not."""
        groups = np.asarray(groups, dtype=np.int64)
        metadata = self.predictor.metadata
        vm = self.vm_types[vm_type].name
        general = []
        if vm not in metadata["vm_types"]:
            general.append(f"no group was measured on {vm!r}")
        low, high = metadata["loads"]
        trained = set(metadata["models"])
        notes = []
        for model, load in zip(self.models, self.profiles.load[:, vm_type], strict=True):
            note = []
            if model.name not in trained:
                note.append(f"no group with {model.name!r} was measured")
            if not low * 0.95 <= load <= high * 1.05:
                note.append(f"{model.name!r} has load {load:.2g}, outside {low:.2g} to {high:.2g}")
            notes.append(note)
        largest = max(metadata["degrees"])
        out = []
        for group in groups:
            members = group[group >= 0]
            if len(members) < 2:
                out.append("")
                continue
            reasons = list(general)
            if len(members) > largest:
                reasons.append(f"degree {len(members)} is above {largest}, the largest measured")
            for member in dict.fromkeys(members.tolist()):
                reasons.extend(notes[member])
            out.append("; ".join(reasons))
        return out


@dataclass(frozen=True)
class Trees:
    """The boosted trees with the form around them."""

    booster: Any
    start_mix: float

    def slowdown(self, features: np.ndarray, overhead: np.ndarray,
                 degree: np.ndarray) -> np.ndarray:
        """Return 1 + start * exp(trees) (n,) for float32 features (n, columns)."""
        if not len(features):
            return np.ones(0)
        self.booster.set_param(
            {"nthread": 1 if len(features) < MANY else min(2, os.cpu_count() or 1)}
        )
        margin = self.booster.inplace_predict(features, predict_type="margin")
        begin = start(overhead, degree, self.start_mix)
        return 1.0 + begin * np.exp(margin.astype(np.float64))

    def to_json(self) -> Any:
        """Return XGBoost's own JSON."""
        return json.loads(bytes(self.booster.save_raw("json")))

    @staticmethod
    def from_json(data: Any, start_mix: float) -> Trees:
        """Build from XGBoost's own JSON; raises ValueError."""
        import xgboost

        booster = xgboost.Booster({"nthread": min(2, os.cpu_count() or 1)})
        try:
            booster.load_model(bytearray(json.dumps(data).encode()))
        except xgboost.core.XGBoostError as error:
            raise ValueError(str(error).splitlines()[0]) from None
        return Trees(booster, start_mix)


def start(overhead: np.ndarray, degree: np.ndarray, mix: float) -> np.ndarray:
    """Return the overhead (n,) before the trees: a geometric mean that no co-runner can lower."""
    return overhead**mix * (degree - 1.0) ** (1.0 - mix)


@dataclass(frozen=True)
class Examples:
    """Training rows: slowdown (n,), and the mix and configuration of each as numbers (n,)."""

    profiles: Profiles
    rows: Rows
    slowdown: np.ndarray
    mix: np.ndarray

    def take(self, which: np.ndarray) -> Examples:
        """Return some of the examples."""
        return Examples(self.profiles, self.rows.take(which), self.slowdown[which],
                        self.mix[which])


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


def calibrate(vocabulary: Vocabulary, examples: Examples, settings: Settings, seed: int,
              threads: int) -> Calibration:
    """Return the calibration from predictions of groups that the fit has not seen."""
    if settings.calibration_folds < 2:
        return Calibration({}, {})
    fold = folds(examples.mix, settings.calibration_folds, seed + 1)
    predicted = np.full(len(fold), np.nan)
    for one in range(fold.max() + 1 if fold.max() > 0 else 0):
        held = np.flatnonzero(fold == one)
        effects, trees = fit(vocabulary, examples.take(np.flatnonzero(fold != one)), settings,
                             seed, threads)
        rows = examples.rows.take(held)
        columns, overhead = build(vocabulary, examples.profiles, effects, rows)
        predicted[held] = trees.slowdown(columns.matrix(), overhead, rows.degree())
    known = np.isfinite(predicted)
    degree = examples.rows.degree()
    return Calibration.fit(examples.slowdown[known], predicted[known], degree[known])


def fit(vocabulary: Vocabulary, examples: Examples, settings: Settings, seed: int,
        threads: int) -> tuple[Effects, Trees]:
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
    booster = boost(np.concatenate(matrices), columns.constraints, slowdown[place],
                    np.concatenate(overheads), np.concatenate(weights), settings, seed, threads)
    return effects, Trees(booster, settings.start_mix)


def unseen_parts(examples: Examples, settings: Settings,
                 seed: int) -> list[tuple[np.ndarray, np.ndarray, float]]:
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


def boost(features: np.ndarray, constraints: list[int], slowdown: np.ndarray, begin: np.ndarray,
          weight: np.ndarray, settings: Settings, seed: int, threads: int) -> Any:
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


def describe(measurements: Measurements, examples: Examples, settings: Settings,
             seed: int) -> dict[str, Any]:
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
