"""Why replicas are left out: the nearest VM type, and what stopped them there."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from placer.explain.alone import obstacle
from placer.explain.words import listing, number
from placer.problem import TOLERANCE
from placer.solvers.run import Run, State, rows_of, state_costs

WORK_LIMIT = 400_000
"""Groups that are costed at the most, over all kinds that are left out."""

LEAST_STATES = 50


@dataclass(frozen=True)
class Blocked:
    """What stopped a kind on one VM type; the least `rank` and `shortfall` is the nearest."""

    rank: int
    shortfall: float
    text: str


def explain_unplaced(run: Run, missing: NDArray[np.int64]) -> dict[int, str]:
    """Return, for each kind of which `missing` (K,) replicas are left out, the reason in words."""
    kinds = [int(k) for k in np.flatnonzero(missing > 0)]
    if not kinds or run.best is None:
        return {}
    fleet = _Fleet(run, len(kinds))
    return {k: fleet.reason(k) for k in kinds}


class _Fleet:
    """The VMs of the run's best assignment, as hosts for one more replica."""

    def __init__(self, run: Run, asked: int) -> None:
        self._run, self._batch = run, run.batch
        assert run.best is not None
        self._best = run.best
        self._used: Counter[int] = Counter()
        for (t, _), count in self._best.items():
            self._used[t] += count
        limit = max(LEAST_STATES, WORK_LIMIT // asked)
        by_load = sorted(self._best, key=lambda state: len(state[1]))[:limit]
        self._states: dict[int, list[State]] = {}
        for state in by_load:
            self._states.setdefault(state[0], []).append(state)
        self._cost = dict(zip(by_load, state_costs(run.costs, by_load), strict=True))

    def reason(self, k: int) -> str:
        """Return what stopped one more replica of kind `k` on the nearest VM type."""
        options = sorted(self._growths(k))
        for growth, t, host in options:
            if self._keeps_company(k, host):
                return self._price(k, growth, t, host)
        if options:
            return self._company_lost(k, options[0][1])
        blocked = [self._blocked(k, t) for t in range(self._batch.types)]
        nearest = min(blocked, key=lambda b: (b.rank, b.shortfall))
        return nearest.text

    def _growths(self, k: int) -> list[tuple[float, int, State]]:
        """Return growth of the objective, type and content to join (empty: a new VM)."""
        found: list[tuple[float, int, State]] = []
        for t in range(self._batch.types):
            if not self._batch.allowed[t, k]:
                continue
            hosts = [*self._states.get(t, []), *([(t, ())] if self._may_open(t) else [])]
            if not hosts:
                continue
            cost = self._run.costs.cost(t, self._joined(hosts, k))
            growth = cost - np.array([self._cost.get(host, 0.0) for host in hosts])
            i = int(np.argmin(growth))
            if math.isfinite(growth[i]):
                found.append((float(growth[i]), t, hosts[i]))
        return found

    def _joined(self, hosts: list[State], k: int) -> NDArray[np.int32]:
        return rows_of([tuple(sorted((*group, k))) for _, group in hosts])

    def _may_open(self, t: int) -> bool:
        return self._closed_by(t) == ""

    def _closed_by(self, t: int) -> str:
        """Return the limit that keeps another VM of type `t` from being opened, "" for none."""
        batch = self._batch
        name = batch.instance.vm_types[t].name
        if self._used[t] >= batch.count[t]:
            if batch.count[t] == 1:
                return f"the one {name!r} that vm_types[{t}].count allows is in use"
            return f"all {batch.count[t]} of {name!r} that vm_types[{t}].count allows are in use"
        if sum(self._used.values()) >= batch.max_vms:
            return f"all {batch.max_vms} VMs that rules.max_vms allows are in use"
        spent = math.fsum(float(batch.price[u]) * n for u, n in self._used.items())
        if spent + batch.price[t] > batch.max_price + TOLERANCE:
            return (
                f"another {name!r} at {number(float(batch.price[t]))} would break rules.max_price "
                f"{number(batch.max_price)}, of which {number(spent)} is spent"
            )
        return ""

    def _price(self, k: int, growth: float, t: int, host: State) -> str:
        """Say what placing the replica costs, where it could be placed."""
        name, unplaced = self._batch.instance.vm_types[t].name, self._batch.unplaced_cost
        penalty = 0.0 if unplaced is None else float(unplaced[k])
        where = f"on a VM of type {name!r} in use" if host[1] else f"on a new VM of type {name!r}"
        cost = f"placing it {where} would add {number(growth)}, its penalty is {number(penalty)}"
        if growth < penalty - 1e-9 * max(1.0, penalty):
            return f"{cost}; the search stopped before it did so"
        return cost

    def _company_lost(self, k: int, t: int) -> str:
        instance = self._batch.instance
        rules = [
            f"rules.together[{r}] ({listing(names)})"
            for r, names in enumerate(instance.rules.together)
            if instance.models[k].name in names
        ]
        name = instance.vm_types[t].name
        return f"there is room on {name!r}, but {listing(rules)} would not be kept"

    def _keeps_company(self, k: int, host: State) -> bool:
        changed = Counter(self._best)
        if host[1]:
            changed[host] -= 1
        changed[host[0], tuple(sorted((*host[1], k)))] += 1
        return self._run.objective_of(changed) is not None

    def _blocked(self, k: int, t: int) -> Blocked:
        """Return what stopped kind `k` on type `t`, where no VM of it can take the replica."""
        batch = self._batch
        name = batch.instance.vm_types[t].name
        alone = obstacle(self._run.costs, k, t)
        if alone is not None:
            rank = 5 if alone.code == "vm_types" else 3 if math.isfinite(alone.shortfall) else 4
            return Blocked(rank, alone.shortfall, f"on {name!r}: {alone.text}")
        closed = self._closed_by(t)
        states = self._states.get(t, [])
        if not states:
            return Blocked(2, 0.0, closed)
        stopped = min(
            (self._stopped(k, state) for state in states), key=lambda b: (b.rank, b.shortfall)
        )
        return Blocked(stopped.rank, stopped.shortfall, f"{closed}, and {stopped.text}")

    def _stopped(self, k: int, state: State) -> Blocked:
        """Return why a VM in use cannot take the replica, what is least far from fitting first."""
        batch, (t, group) = self._batch, state
        vm_type = batch.instance.vm_types[t]
        demand, capacity = batch.demand[t], batch.capacity[t]
        free = capacity - demand[list(group)].sum(axis=0)
        short = (demand[k] - free) / np.maximum(capacity, TOLERANCE)
        if (demand[k] > free + TOLERANCE).any():
            r = int(np.argmax(short))
            resource = sorted({r for v in batch.instance.vm_types for r in v.capacity})[r]
            left = number(max(0.0, float(free[r])), 4)
            need = number(float(demand[k, r]), 4)
            text = f"at most {left} {resource} is left on one, the replica takes {need}"
            return Blocked(1, float(short[r]), text)
        if len(group) >= batch.max_models[t]:
            return Blocked(1, 0.0, f"each holds the {vm_type.max_models} replicas it may hold")
        for other in group:
            if batch.apart[k, other]:
                rival = batch.instance.models[other].name
                return Blocked(0, 0.0, f"a rules.apart list keeps it from sharing with {rival!r}")
        return self._company(k, state)

    def _company(self, k: int, state: State) -> Blocked:
        """Return the SLO that would be missed, or that the group may not be formed."""
        batch, t = self._batch, state[0]
        row = self._joined([state], k)
        upper = batch.interference.upper(t, row)[0]
        models = batch.instance.models
        if np.isnan(upper).any():
            group = ", ".join(models[m].name for m in row[0])
            return Blocked(0, 2.0, f"the group {group} is not listed, so it may not be formed")
        late = [
            (float(batch.solo[t, m] * upper[i] / batch.slo[m]), i, int(m))
            for i, m in enumerate(row[0])
            if np.isfinite(batch.slo[m])
        ]
        ratio, i, m = max(late)
        takes = number(float(batch.solo[t, m] * upper[i]), 4)
        text = (
            f"beside those there, {models[m].name!r} would take {takes} ms, "
            f"models[{m}].slo_ms is {number(models[m].slo_ms)}"
        )
        return Blocked(0, ratio - 1.0, text)
