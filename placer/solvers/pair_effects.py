"""What two replicas on one VM cost and forbid each other, where slowdowns are sums over pairs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from placer.problem import TOLERANCE
from placer.solvers.batch import Batch

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class PairEffects:
    """Pairs of kinds on each VM type, for a batch whose slowdowns are 1 + a sum over co-runners.

    own_cost (T, K): of a lone replica, the VM's price left out; infinite where it may not run.
    effect (T, K, K): what a co-runner (last) adds to a target's slowdown, 0 where it is unknown.
    pair_cost (T, K, K): what two replicas' company costs. banned (T, K, K): may not share a VM.
    slo_binds (T, K): whether company could make a replica late, or a lone one is late already.
    worst_excess (T, K): ms, the most by which it could miss its SLO.
    lower, upper (T, K, K): whether "both are here" must not be understated, or overstated.
    """

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self.effect = np.zeros((batch.types, batch.kinds, batch.kinds))
        for t in range(batch.types):
            self.effect[t] = _effects(batch, t)
        unknown: Bools = np.isnan(self.effect)
        unknown = unknown | unknown.transpose(0, 2, 1)
        self.effect[unknown] = 0.0
        weight = self._weights()
        self.own_cost = self._own_cost()
        felt = weight[:, :, None] * self.effect
        self.pair_cost = felt + felt.transpose(0, 2, 1)
        self.banned = self._fitting() & (unknown | batch.apart)
        self.worst_excess = self._worst_excess()
        self.slo_binds = self._binding()
        self._company()

    def _weights(self) -> Floats:
        """Return what one unit of slowdown of each kind costs on each type (T, K)."""
        batch, objective = self._batch, self._batch.instance.objective
        weight = np.tile(objective.degradation * batch.weight, (batch.types, 1))
        if objective.latency > 0:
            weight = weight + objective.latency * batch.weight * (batch.solo / batch.best_solo)
        return np.nan_to_num(weight)

    def _own_cost(self) -> Floats:
        batch, objective = self._batch, self._batch.instance.objective
        cost = objective.price * batch.fixed
        if objective.latency > 0:
            cost = cost + objective.latency * batch.weight * (batch.solo / batch.best_solo - 1.0)
        fits = (batch.demand <= batch.capacity[:, None, :] + TOLERANCE).all(axis=2)
        may = batch.allowed & fits & (batch.max_models > 0)[:, None] & np.isfinite(cost)
        return np.where(may, cost, np.inf)

    def _fitting(self) -> Bools:
        """Return which pairs fit on a type and have replicas (T, K, K)."""
        batch = self._batch
        used = batch.demand[:, :, None, :] + batch.demand[:, None, :, :]
        room = batch.capacity[:, None, None, :] + TOLERANCE
        fits: Bools = np.all(used <= room, axis=3)
        runs = np.isfinite(self.own_cost)
        fits &= runs[:, :, None] & runs[:, None, :] & (batch.max_models > 1)[:, None, None]
        enough = np.minimum.outer(batch.replicas, batch.replicas) > 0
        np.fill_diagonal(enough, batch.replicas > 1)
        return fits & enough

    def _worst_excess(self) -> Floats:
        """Return by how many ms each kind could miss its SLO in the worst company (T, K)."""
        batch = self._batch
        worst = np.full((batch.types, batch.kinds), -np.inf)
        for t in range(batch.types):
            most = int(min(batch.max_models[t], batch.total_replicas)) - 1
            for kind in np.flatnonzero(np.isfinite(batch.slo) & np.isfinite(batch.solo[t])):
                harm = np.repeat(np.maximum(self.effect[t, kind], 0.0), batch.replicas)
                slowdown = 1.0 + (np.sort(harm)[::-1][:most].sum() if most > 0 else 0.0)
                worst[t, kind] = batch.solo[t, kind] * slowdown - batch.slo[kind] - TOLERANCE
        return worst

    def _binding(self) -> Bools:
        penalty = self._batch.instance.objective.slo_penalty
        binds: Bools = (self.worst_excess > 0) & np.isfinite(self.own_cost)
        if penalty is not None:
            binds = binds & (penalty * self._batch.weight > 0)
        return binds

    def _company(self) -> None:
        """Say for which pairs the model must know that both replicas are on one VM."""
        slowed = self.slo_binds[:, :, None] & (self.effect > 0)
        helped = self.slo_binds[:, :, None] & (self.effect < 0)
        able = self._fitting() & ~self.banned
        self.lower = able & ((self.pair_cost > 0) | slowed | slowed.transpose(0, 2, 1))
        self.upper = able & ((self.pair_cost < 0) | helped | helped.transpose(0, 2, 1))


def _effects(batch: Batch, t: int) -> Floats:
    """Return what each co-runner adds to each target's slowdown on type `t` (K, K)."""
    first, second = np.triu_indices(batch.kinds)
    pairs = np.column_stack([first, second]).astype(np.int32)
    slowdown = batch.interference.slowdown(t, pairs) - 1.0
    effect = np.zeros((batch.kinds, batch.kinds))
    effect[second, first] = slowdown[:, 1]
    effect[first, second] = slowdown[:, 0]
    return effect
