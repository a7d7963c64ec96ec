"""What is known of models and VM types, as arrays: solo profiles, features and offered load."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from placer.interference.measurements import Known

MOST_TEXTS = 32  # a text column with more values than this is a name, not a feature
MEASURED = ("throughput_rps", "cpu_util", "memory_mib")
Features = Mapping[str, float | str | None]


@dataclass(frozen=True)
class ModelProfile:
    """A model to predict for: rate in requests/s (None is closed loop), solo latency in ms."""

    name: str
    rate_rps: float | None = None
    features: Features = field(default_factory=dict)
    solo_latency_ms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class VmTypeProfile:
    """A VM type to predict for, with the columns of vm_types.csv as features."""

    name: str
    features: Features = field(default_factory=dict)


@dataclass(frozen=True)
class Vocabulary:
    """The names and columns that the training data had."""

    models: list[str]
    vm_types: list[str]
    families: list[str]
    family_column: str
    model_numbers: list[str]
    model_texts: dict[str, list[str]]
    vm_numbers: list[str]
    vm_texts: dict[str, list[str]]
    measured: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return asdict(self)


@dataclass(frozen=True)
class Profiles:
    """K kinds (a model at a rate) and V VM types as arrays; NaN where unknown.

    Codes are places in the vocabulary; the number after the last is a name never trained on.
    `solo` (K, V) is in ms; `elsewhere` (K, trained VM types) is the solo latency on each VM type
    of the training data; `throughput` (1/s), `cpu` and `memory` (K, V) are measured alone;
    `load` (K, V) is the offered load, rate x solo latency, 1 for closed loop, which `closed` (K,)
    marks.
    """

    model: np.ndarray
    family: np.ndarray
    numbers: np.ndarray
    texts: np.ndarray
    solo: np.ndarray
    elsewhere: np.ndarray
    throughput: np.ndarray
    cpu: np.ndarray
    memory: np.ndarray
    load: np.ndarray
    vm: np.ndarray
    vm_numbers: np.ndarray
    vm_texts: np.ndarray
    closed: np.ndarray

    def share(self) -> np.ndarray:
        """Return the offered load (K, V) bounded to what one replica can make of a VM."""
        return np.clip(np.where(np.isnan(self.load), 1.0, self.load), 0.02, 1.0)


@dataclass(frozen=True)
class Rows:
    """n targets with their co-runners: `target` (n,) and `co` (n, width) are kinds, `vm` (n,).

    `co` is padded with -1 at any place.
    """

    target: np.ndarray
    vm: np.ndarray
    co: np.ndarray

    def take(self, which: np.ndarray) -> Rows:
        """Return some of the rows."""
        return Rows(self.target[which], self.vm[which], self.co[which])

    def degree(self) -> np.ndarray:
        """Return the co-location degree (n,), the target included."""
        return 1 + (self.co >= 0).sum(axis=1)


def offered_load(rate_rps: np.ndarray, solo_ms: np.ndarray) -> np.ndarray:
    """Return the offered load (K, V) of kinds at `rate_rps` (K,), NaN being closed loop."""
    rate = np.broadcast_to(rate_rps[:, None], solo_ms.shape)
    return np.where(np.isnan(rate), 1.0, rate * solo_ms / 1000.0)


def text_columns(features: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], dict[str, list]]:
    """Return the numeric columns and the text columns with their values, of named features."""
    values: dict[str, list[Any]] = {}
    for row in features.values():
        for column, value in row.items():
            values.setdefault(column, []).append(value)
    texts, numbers = {}, []
    for column, cells in values.items():
        words = sorted({cell for cell in cells if isinstance(cell, str)})
        if words and len(words) <= MOST_TEXTS:
            texts[column] = words
        elif not words and any(cell is not None for cell in cells):
            numbers.append(column)
    return numbers, texts


def make_vocabulary(known: Known) -> Vocabulary:
    """Return the names and columns of the training data."""
    model_numbers, model_texts = text_columns(known.models)
    vm_numbers, vm_texts = text_columns(known.vm_types)
    column = "family" if "family" in model_texts else next(iter(model_texts), "")
    entries = [entry for one in known.solo.values() for entry in one]
    measured = [name for name in MEASURED if any(e[name] is not None for e in entries)]
    return Vocabulary(
        sorted(known.models),
        sorted(known.vm_types),
        model_texts.get(column, []),
        column,
        model_numbers,
        model_texts,
        vm_numbers,
        vm_texts,
        measured,
    )


def number(value: Any) -> float:
    """Return a feature as a float, NaN where it is missing or text."""
    return float(value) if isinstance(value, int | float) else math.nan


def code(names: list[str], name: Any) -> int:
    """Return the place of `name` in `names`; the number after the last where it is not there."""
    return names.index(name) if name in names else len(names)


def coded(texts: dict[str, list[str]], rows: list[dict[str, Any]]) -> np.ndarray:
    """Return the codes (rows, columns) of text features."""
    table = [[code(v, row.get(c)) for c, v in texts.items()] for row in rows]
    return np.array(table, dtype=int).reshape(len(rows), len(texts))


def numeric(columns: list[str], rows: list[dict[str, Any]]) -> np.ndarray:
    """Return numeric features (rows, columns), NaN where missing."""
    table = [[number(row.get(c)) for c in columns] for row in rows]
    return np.array(table, dtype=float).reshape(len(rows), len(columns))


def compile_profiles(
    vocabulary: Vocabulary,
    known: Known,
    models: Sequence[ModelProfile],
    vm_types: Sequence[VmTypeProfile],
) -> Profiles:
    """Return the arrays of the kinds and VM types; what a profile says outranks what is known."""

    described = [merge(known.models.get(m.name, {}), m.features) for m in models]
    vms = [merge(known.vm_types.get(v.name, {}), v.features) for v in vm_types]
    names = [v.name for v in vm_types]
    tables = {name: np.full((len(models), len(names)), np.nan) for name in ("solo", *MEASURED)}
    elsewhere = np.full((len(models), len(vocabulary.vm_types)), np.nan)
    places = {name: place for place, name in enumerate(vocabulary.models)}
    for place, model in enumerate(models):
        entries = known.nearest(model.name, model.rate_rps)
        latency = {vm: entry["latency_ms_p50"] for vm, entry in entries.items()}
        latency.update(model.solo_latency_ms)
        tables["solo"][place] = [number(latency.get(vm)) for vm in names]
        elsewhere[place] = [number(latency.get(vm)) for vm in vocabulary.vm_types]
        for name in MEASURED:
            tables[name][place] = [number(entries.get(vm, {}).get(name)) for vm in names]
    rates = np.array([number(m.rate_rps) for m in models])
    families = [code(vocabulary.families, row.get(vocabulary.family_column)) for row in described]
    return Profiles(
        model=np.array([places.get(m.name, len(places)) for m in models], dtype=int),
        family=np.array(families, dtype=int),
        numbers=numeric(vocabulary.model_numbers, described),
        texts=coded(vocabulary.model_texts, described),
        solo=tables["solo"],
        elsewhere=elsewhere,
        throughput=tables["throughput_rps"],
        cpu=tables["cpu_util"],
        memory=tables["memory_mib"],
        load=offered_load(rates, tables["solo"]),
        vm=np.array([code(vocabulary.vm_types, name) for name in names], dtype=int),
        vm_numbers=numeric(vocabulary.vm_numbers, vms),
        vm_texts=coded(vocabulary.vm_texts, vms),
        closed=np.isnan(rates),
    )


def merge(known: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the known features with the given ones over them; None fills nothing."""
    return {**known, **{name: value for name, value in given.items() if value is not None}}
