"""Encodings learned from the measured groups: who suffers, who inflicts, and on which VM type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from placer.interference.profiles import Profiles, Rows, Vocabulary

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
    def fit(
        vocabulary: Vocabulary,
        profiles: Profiles,
        rows: Rows,
        slowdown: np.ndarray,
        shrinkage: Mapping[str, float] | None = None,
    ) -> Effects:
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
                effect[name] = np.bincount(where[present], pull[present], shape[name]) / total[name]
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
        return Effects(
            float(data["mean"]),
            (models, families, vms),
            effect,
            support,
            max(float(data["crowding"]), 0.0),
        )


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
