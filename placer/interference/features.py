"""The predictor's features: one row for a target model in a group of co-runners on one VM.

Every aggregate over co-runners is a sum, a maximum or a count of quantities that are never
negative, added up in a fixed order, so that one more co-runner can raise it and never lower it,
rounding included.
"""

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
# Penalties of the effect model, in effective observations, chosen on held-out groups.
SHRINKAGE = 0.1
SWEEPS = 30
LEAST_OVERHEAD = 0.02  # below this an overhead is measurement noise; also keeps logarithms finite
BLOCKS = (
    "vm", "co_family", "co", "co_vm", "families", "families_vm", "target_co_family",
    "target_family_co", "target_family", "target", "target_family_vm", "target_vm", "same_vm",
)  # fmt: skip
SENSITIVITY = ("vm", "target_family", "target", "target_family_vm", "target_vm")
AGGRESSIVENESS = ("co_family", "co", "co_vm")


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
    `load` (K, V) is the offered load, rate x solo latency, 1 for closed loop.
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
    return Vocabulary(sorted(known.models), sorted(known.vm_types), model_texts.get(column, []),
                      column, model_numbers, model_texts, vm_numbers, vm_texts, measured)


def number(value: Any) -> float:
    """Return a feature as a float, NaN where it is missing or text."""
    return float(value) if isinstance(value, int | float) else math.nan


def compile_profiles(vocabulary: Vocabulary, known: Known, models: Sequence[ModelProfile],
                     vm_types: Sequence[VmTypeProfile]) -> Profiles:
    """Return the arrays of the kinds and VM types; what a profile says outranks what is known."""

    def code(names: list[str], name: Any) -> int:
        return names.index(name) if name in names else len(names)

    def coded(texts: dict[str, list[str]], rows: list[dict[str, Any]]) -> np.ndarray:
        table = [[code(v, row.get(c)) for c, v in texts.items()] for row in rows]
        return np.array(table, dtype=int).reshape(len(rows), len(texts))

    def numeric(columns: list[str], rows: list[dict[str, Any]]) -> np.ndarray:
        table = [[number(row.get(c)) for c in columns] for row in rows]
        return np.array(table, dtype=float).reshape(len(rows), len(columns))

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
    )


