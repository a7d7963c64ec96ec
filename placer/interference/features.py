"""The predictor's features: one row for a target model in a group of co-runners on one VM.

Every aggregate over co-runners is a sum, a maximum or a count of quantities that are never
negative, added up in a fixed order, so that one more co-runner can raise it and never lower it,
rounding included.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from placer.interference.effects import Effects
from placer.interference.profiles import Profiles, Rows, Vocabulary


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


def build(
    vocabulary: Vocabulary, profiles: Profiles, effects: Effects, rows: Rows
) -> tuple[Columns, np.ndarray]:
    """Return the feature columns and the summed pair overheads (n,) of the rows."""
    columns = Columns()
    with np.errstate(divide="ignore", invalid="ignore"):
        add_target(columns, vocabulary, profiles, effects, rows)
        overhead = add_co_runners(columns, vocabulary, profiles, effects, rows)
    return columns, overhead


def add_target(
    columns: Columns, vocabulary: Vocabulary, profiles: Profiles, effects: Effects, rows: Rows
) -> None:
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


def add_co_runners(
    columns: Columns, vocabulary: Vocabulary, profiles: Profiles, effects: Effects, rows: Rows
) -> np.ndarray:
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


def quantities(
    vocabulary: Vocabulary, profiles: Profiles, effects: Effects
) -> tuple[list[str], np.ndarray]:
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
