"""The contention of a group: what each model demands of a VM, and how hard its target reacts.

Replicas on a VM demand shares of it. While they fit side by side they hardly slow each other down;
once their sum passes the whole, everyone slows down in proportion; and a target that serves
requests at a rate also queues. Demands and reactions are learned together from measured groups,
with effects of models, families and VM types that are shrunken towards what the features say, so
that a name never measured is spoken for by its family, its features and its VM type.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from placer.interference.profiles import Profiles, Rows, Vocabulary
from placer.interference.regressors import regressors

# Penalty of each block of effects, in units of observations, where measurements are steady; chosen
# on held-out groups, as is by how much more effects are held back where they are not.
DEMAND = {"family": 0.05, "model": 0.3, "model_vm": 0.5, "family_vm": 0.5, "vm": 0.5}
REACTION = {
    "vm": 0.5, "target_family": 0.05, "target": 0.3, "target_family_vm": 0.5, "target_vm": 0.5,
    "families": 0.2, "families_vm": 0.3, "target_co_family": 0.3, "target_family_co": 0.3,
    "same_vm": 0.5,
}  # fmt: skip
TARGET_ONLY = ("vm", "target_family", "target", "target_family_vm", "target_vm")
REGRESSION, OWN_REGRESSION, SHARE_REGRESSION = 0.1, 0.3, 0.3
# Of the whole form: value before the data speak, penalty, and bounds.
GLOBALS = {
    "demand": (-0.7, 0.001, (-9.0, 4.0)),  # log of a usual share of the VM
    "reaction": (0.0, 0.001, (-9.0, 4.0)),  # log of a usual reaction
    "sharpness": (np.log(4.0), 1.0, (np.log(1.2), np.log(20.0))),
    "light": (np.log(0.02), 1.0, (np.log(1e-4), 0.0)),  # log overhead that no threshold guards
    "load": (1.0, 1.0, (-2.0, 4.0)),  # exponent of a co-runner's offered load
    "own_load": (0.0, 1.0, (-2.0, 4.0)),
    "queueing": (np.log(0.5), 1.0, (-6.0, 1.5)),
}  # fmt: skip
MOST_DEMAND, BEND = 1.3, 4.0  # one replica can hardly take more than the whole VM
WIDEST = 4.0  # standard deviations from the training data that features are followed
KNEE, MOST_QUEUE = 0.8, 6.0  # utilisation from which queueing is linear; most log of it
MOST_LOG = 8.0


@dataclass
class Terms:
    """The contention of n targets: shares of the VM, and the three factors of the slowdown.

    `own` (n,) is the target's demand, `pairs` (n, width) what each co-runner puts on it, 0 in
    padding; `crowding`, `light` and `queueing` (n,) are logarithms of factors, 0 or more.
    """

    own: np.ndarray
    pairs: np.ndarray
    total: np.ndarray
    crowding: np.ndarray
    light: np.ndarray
    queueing: np.ndarray

    def log(self) -> np.ndarray:
        """Return the log slowdown (n,), 0 or more; one more co-runner never lowers it."""
        return np.minimum(self.crowding + self.light + self.queueing, MOST_LOG)


@dataclass
class Contention:
    """Learned parameters: one vector, laid out by `layout`, and the scale of the regressors.

    `support` (models + 1,), `seen` (families + 1,) and `met` (VM types + 1,) count the measurements
    of each.
    """

    sizes: tuple[int, int, int]  # models, families, VM types, without the unseen one
    names: list[str]  # of the regressors
    centre: np.ndarray
    spread: np.ndarray
    low: np.ndarray
    high: np.ndarray
    support: np.ndarray
    seen: np.ndarray
    met: np.ndarray
    theta: np.ndarray

    def place(self, name: str) -> int:
        """Return where a block or a global begins in `theta`."""
        return layout(self.sizes, len(self.names))[0][name]

    def globals(self) -> dict[str, float]:
        """Return the parameters of the whole form by name."""
        begin = self.place("globals")
        return {name: float(self.theta[begin + k]) for k, name in enumerate(GLOBALS)}

    def standardised(self, profiles: Profiles, table: np.ndarray) -> np.ndarray:
        """Return the regressors (K, V, Q), 0 where unknown, not far beyond the training data.

        A family that was never measured in a group is a usual one, whatever its features.
        """
        scaled = np.clip(np.nan_to_num((table - self.centre) / self.spread), self.low, self.high)
        if self.sizes[1]:
            strange = self.seen[profiles.family] == 0
            of_vm = np.array([name.startswith("vm ") for name in self.names], dtype=bool)
            scaled = np.where(strange[:, None, None] & ~of_vm, 0.0, scaled)
        return scaled

    def demands(self, vocabulary: Vocabulary, profiles: Profiles) -> Demands:
        """Return the demand and the reaction of every kind on every VM type."""
        _, table = regressors(vocabulary, profiles)
        scaled = self.standardised(profiles, table)
        kinds, vms = profiles.solo.shape
        kind, vm = np.divmod(np.arange(kinds * vms), max(vms, 1))
        index = demand_codes(profiles, kind, vm, self.sizes)
        values = self.globals()
        log = values["demand"] + sum(
            self.theta[self.place(f"demand {name}") + index[name]] for name in DEMAND
        )
        count = len(self.names)
        log = np.reshape(log, (kinds, vms)) + scaled @ self.vector("regressors", count)
        load = np.log(profiles.share())
        own = log + scaled @ self.vector("own regressors", count) + values["own_load"] * load
        codes = reaction_codes(profiles, kind, kind, vm, self.sizes)
        reaction = values["reaction"] + sum(
            self.theta[self.place(f"reaction {name}") + codes[name]] for name in TARGET_ONLY
        )
        reaction = np.reshape(reaction, (kinds, vms))
        reaction = reaction + scaled @ self.vector("reaction regressors", count)
        return Demands(
            bounded(own)[0],
            bounded(log)[0] * np.exp(values["load"] * load),
            np.exp(np.clip(reaction, -9.0, 4.0)),
        )

    def vector(self, name: str, count: int) -> np.ndarray:
        """Return `count` parameters of the block `name`."""
        begin = self.place(name)
        return self.theta[begin : begin + count]

    def terms(self, profiles: Profiles, rows: Rows, demands: Demands) -> Terms:
        """Return the contention of the rows, given `demands` of the same profiles."""
        pairs = self.pairs(profiles, rows, demands)
        total = np.zeros(len(pairs))
        for place in range(pairs.shape[1]):  # in order: the sum of a larger group is never smaller
            total = total + pairs[:, place]
        own = demands.own[rows.target, rows.vm]
        values = self.globals()
        crowding, light, queueing = form(own, total, utilisation(profiles, rows), values)[:3]
        return Terms(own, pairs, total, crowding, light, np.exp(values["queueing"]) * queueing)

    def pairs(self, profiles: Profiles, rows: Rows, demands: Demands) -> np.ndarray:
        """Return the share (n, width) that each co-runner puts on its target, 0 in padding."""
        kinds, vms = profiles.solo.shape
        present = rows.co >= 0
        code = (rows.target[:, None] * kinds + rows.co) * vms + rows.vm[:, None]
        different, back = np.unique(code[present], return_inverse=True)
        pair, vm = np.divmod(different, max(vms, 1))
        target, co = np.divmod(pair, max(kinds, 1))
        index = reaction_codes(profiles, target, co, vm, self.sizes)
        extra = np.zeros(len(different))
        for name in REACTION:
            if name not in TARGET_ONLY:
                extra += self.theta[self.place(f"reaction {name}") + index[name]]
        log = np.log(demands.reaction[target, vm]) + extra
        each = demands.demand[co, vm] * np.exp(np.clip(log, -9.0, 4.0))
        out = np.zeros(rows.co.shape)
        out[present] = each[back]
        return out

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data; parameters of 0 are left out."""
        at = np.flatnonzero(self.theta)
        columns = ("centre", "spread", "low", "high", "support", "seen", "met")
        return {
            "sizes": list(self.sizes),
            "names": self.names,
            "theta": {"at": at.tolist(), "value": self.theta[at].tolist()},
            **{name: getattr(self, name).tolist() for name in columns},
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Contention:
        """Build from `to_json` data; raises KeyError, TypeError, ValueError or IndexError."""
        models, families, vms = (int(size) for size in data["sizes"])
        names = [str(name) for name in data["names"]]
        lengths = dict.fromkeys(("centre", "spread", "low", "high"), len(names))
        lengths |= {"support": models + 1, "seen": families + 1, "met": vms + 1}
        arrays = {name: np.asarray(data[name], dtype=float) for name in lengths}
        for name, length in lengths.items():
            if arrays[name].shape != (length,) or not np.isfinite(arrays[name]).all():
                raise ValueError(f"{name} is not a list of {length} finite numbers")
        sizes = (models, families, vms)
        theta = np.zeros(layout(sizes, len(names))[1])
        value = np.asarray(data["theta"]["value"], dtype=float)
        if not np.isfinite(value).all():
            raise ValueError("theta is not finite")
        theta[np.asarray(data["theta"]["at"], dtype=int)] = value
        return Contention(sizes, names, theta=theta, **arrays)


@dataclass(frozen=True)
class Demands:
    """Of each kind on each VM type, (K, V): demand as a target, as a co-runner, and reaction."""

    own: np.ndarray
    demand: np.ndarray
    reaction: np.ndarray


def layout(sizes: tuple[int, int, int], regressor_count: int) -> tuple[dict[str, int], int]:
    """Return where each block of parameters begins, and how many parameters there are."""
    m, f, v = (size + 1 for size in sizes)
    demand = {"family": f, "model": m, "model_vm": m * v, "family_vm": f * v, "vm": v}
    reaction = {
        "vm": v, "target_family": f, "target": m, "target_family_vm": f * v, "target_vm": m * v,
        "families": f * f, "families_vm": f * f * v, "target_co_family": m * f,
        "target_family_co": f * m, "same_vm": 2 * v,
    }  # fmt: skip
    lengths = {f"demand {name}": size for name, size in demand.items()}
    lengths |= {f"reaction {name}": size for name, size in reaction.items()}
    for name in ("regressors", "own regressors", "reaction regressors"):
        lengths[name] = regressor_count
    lengths["globals"] = len(GLOBALS)
    ends = np.cumsum(list(lengths.values()))
    begins = dict(zip(lengths, (ends - list(lengths.values())).tolist(), strict=True))
    return begins, int(ends[-1])


def demand_codes(
    profiles: Profiles, kind: np.ndarray, vm: np.ndarray, sizes: tuple[int, int, int]
) -> dict[str, np.ndarray]:
    """Return for each block of DEMAND the place (n,) of the effect of `kind` on `vm`."""
    v = sizes[2] + 1
    model, family, on = profiles.model[kind], profiles.family[kind], profiles.vm[vm]
    return {"family": family, "model": model, "model_vm": model * v + on,
            "family_vm": family * v + on, "vm": on}  # fmt: skip


def reaction_codes(
    profiles: Profiles,
    target: np.ndarray,
    co: np.ndarray,
    vm: np.ndarray,
    sizes: tuple[int, int, int],
) -> dict[str, np.ndarray]:
    """Return for each block of REACTION the place (n,) of the effect on `target` beside `co`."""
    m, f, v = (size + 1 for size in sizes)
    model, family = profiles.model[target], profiles.family[target]
    other, other_family, on = profiles.model[co], profiles.family[co], profiles.vm[vm]
    same = (target == co) | ((model == other) & (other < m - 1))
    families = family * f + other_family
    return {
        "vm": on,
        "target_family": family,
        "target": model,
        "target_family_vm": family * v + on,
        "target_vm": model * v + on,
        "families": families,
        "families_vm": families * v + on,
        "target_co_family": model * f + other_family,
        "target_family_co": family * m + other,
        "same_vm": same * v + on,
    }


def bounded(log: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return shares that bend towards MOST_DEMAND, and the slope of their logarithm."""
    fall = np.exp(-BEND * (np.clip(log, -9.0, 9.0) - np.log(MOST_DEMAND)))
    return MOST_DEMAND * (1.0 + fall) ** (-1.0 / BEND), fall / (1.0 + fall)


def utilisation(profiles: Profiles, rows: Rows) -> np.ndarray:
    """Return the offered load (n,) of targets that serve requests at a rate, 0 in closed loop."""
    load = profiles.load[rows.target, rows.vm]
    open_loop = ~(np.isnan(load) | profiles.closed[rows.target])
    return np.where(open_loop, np.minimum(load, 0.9), 0.0)


def queue(log: np.ndarray, load: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return -log(1 - utilisation) (n,), linear beyond the knee, and its slope in `log`."""
    busy = load * np.exp(np.minimum(log, MOST_LOG))
    below = np.minimum(busy, KNEE)
    value = -np.log1p(-below) + (busy - below) / (1.0 - KNEE)
    slope = np.where(value < MOST_QUEUE, busy / (1.0 - below), 0.0)
    return np.minimum(value, MOST_QUEUE), slope


def form(
    own: np.ndarray, total: np.ndarray, load: np.ndarray, values: Mapping[str, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the logs of crowding, of light contention, of queueing, and the slope of the last.

    Crowding is ((1 + (own + total)^p) / (1 + own^p))^(1/p), a rounded max(1, own + total). Light
    contention is what sharing costs at all: it is all there once the VM is well filled.
    """
    p, light = np.exp(values["sharpness"]), np.exp(values["light"])
    filled = np.logaddexp(0.0, p * np.log(own + total))
    crowding = np.maximum(filled - np.logaddexp(0.0, p * np.log(own)), 0.0) / p
    beside = np.log1p(-light * np.expm1(-total))
    waiting, slope = queue(crowding + beside, load)
    alone, _ = queue(np.zeros(len(load)), load)
    return crowding, beside, np.maximum(waiting - alone, 0.0), slope