def merge(known: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the known features with the given ones over them; None fills nothing."""
    return {**known, **{name: value for name, value in given.items() if value is not None}}


@dataclass
class Effects:
    """Who suffers and who inflicts: the log overhead of one target beside one co-runner.

    An additive model of shrunken effects of the target, the co-runner, their families and the VM
    type, fitted by backfitting. A name that was never seen has effect 0, so its family and VM
    type speak for it.
    """

    mean: float
    sizes: tuple[int, int, int]  # models, families, VM types, without the unseen one
    effect: dict[str, np.ndarray]
    support: np.ndarray  # observations of each model as a target, (models + 1,)
    crowding: float = 0.0  # exponent >= 0 of degree - 1 by which a co-runner's overhead grows

    @staticmethod
    def fit(vocabulary: Vocabulary, profiles: Profiles, rows: Rows, slowdown: np.ndarray,
            shrinkage: Mapping[str, float] | None = None) -> Effects:
        """Fit to the slowdowns (n,) of `rows`; weights follow what matters to the slowdown."""
        sizes = (len(vocabulary.models), len(vocabulary.families), len(vocabulary.vm_types))
        present = rows.co >= 0
        count = np.maximum(present.sum(axis=1), 1)
        overhead = np.maximum(slowdown - 1.0, LEAST_OVERHEAD)
        weight = (overhead / (1.0 + overhead)) ** 2
        load = np.log(profiles.share())[rows.co, rows.vm[:, None]]
        goal = np.log(overhead / count) - (load * present).sum(axis=1) / count
        mean = float(np.average(goal, weights=weight)) if len(goal) else np.log(0.1)
        index = codes(profiles, rows, sizes)
        each = (weight / count)[:, None] * present
        shape = block_sizes(sizes)
        effect = {name: np.zeros(shape[name]) for name in BLOCKS}
        penalty = {name: (shrinkage or {}).get(name, SHRINKAGE) for name in BLOCKS}
        total = {
            name: np.bincount(index[name][present], each[present], shape[name]) + penalty[name]
            for name in BLOCKS
        }
        left = goal - mean
        crowd, crowding = np.log(count), 0.0
        for _ in range(SWEEPS if len(goal) else 0):
            left = left + crowding * crowd
            slope = (weight * crowd * left).sum() / ((weight * crowd**2).sum() + 1.0)
            crowding = float(np.clip(slope, 0.0, 1.0))
            left = left - crowding * crowd
            for name in BLOCKS:
                where = index[name]
                old = (effect[name][where] * present).sum(axis=1) / count
                pull = each * (left + old)[:, None]
                effect[name] = (
                    np.bincount(where[present], pull[present], shape[name]) / total[name]
                )
                left = left + old - (effect[name][where] * present).sum(axis=1) / count
        support = np.bincount(profiles.model[rows.target], minlength=sizes[0] + 1).astype(float)
        return Effects(mean, sizes, effect, support, crowding)

    def pairs(self, profiles: Profiles, rows: Rows) -> np.ndarray:
        """Return the overhead (n, width) that each co-runner inflicts, 0 in padding."""
        index = codes(profiles, rows, self.sizes)
        log = self.mean + np.log(profiles.share())[rows.co, rows.vm[:, None]]
        for name in BLOCKS:
            log = log + self.effect[name][index[name]]
        crowd = np.maximum((rows.co >= 0).sum(axis=1, keepdims=True), 1) ** self.crowding
        return np.where(rows.co >= 0, np.exp(np.clip(log, -9.0, 4.0)) * crowd, 0.0)

    def sensitivity(self, profiles: Profiles) -> np.ndarray:
        """Return the log overhead (K, V) that each kind tends to suffer, 0 on average."""
        return self._marginal(profiles, SENSITIVITY)

    def aggressiveness(self, profiles: Profiles) -> np.ndarray:
        """Return the factor (K, V) of the overhead that each kind inflicts on others, > 0."""
        log = self._marginal(profiles, AGGRESSIVENESS)
        return np.exp(np.clip(log, -5.0, 5.0)) * profiles.share()

    def _marginal(self, profiles: Profiles, names: Sequence[str]) -> np.ndarray:
        kinds, vms = len(profiles.model), len(profiles.vm)
        kind, vm = np.divmod(np.arange(kinds * vms), max(vms, 1))
        index = codes(profiles, Rows(kind, vm, kind[:, None]), self.sizes)
        total = sum(self.effect[name][index[name][:, 0]] for name in names)
        return np.asarray(total).reshape(kinds, vms)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data; effects of 0 are left out."""
        sparse = {}
        for name, values in self.effect.items():
            at = np.flatnonzero(values)
            sparse[name] = {"at": at.tolist(), "value": values[at].tolist()}
        return {"mean": self.mean, "sizes": list(self.sizes), "effect": sparse,
                "support": self.support.tolist(), "crowding": self.crowding}  # fmt: skip

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Effects:
        """Build from `to_json` data; raises KeyError, TypeError, ValueError or IndexError."""
        models, families, vms = (int(size) for size in data["sizes"])
        effect = {}
        for name, size in block_sizes((models, families, vms)).items():
            effect[name] = np.zeros(size)
            at = np.asarray(data["effect"][name]["at"], dtype=int)
            effect[name][at] = np.asarray(data["effect"][name]["value"], dtype=float)
        support = np.asarray(data["support"], dtype=float)
        if support.shape != (models + 1,):
            raise ValueError("support has the wrong length")
        return Effects(float(data["mean"]), (models, families, vms), effect, support,
                       max(float(data["crowding"]), 0.0))


def block_sizes(sizes: tuple[int, int, int]) -> dict[str, int]:
    """Return how many effects each block has, the unseen names included."""
    m, f, v = (size + 1 for size in sizes)
    numbers = (v, f, m, m * v, f * f, f * f * v, m * f, f * m, f, m, f * v, m * v, 2 * v)
    return dict(zip(BLOCKS, numbers, strict=True))


def codes(profiles: Profiles, rows: Rows, sizes: tuple[int, int, int]) -> dict[str, np.ndarray]:
    """Return for each block the place (n, width) of the effect of each co-runner on its target."""
    m, f, v = (size + 1 for size in sizes)
    co = profiles.model[rows.co]
    co_family = profiles.family[rows.co]
    target = profiles.model[rows.target][:, None]
    family = profiles.family[rows.target][:, None]
    vm = profiles.vm[rows.vm][:, None]
    zero = np.zeros_like(co)
    same = (rows.target[:, None] == rows.co) | ((target == co) & (co < m - 1))
    return {
        "vm": zero + vm,
        "co_family": co_family,
        "co": co,
        "co_vm": co * v + vm,
        "families": family * f + co_family,
        "families_vm": (family * f + co_family) * v + vm,
        "target_co_family": target * f + co_family,
        "target_family_co": family * m + co,
        "target_family": zero + family,
        "target": zero + target,
        "target_family_vm": zero + family * v + vm,
        "target_vm": zero + target * v + vm,
        "same_vm": same * v + vm,
    }


@dataclass
class Columns:
    """Feature columns as they are collected: names, monotone constraints and values."""

    names: list[str] = field(default_factory=list)
    constraints: list[int] = field(default_factory=list)
    values: list[np.ndarray] = field(default_factory=list)

    def add(self, name: str, values: np.ndarray, constraint: int = 0) -> None:
        """Add one column (n,)."""
        self.names.append(name)
        self.constraints.append(constraint)
        self.values.append(np.asarray(values, dtype=np.float32))

    def matrix(self) -> np.ndarray:
        """Return the columns side by side, float32 (n, features)."""
        return np.column_stack(self.values)


def build(vocabulary: Vocabulary, profiles: Profiles, effects: Effects,
          rows: Rows) -> tuple[Columns, np.ndarray]:
    """Return the feature columns and the summed pair overheads (n,) of the rows."""
    columns = Columns()
    with np.errstate(divide="ignore", invalid="ignore"):
        add_target(columns, vocabulary, profiles, effects, rows)
        overhead = add_co_runners(columns, vocabulary, profiles, effects, rows)
    return columns, overhead


def add_target(columns: Columns, vocabulary: Vocabulary, profiles: Profiles, effects: Effects,
               rows: Rows) -> None:
    """Add the target's solo profile and static features, and the VM's."""
    kind, vm = rows.target, rows.vm
    solo = np.log(profiles.solo[kind, vm])
    columns.add("solo", solo)
    for place, name in enumerate(vocabulary.vm_types):
        # How much faster or slower the target is elsewhere tells how much of this VM it fills.
        columns.add(f"solo on {name}", np.log(profiles.elsewhere[kind, place]) - solo)
    columns.add("load", profiles.load[kind, vm])
    for name, table in measured_tables(vocabulary, profiles):
        columns.add(name, table[kind, vm])
    for place, name in enumerate(vocabulary.model_numbers):
        columns.add(f"model {name}", profiles.numbers[kind, place])
        if name == "batch":
            columns.add("solo per item", solo - np.log(profiles.numbers[kind, place]))
    for place, (name, values) in enumerate(vocabulary.model_texts.items()):
        for code, value in enumerate(values):
            columns.add(f"model {name} is {value}", profiles.texts[kind, place] == code)
    for place, name in enumerate(vocabulary.vm_numbers):
        columns.add(f"vm {name}", profiles.vm_numbers[vm, place])
    for place, (name, values) in enumerate(vocabulary.vm_texts.items()):
        for code, value in enumerate(values):
            columns.add(f"vm {name} is {value}", profiles.vm_texts[vm, place] == code)
    trained = profiles.vm[vm] < len(vocabulary.vm_types)
    for code, name in enumerate(vocabulary.vm_types):
        columns.add(f"vm is {name}", np.where(trained, profiles.vm[vm] == code, np.nan))
    learned = effects.effect["vm"][profiles.vm[vm]]
    columns.add("vm overhead", np.where(trained, learned, np.nan))
    columns.add("sensitivity", effects.sensitivity(profiles)[kind, vm])
    columns.add("support", np.log1p(effects.support[profiles.model[kind]]))


def add_co_runners(columns: Columns, vocabulary: Vocabulary, profiles: Profiles,
                   effects: Effects, rows: Rows) -> np.ndarray:
    """Add the aggregates over co-runners, all monotone; return the summed pair overheads (n,)."""
    pairs = effects.pairs(profiles, rows)
    overhead, worst = np.zeros(len(pairs)), np.zeros(len(pairs))
    same = np.zeros(len(pairs))
    for place in range(pairs.shape[1]):  # in order: the sum of a larger group is never smaller
        overhead = overhead + pairs[:, place]
        worst = np.maximum(worst, pairs[:, place])
        co = rows.co[:, place]
        same += (co >= 0) & (profiles.model[co] == profiles.model[rows.target])
    columns.add("overhead sum", np.log(overhead), 1)
    columns.add("overhead max", np.log(worst), 1)
    columns.add("degree", rows.degree(), 1)
    columns.add("same model", same, 1)
    names, table = quantities(vocabulary, profiles, effects)
    _, vms, size = table.shape
    padded = np.concatenate([table, np.zeros((1, vms, size))])  # -1 finds the zeros at the end
    total = np.zeros((len(rows.co), size))
    largest = np.zeros((len(rows.co), size))
    for place in range(rows.co.shape[1]):
        one = padded[rows.co[:, place], rows.vm]
        total += one
        np.maximum(largest, one, out=largest)
    for place, name in enumerate(names):
        columns.add(f"co-runners' {name} sum", total[:, place], 1)
        if not name.startswith("count"):
            columns.add(f"co-runners' {name} max", largest[:, place], 1)
    for name, values in measured_tables(vocabulary, profiles):
        own = np.nan_to_num(values[rows.target, rows.vm])
        columns.add(f"group's {name}", own + total[:, names.index(name)], 1)
    return overhead


def quantities(vocabulary: Vocabulary, profiles: Profiles,
               effects: Effects) -> tuple[list[str], np.ndarray]:
    """Return what is summed over co-runners: names (Q,) and a table (K, V, Q), all >= 0."""
    shape = profiles.solo.shape
    best = np.fmin(np.nanmin(with_column(profiles.elsewhere), axis=1)[:, None], profiles.solo)
    sensitivity = np.exp(np.clip(effects.sensitivity(profiles), -5.0, 5.0))
    found: list[tuple[str, np.ndarray]] = [
        ("aggressiveness", effects.aggressiveness(profiles)),
        ("sensitivity", sensitivity),
        ("load", profiles.share()),
        ("inverse solo", 1.0 / profiles.solo),
        ("solo", profiles.solo),
        ("saturation", profiles.solo / best),
        *measured_tables(vocabulary, profiles),
    ]
    for place, name in enumerate(vocabulary.model_numbers):
        found.append((f"model {name}", np.broadcast_to(profiles.numbers[:, [place]], shape)))
    for place, (name, values) in enumerate(vocabulary.model_texts.items()):
        for code, value in enumerate(values):
            is_value = (profiles.texts[:, [place]] == code).astype(float)
            found.append((f"count {name} {value}", np.broadcast_to(is_value, shape)))
    table = np.stack([values for _, values in found], axis=2)
    finite = np.where(np.isfinite(table), table, 0.0)
    return [name for name, _ in found], np.maximum(finite, 0.0)


def with_column(table: np.ndarray) -> np.ndarray:
    """Return the table (K, V) with a last column of infinity, so that no row lacks a minimum."""
    return np.concatenate([table, np.full((len(table), 1), np.inf)], axis=1)


def measured_tables(vocabulary: Vocabulary, profiles: Profiles) -> list[tuple[str, np.ndarray]]:
    """Return the solo figures (K, V) that the training data measured, by name."""
    tables = {
        "throughput_rps": profiles.throughput,
        "cpu_util": profiles.cpu,
        "memory_mib": profiles.memory,
    }
    return [(name, tables[name]) for name in vocabulary.measured]
