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

AGGREGATES = {"sum": np.add, "max": np.maximum}


@dataclass
class Columns:
    """Feature columns as they are collected: names, what they tell of, constraints and values.

    Values are (n,) or, for several columns at once, (n, columns).
    """

    names: list[str] = field(default_factory=list)
    drivers: list[str] = field(default_factory=list)
    constraints: list[int] = field(default_factory=list)
    values: list[np.ndarray] = field(default_factory=list)

    def add(self, driver: str, name: str, values: np.ndarray, constraint: int = 0) -> None:
        """Add one column; `driver` is what it tells of, in words for a reader."""
        self.names.append(name)
        self.drivers.append(driver)
        self.constraints.append(constraint)
        self.values.append(np.asarray(values, dtype=np.float32))

    def extend(self, heads: Columns, values: np.ndarray) -> None:
        """Add columns with the names, drivers and constraints of others, and values (n, their)."""
        self.names += heads.names
        self.drivers += heads.drivers
        self.constraints += heads.constraints
        self.values.append(np.asarray(values, dtype=np.float32))

    def matrix(self) -> np.ndarray:
        """Return the columns side by side, float32 (n, features)."""
        return np.column_stack(self.values)


@dataclass(frozen=True)
class OfTarget:
    """What a row takes from its target and VM alone: columns and their table (K, V, columns)."""

    heads: Columns
    table: np.ndarray

    @staticmethod
    def of(columns: Columns, shape: tuple[int, ...]) -> OfTarget:
        """Build from columns whose values are tables of `shape` (K, V), or broadcast to it."""
        tables = [np.broadcast_to(values, shape) for values in columns.values]
        return OfTarget(columns, np.stack(tables, axis=2))

    def add(self, columns: Columns, rows: Rows) -> None:
        """Add the columns of the rows."""
        columns.extend(self.heads, self.table[rows.target, rows.vm])


@dataclass(frozen=True)
class OfCoRunners:
    """What is added up over co-runners: a table (K + 1, V, quantities) that ends in zeros.

    `endings` says what becomes a column: sums, maxima or both.
    """

    heads: Columns
    padded: np.ndarray
    endings: tuple[str, ...]

    @staticmethod
    def of(quantities: list[tuple[str, np.ndarray]], *endings: str) -> OfCoRunners:
        """Build from named tables (K, V); what is unknown or negative in them counts as 0."""
        table = np.stack([values for _, values in quantities], axis=2)
        table = np.maximum(np.where(np.isfinite(table), table, 0.0), 0.0)
        padded = np.concatenate([table, np.zeros((1, *table.shape[1:]))])  # -1 finds the end
        heads = Columns()
        for ending in endings:
            for name, _ in quantities:
                driver = "which models run beside" if " is " in name else f"co-runners' {name}"
                heads.names.append(f"co-runners' {name} {ending}")
                heads.drivers.append(driver)
                heads.constraints.append(1)
        return OfCoRunners(heads, padded, endings)

    def add(self, columns: Columns, rows: Rows) -> None:
        """Add the columns of the rows."""
        shape = (len(rows.co), self.padded.shape[2])
        values = [(AGGREGATES[ending], np.zeros(shape)) for ending in self.endings]
        for place in range(rows.co.shape[1]):
            one = self.padded[rows.co[:, place], rows.vm]
            for add, so_far in values:
                add(so_far, one, out=so_far)
        columns.extend(self.heads, np.concatenate([so_far for _, so_far in values], axis=1))


@dataclass(frozen=True)
class Prepared:
    """What the rows of one set of profiles share, worked out once."""

    profiles: Profiles
    contention: Contention
    demands: Demands
    target: OfTarget
    co_runners: OfCoRunners


def prepare(vocabulary: Vocabulary, profiles: Profiles, contention: Contention) -> Prepared:
    """Return what the rows of the profiles share."""
    demands = contention.demands(vocabulary, profiles)
    with np.errstate(divide="ignore", invalid="ignore"):
        quantities = [("demand", demands.demand), ("sensitivity", demands.reaction)]
        quantities += shared_quantities(vocabulary, profiles)
        return Prepared(
            profiles,
            contention,
            demands,
            OfTarget.of(target_columns(vocabulary, profiles), profiles.solo.shape),
            # Sums grow with the degree, and trees along them beyond what was measured.
            OfCoRunners.of(quantities, "max"),
        )


def build(prepared: Prepared, rows: Rows) -> tuple[Columns, Terms]:
    """Return the feature columns and the contention of the rows."""
    columns = Columns()
    terms = prepared.contention.terms(prepared.profiles, rows, prepared.demands)
    prepared.target.add(columns, rows)
    with np.errstate(divide="ignore", invalid="ignore"):
        add_contention(columns, prepared, rows, terms)
    prepared.co_runners.add(columns, rows)
    return columns, terms


def target_columns(vocabulary: Vocabulary, profiles: Profiles) -> Columns:
    """Return the target's solo profile and static features, and the VM's, as tables (K, V)."""
    columns = Columns()
    solo = np.log(profiles.solo)
    mine, its_vm, its_load = "the target's profile", "the VM type", "the target's load"
    columns.add(mine, "solo", solo)
    for place, name in enumerate(vocabulary.vm_types):
        # How much faster or slower the target is elsewhere tells how much of this VM it fills.
        columns.add(mine, f"solo on {name}", np.log(profiles.elsewhere[:, [place]]) - solo)
    columns.add(its_load, "load", profiles.load)
    for name, table in measured_tables(vocabulary, profiles):
        columns.add(mine, name, table)
    for place, name in enumerate(vocabulary.model_numbers):
        columns.add(mine, f"model {name}", profiles.numbers[:, [place]])
        if name == "batch":
            columns.add(mine, "solo per item", solo - np.log(profiles.numbers[:, [place]]))
    for place, (name, values) in enumerate(vocabulary.model_texts.items()):
        for code, value in enumerate(values):
            columns.add(mine, f"model {name} is {value}", profiles.texts[:, [place]] == code)
    for place, name in enumerate(vocabulary.vm_numbers):
        columns.add(its_vm, f"vm {name}", profiles.vm_numbers[None, :, place])
    trained = profiles.vm < len(vocabulary.vm_types)
    for code, name in enumerate(vocabulary.vm_types):
        columns.add(its_vm, f"vm is {name}", np.where(trained, profiles.vm == code, np.nan)[None])
    return columns


def add_contention(columns: Columns, prepared: Prepared, rows: Rows, terms: Terms) -> None:
    """Add what the contention says; it grows with every co-runner."""
    profiles, demands = prepared.profiles, prepared.demands
    columns.add("the target's profile", "own demand", np.log(terms.own))
    columns.add("the target's sensitivity", "reaction", demands.reaction[rows.target, rows.vm])
    support = prepared.contention.support[profiles.model[rows.target]]
    columns.add("the target's profile", "support", np.log1p(support))
    whole = "crowding of the VM"
    columns.add(whole, "demand on the target", np.log(terms.total), 1)
    columns.add(whole, "largest demand", np.log(terms.pairs.max(axis=1, initial=0.0)), 1)
    columns.add(whole, "filled", np.log(terms.own + terms.total), 1)
    columns.add(whole, "contention", terms.log(), 1)
    busy = utilisation(profiles, rows) * np.exp(terms.log())
    columns.add("the target's load", "utilisation", busy, 1)


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
