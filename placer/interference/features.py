"""The trees' features: one row for a target model in a group of co-runners on one VM.

Every aggregate over co-runners is a sum, a maximum or a count of quantities that are never
negative, added up in a fixed order, so that one more co-runner can raise it and never lower it,
rounding included.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from placer.interference.contention import Contention, Demands, Terms, utilisation
from placer.interference.profiles import Profiles, Rows, Vocabulary


@dataclass
class Columns:
    """Feature columns as they are collected: names, what they tell of, constraints and values."""

    names: list[str] = field(default_factory=list)
    drivers: list[str] = field(default_factory=list)
    constraints: list[int] = field(default_factory=list)
    values: list[np.ndarray] = field(default_factory=list)

    def add(self, driver: str, name: str, values: np.ndarray, constraint: int = 0) -> None:
        """Add one column (n,); `driver` is what it tells of, in words for a reader."""
        self.names.append(name)
        self.drivers.append(driver)
        self.constraints.append(constraint)
        self.values.append(np.asarray(values, dtype=np.float32))

    def matrix(self) -> np.ndarray:
        """Return the columns side by side, float32 (n, features)."""
        return np.column_stack(self.values)


def build(
    vocabulary: Vocabulary, profiles: Profiles, contention: Contention, rows: Rows
) -> tuple[Columns, Terms]:
    """Return the feature columns and the contention of the rows."""
    columns = Columns()
    demands = contention.demands(vocabulary, profiles)
    terms = contention.terms(profiles, rows, demands)
    with np.errstate(divide="ignore", invalid="ignore"):
        add_target(columns, vocabulary, profiles, rows)
        add_contention(columns, contention, profiles, rows, terms, demands)
        add_co_runners(columns, vocabulary, profiles, demands, rows)
    return columns, terms


def add_target(columns: Columns, vocabulary: Vocabulary, profiles: Profiles, rows: Rows) -> None:
    """Add the target's solo profile and static features, and the VM's."""
    kind, vm = rows.target, rows.vm
    solo = np.log(profiles.solo[kind, vm])
    mine, its_vm, its_load = "the target's profile", "the VM type", "the target's load"
    columns.add(mine, "solo", solo)
    for place, name in enumerate(vocabulary.vm_types):
        # How much faster or slower the target is elsewhere tells how much of this VM it fills.
        columns.add(mine, f"solo on {name}", np.log(profiles.elsewhere[kind, place]) - solo)
    columns.add(its_load, "load", profiles.load[kind, vm])
    for name, table in measured_tables(vocabulary, profiles):
        columns.add(mine, name, table[kind, vm])
    for place, name in enumerate(vocabulary.model_numbers):
        columns.add(mine, f"model {name}", profiles.numbers[kind, place])
        if name == "batch":
            columns.add(mine, "solo per item", solo - np.log(profiles.numbers[kind, place]))
    for place, (name, values) in enumerate(vocabulary.model_texts.items()):
        for code, value in enumerate(values):
            columns.add(mine, f"model {name} is {value}", profiles.texts[kind, place] == code)
    for place, name in enumerate(vocabulary.vm_numbers):
        columns.add(its_vm, f"vm {name}", profiles.vm_numbers[vm, place])
    trained = profiles.vm[vm] < len(vocabulary.vm_types)
    for code, name in enumerate(vocabulary.vm_types):
        columns.add(its_vm, f"vm is {name}", np.where(trained, profiles.vm[vm] == code, np.nan))


def add_contention(
    columns: Columns,
    contention: Contention,
    profiles: Profiles,
    rows: Rows,
    terms: Terms,
    demands: Demands,
) -> None:
    """Add what the contention says; it grows with every co-runner."""
    columns.add("the target's profile", "own demand", np.log(terms.own))
    columns.add("the target's sensitivity", "reaction", demands.reaction[rows.target, rows.vm])
    support = contention.support[profiles.model[rows.target]]
    columns.add("the target's profile", "support", np.log1p(support))
    whole = "crowding of the VM"
    columns.add(whole, "demand on the target", np.log(terms.total), 1)
    columns.add(whole, "largest demand", np.log(terms.pairs.max(axis=1, initial=0.0)), 1)
    columns.add(whole, "filled", np.log(terms.own + terms.total), 1)
    columns.add(whole, "contention", terms.log(), 1)
    busy = utilisation(profiles, rows) * np.exp(terms.log())
    columns.add("the target's load", "utilisation", busy, 1)
    columns.add("degree", "degree", rows.degree(), 1)


def add_co_runners(
    columns: Columns, vocabulary: Vocabulary, profiles: Profiles, demands: Demands, rows: Rows
) -> None:
    """Add the sums, maxima and counts over co-runners."""
    quantities = [("demand", demands.demand), ("sensitivity", demands.reaction)]
    quantities += shared_quantities(vocabulary, profiles)
    total = add_sums(columns, quantities, rows)
    for name, values in measured_tables(vocabulary, profiles):
        own = np.nan_to_num(values[rows.target, rows.vm])
        columns.add(f"co-runners' {name}", f"group's {name}", own + total[name], 1)


def add_sums(
    columns: Columns, quantities: list[tuple[str, np.ndarray]], rows: Rows
) -> dict[str, np.ndarray]:
    """Add sums and maxima over co-runners of named tables (K, V); return the sums (n,) by name.

    What is unknown or negative in a table counts as 0.
    """
    table = np.stack([values for _, values in quantities], axis=2)
    table = np.maximum(np.where(np.isfinite(table), table, 0.0), 0.0)
    _, vms, size = table.shape
    padded = np.concatenate([table, np.zeros((1, vms, size))])  # -1 finds the zeros at the end
    total = np.zeros((len(rows.co), size))
    largest = np.zeros((len(rows.co), size))
    for place in range(rows.co.shape[1]):
        one = padded[rows.co[:, place], rows.vm]
        total += one
        np.maximum(largest, one, out=largest)
    for place, (name, _) in enumerate(quantities):
        driver = f"co-runners' {name}" if " is " not in name else "which models run beside"
        columns.add(driver, f"co-runners' {name} sum", total[:, place], 1)
        if " is " not in name:
            columns.add(driver, f"co-runners' {name} max", largest[:, place], 1)
    return {name: total[:, place] for place, (name, _) in enumerate(quantities)}


def shared_quantities(vocabulary: Vocabulary, profiles: Profiles) -> list[tuple[str, np.ndarray]]:
    """Return what is known of co-runners and can be summed: names and tables (K, V)."""
    shape = profiles.solo.shape
    fastest = np.concatenate([profiles.elsewhere, np.full((shape[0], 1), np.inf)], axis=1)
    best = np.fmin(np.fmin.reduce(fastest, axis=1)[:, None], profiles.solo)
    found: list[tuple[str, np.ndarray]] = [
        ("load", profiles.share()),
        ("solo throughput", 1.0 / profiles.solo),
        ("solo latency", profiles.solo),
        ("saturation", profiles.solo / best),
        *measured_tables(vocabulary, profiles),
    ]
    for place, name in enumerate(vocabulary.model_numbers):
        found.append((name, np.broadcast_to(profiles.numbers[:, [place]], shape)))
    for place, (name, values) in enumerate(vocabulary.model_texts.items()):
        for code, value in enumerate(values):
            is_value = (profiles.texts[:, [place]] == code).astype(float)
            found.append((f"{name} is {value}", np.broadcast_to(is_value, shape)))
    return found


def measured_tables(vocabulary: Vocabulary, profiles: Profiles) -> list[tuple[str, np.ndarray]]:
    """Return the solo figures (K, V) that the training data measured, by name."""
    tables = {
        "throughput_rps": profiles.throughput,
        "cpu_util": profiles.cpu,
        "memory_mib": profiles.memory,
    }
    return [(name, tables[name]) for name in vocabulary.measured]
