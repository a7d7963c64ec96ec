"""The cost of a group on one VM: the one function that every solver asks.

A group is a row of kind numbers in ascending order, padded with -1 behind. Its cost is what one
VM with that content adds to the instance's objective, infinite where capacity, the co-location
degree, an apart rule, a banned SLO miss or a group table forbids it. Limits over several VMs
(count, max_vms, max_price, together) are the master's, not the group's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from placer.interference.tables import Floats, Groups
from placer.problem import TOLERANCE
from placer.solvers.batch import Batch

CHUNK = 200_000
"""Rows that are worked on at once, to bound memory."""


class GroupCosts:
    """Costs of groups under one instance's objective, many rows at a time."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self._objective = batch.instance.objective
        self._weight = np.append(batch.weight, 0.0)
        self._slo = np.append(batch.slo, np.inf)
        self._allowed = np.column_stack([batch.allowed, np.ones(batch.types, dtype=bool)])
        self._fixed = np.column_stack([batch.fixed, np.zeros(batch.types)])
        self._solo = np.column_stack([batch.solo, np.ones(batch.types)])
        self._best_solo = np.append(batch.best_solo, 1.0)
        pad = np.zeros((batch.types, 1, batch.demand.shape[2]))
        self._demand = np.concatenate([batch.demand, pad], axis=1)
        self.has_slo = bool(np.isfinite(batch.slo).any())
        self.company_matters = batch.instance.interference.kind != "none"
        self._least: dict[int, Floats] = {}
        self._pairs: dict[int, tuple[Floats, Floats, Floats] | None] = {}
        self._any_apart = bool(batch.apart.any())
        self._apart = np.zeros((batch.kinds + 1, batch.kinds + 1), dtype=bool)
        self._apart[:-1, :-1] = batch.apart

    def cost(self, t: int, groups: Groups) -> Floats:
        """Return the cost (n,) of each of the `groups` (n, width) on a VM of type `t`."""
        result = np.full(len(groups), np.inf)
        for begin in range(0, len(groups), CHUNK):
            part = groups[begin : begin + CHUNK]
            rows = np.flatnonzero(self.fits(t, part))
            if len(rows):
                result[begin + rows] = self.service_cost(t, part[rows])
        return result

    def fits(self, t: int, groups: Groups) -> NDArray[np.bool_]:
        """Return which `groups` respect capacity, degree, admission and apart rules (n,).

        A group that does not fit has no larger group that does.
        """
        batch = self.batch
        used = self._demand[t][groups].sum(axis=1)
        ok: NDArray[np.bool_] = (used <= batch.capacity[t] + TOLERANCE).all(axis=1)
        ok &= (groups >= 0).sum(axis=1) <= batch.max_models[t]
        ok &= self._allowed[t][groups].all(axis=1)
        if self._any_apart:
            width = groups.shape[1]
            for i in range(width):
                for j in range(i + 1, width):
                    ok &= ~self._apart[groups[:, i], groups[:, j]]
        return ok

    def service_cost(self, t: int, groups: Groups) -> Floats:
        """Return the cost (n,) of `groups` that are known to fit on a VM of type `t`."""
        if len(groups) > CHUNK:
            parts = [groups[i : i + CHUNK] for i in range(0, len(groups), CHUNK)]
            return np.concatenate([self.service_cost(t, part) for part in parts])
        interference = self.batch.interference
        slowdown = interference.slowdown(t, groups)
        upper = interference.upper(t, groups, slowdown) if self.has_slo else slowdown
        return self._together(t, groups, slowdown, upper)

    def cost_and_floor(self, t: int, groups: Groups, more: int) -> tuple[Floats, Floats, Floats]:
        """Return cost (n,), a floor of cost (n,), and floors of slowdowns (n, width).

        The floors hold in every group made of one of `groups`, which are known to fit, by adding
        at most `more` replicas; what those cost themselves is not in them.
        """
        interference = self.batch.interference
        slowdown = interference.slowdown(t, groups)
        upper = interference.upper(t, groups, slowdown) if self.has_slo else slowdown
        cost = self._together(t, groups, slowdown, upper)
        left = np.full(len(groups), more)
        floor = interference.floor(t, groups, left, slowdown)
        least = interference.upper_floor(t, groups, left, upper) if self.has_slo else floor
        if floor is slowdown and least is upper:
            return cost, cost, floor
        return cost, self._together(t, groups, floor, least), floor

    def _together(self, t: int, groups: Groups, slowdown: Floats, upper: Floats) -> Floats:
        """Return the cost (n,) at these slowdowns, infinite where one is unknown."""
        own = self.member_cost(t, groups, slowdown, upper)
        cost: Floats = self._objective.price * self.batch.price[t] + own.sum(axis=1)
        cost[np.isnan(slowdown).any(axis=1, where=groups >= 0)] = np.inf
        return cost

    def least_member_cost(self, t: int) -> Floats:
        """Return a proven lower bound of what a replica of each kind costs on type `t` (K,).

        It holds in every group of that type, the VM's price left out; infinite where a replica
        of the kind can be in none.
        """
        if t not in self._least:
            self._least[t] = self._least_member_cost(t)
        return self._least[t]

    def _least_member_cost(self, t: int) -> Floats:
        batch = self.batch
        singles = np.arange(batch.kinds, dtype=np.int32)[:, None]
        more = np.full(batch.kinds, most_members(batch, t) - 1)
        slowdown = batch.interference.floor(t, singles, more)
        upper = batch.interference.upper_floor(t, singles, more)
        listed = batch.interference.listed(t)
        if listed is not None and len(listed):
            values = batch.interference.slowdown(t, listed)
            for kind in range(batch.kinds):
                own = values[listed == kind]
                if len(own):
                    slowdown[kind] = min(slowdown[kind, 0], own.min())
                    upper[kind] = min(upper[kind, 0], own.min())
        least: Floats = self.member_cost(t, singles, slowdown, upper)[:, 0]
        fits = batch.allowed[t] & (batch.demand[t] <= batch.capacity[t] + TOLERANCE).all(axis=1)
        least[~fits | np.isnan(least)] = np.inf
        return least

    def pair_costs(self, t: int) -> tuple[Floats, Floats, Floats] | None:
        """Return what pairs cost on VM type `t` where costs are sums over them, None elsewhere.

        by_pair (K + 1, K): of a kind that joins (column) a member (row), infinite where the two
        may not meet; base (K,): of a lone replica; help (K,): the most that a co-runner takes off
        its cost.
        """
        if t not in self._pairs:
            self._pairs[t] = self._pair_costs(t)
        return self._pairs[t]

    def _pair_costs(self, t: int) -> tuple[Floats, Floats, Floats] | None:
        found = self.batch.interference.pair_sum(t)
        if found is None:
            return None
        effect, best = found
        price = self.slowdown_price(t)
        joins = price * effect[:-1].T
        rises = (effect[:, :-1] - best[:, None]) * np.append(price, 0.0)[:, None]
        by_pair = joins + rises
        by_pair[np.isnan(by_pair)] = np.inf
        by_pair[-1] = 0.0
        return by_pair, self.lone_cost(t), price * best[:-1]

    def lone_cost(self, t: int) -> Floats:
        """Return what a lone replica of each kind costs on type `t` (K,), the VM's price left out.

        Its slowdown is taken as 1. Its SLO counts as kept: company that helps may yet see to that.
        """
        every = np.arange(self.batch.kinds, dtype=np.int32)[:, None]
        return self.member_cost(t, every, np.ones(every.shape), np.zeros(every.shape))[:, 0]

    def slowdown_price(self, t: int) -> Floats:
        """Return what each unit of slowdown of a replica of each kind costs on type `t` (K,)."""
        objective, batch = self._objective, self.batch
        each = np.full(batch.kinds, objective.degradation)
        if objective.latency > 0:
            ratio = batch.solo[t] / batch.best_solo
            each = each + objective.latency * np.where(np.isfinite(ratio), ratio, 0.0)
        result: Floats = batch.weight * each
        return result

    def member_cost(self, t: int, groups: Groups, slowdown: Floats, upper: Floats) -> Floats:
        """Return what each member adds to its group's cost at these slowdowns (n, width).

        It never falls as a slowdown rises, so slowdowns that are bounds from below give costs
        that are bounds from below. The price of the VM itself is not in it.
        """
        objective, member = self._objective, groups >= 0
        weight = self._weight[groups]
        own = objective.price * self._fixed[t][groups]
        own = own + objective.degradation * weight * (slowdown - 1.0)
        if objective.latency > 0:
            ratio = self._solo[t][groups] / self._best_solo[groups]
            own += objective.latency * weight * (ratio * slowdown - 1.0)
        if self.has_slo:
            late = self._solo[t][groups] * upper > self._slo[groups] + TOLERANCE
            if objective.slo_penalty is None:
                own[late & member] = np.inf
            else:
                own += objective.slo_penalty * weight * late
        return np.where(member, own, 0.0)


def most_members(batch: Batch, t: int) -> int:
    """Return a limit on how many replicas one VM of type `t` can hold."""
    possible = batch.allowed[t] & (batch.replicas > 0)
    limit = min(int(batch.max_models[t]), batch.total_replicas)
    if possible.any():
        replicas = np.minimum(batch.replicas[possible], limit)
        for capacity, amount in zip(batch.capacity[t], batch.demand[t][possible].T, strict=True):
            if np.isfinite(capacity):
                limit = min(limit, _most_of_smallest(amount, replicas, capacity + TOLERANCE))
    return max(1, limit)


def _most_of_smallest(amount: Floats, replicas: NDArray[np.int64], room: float) -> int:
    """Return how many replicas that take the least `amount` (n,) go into `room` together."""
    order = np.argsort(amount, kind="stable")
    amount, replicas = amount[order], replicas[order]
    before = np.concatenate([[0.0], np.cumsum(amount * replicas)])
    full = int(np.searchsorted(before, room, side="right")) - 1
    if full >= len(amount):
        return int(replicas.sum())
    rest = int((room - before[full]) // amount[full]) if amount[full] > 0 else int(replicas[full])
    return int(replicas[:full].sum()) + min(rest, int(replicas[full]))
