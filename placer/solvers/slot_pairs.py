"""The textbook assignment model: replicas to slots, with linearised products of pairs.

Variables, all 0-1: y[s] slot s is in use; x[r, s] replica r is on it; u[r] it is not placed;
z[p, s] both replicas of pair p are on s, where their company matters; late[r] it misses its SLO;
met[rule, s] s holds what a together rule lists.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from placer.errors import UsageError
from placer.problem import TOLERANCE
from placer.solvers.batch import UNLIMITED, Batch
from placer.solvers.integer_program import IntegerProgram
from placer.solvers.pair_effects import PairEffects
from placer.solvers.program_builder import ProgramBuilder
from placer.solvers.run import Assignment, Run, State, holds

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NONZERO_LIMIT = 5_000_000


class SlotPairs:
    """Replicas on slots, for batches whose slowdowns are sums over pairs.

    A type has as many slots as it could have VMs in use. Slots of a type are alike, and so are
    the replicas of a kind: used slots come first, in the order of the first replica on them, and
    replicas of a kind in the order of their slots. Every assignment can be written so: order the
    slots by their least kind, then number each kind's replicas slot by slot.
    Raises UsageError where there would be more than NONZERO_LIMIT non-zeros.
    """

    def __init__(self, run: Run) -> None:
        self._batch = batch = run.batch
        slots = batch.vms_possible()
        self._effects = effects = PairEffects(batch)
        _check_size(batch, effects, slots)
        self._kind = np.repeat(np.arange(batch.kinds), batch.replicas)
        self._type = np.repeat(np.arange(batch.types), slots)
        self._builder = builder = ProgramBuilder()
        weight = batch.instance.objective.price
        self._used = builder.add_variables(weight * batch.price[self._type])
        self._on = self._add_placements()
        unplaced = batch.unplaced_cost
        self._unplaced = None if unplaced is None else builder.add_variables(unplaced[self._kind])
        self._pairs: list[tuple[Ints, Ints, Ints, Ints]] = []
        self._late = self._add_late()
        self._add_cover()
        self._add_slots()
        for t in range(batch.types):
            self._add_company(t)
        self._add_limits()
        self._met = [self._add_together(rule) for rule in batch.together]

    def program(self, best: Assignment | None = None) -> IntegerProgram:
        """Return the integer program, begun from `best` where it is given."""
        return self._builder.build(None if best is None else self._start(best))

    def assignment(self, values: Ints) -> dict[State, int]:
        """Return the assignment that `values` of the program's variables stand for."""
        on = np.where(self._on >= 0, values[self._on], 0)
        used: dict[State, int] = {}
        for slot in range(len(self._type)):
            group = tuple(self._kind[on[:, slot] > 0].tolist())
            if group:
                state = (int(self._type[slot]), group)
                used[state] = used.get(state, 0) + 1
        return used

    def _add_placements(self) -> Ints:
        """Add x and return its numbers (N, S), -1 where a replica does not come to be.

        Slots of a type stand in the order of the first replica on them, so the one numbered j
        (from 0) holds none of the first j replicas that may run on that type.
        """
        cost: Floats = self._effects.own_cost[self._type][:, self._kind].T
        on = np.full(cost.shape, -1, dtype=np.int64)
        may: NDArray[np.bool_] = np.isfinite(cost)
        number = np.arange(len(self._type)) - np.searchsorted(self._type, self._type)
        may &= np.cumsum(may, axis=0) > number
        on[may] = self._builder.add_variables(cost[may])
        return on

    def _add_late(self) -> Ints | None:
        """Add late[r] (N,) where missing an SLO has a price; -1 where there is no SLO."""
        penalty = self._batch.instance.objective.slo_penalty
        if penalty is None:
            return None
        late = np.full(len(self._kind), -1, dtype=np.int64)
        binds: NDArray[np.bool_] = np.any(self._effects.slo_binds, axis=0)
        bound = binds[self._kind]
        late[bound] = self._builder.add_variables(penalty * self._batch.weight[self._kind[bound]])
        return late

    def _add_cover(self) -> None:
        """Each replica is on one slot or unplaced; those of a kind in the order of their slots."""
        terms, position = self._on, np.arange(1.0, len(self._type) + 1)
        if self._unplaced is not None:
            terms = np.column_stack([terms, self._unplaced])
            position = np.append(position, len(self._type) + 1.0)
        self._builder.add_rows(terms, 1.0, 1.0, 1.0)
        same = self._kind[1:] == self._kind[:-1]
        neighbours = np.hstack([terms[:-1][same], terms[1:][same]])
        self._builder.add_rows(neighbours, np.concatenate([position, -position]), upper=0.0)

    def _add_slots(self) -> None:
        """Capacity, degree, and used slots first."""
        batch, builder = self._batch, self._builder
        for slot, t in enumerate(self._type.tolist()):
            used, on = self._used[slot], self._on[:, slot]
            on = on[on >= 0]
            kinds = self._kind[self._on[:, slot] >= 0]
            builder.add_rows(np.column_stack([on, np.full(len(on), used)]), [1.0, -1.0], upper=0.0)
            terms = np.append(on, used)[None, :]
            if batch.max_models[t] < len(on):
                builder.add_rows(terms, _ones_less(len(on), batch.max_models[t]), upper=0.0)
            demand = batch.demand[t][kinds]
            for resource, capacity in enumerate(batch.capacity[t].tolist()):
                if demand[:, resource].sum() > capacity:
                    values = np.append(demand[:, resource], -capacity)
                    builder.add_rows(terms, values, upper=TOLERANCE)
        alike = np.flatnonzero(self._type[1:] == self._type[:-1])
        order = np.column_stack([self._used[alike], self._used[alike + 1]])
        builder.add_rows(order, [1.0, -1.0], lower=0.0)

    def _add_company(self, t: int) -> None:
        """What pairs cost and forbid on slots of type `t`, and SLOs there."""
        effects, builder = self._effects, self._builder
        slots = np.flatnonzero(self._type == t)
        able = np.flatnonzero(np.isfinite(effects.own_cost[t][self._kind]))
        if not len(slots) or not len(able):
            return
        i, j = (able[index] for index in np.triu_indices(len(able), 1))
        kinds = self._kind[i], self._kind[j]
        first, second = self._on[i][:, slots], self._on[j][:, slots]
        meet = (first >= 0) & (second >= 0)
        used = np.broadcast_to(self._used[slots], first.shape)
        banned = effects.banned[t][kinds][:, None] & meet
        builder.add_rows(_lines(banned, first, second, used), [1.0, 1.0, -1.0], upper=0.0)
        floor = effects.lower[t][kinds][:, None] & meet
        cap = effects.upper[t][kinds][:, None] & meet
        both = np.full(first.shape, -1, dtype=np.int64)
        cost = np.broadcast_to(effects.pair_cost[t][kinds][:, None], first.shape)
        both[floor | cap] = builder.add_variables(cost[floor | cap])
        builder.add_rows(_lines(floor, first, second, both), [1.0, 1.0, -1.0], upper=1.0)
        builder.add_rows(_lines(cap, both, first), [1.0, -1.0], upper=0.0)
        builder.add_rows(_lines(cap, both, second), [1.0, -1.0], upper=0.0)
        self._pairs.append((i, j, slots, both))
        for replica in able[effects.slo_binds[t][self._kind[able]]].tolist():
            self._add_slo(t, replica, slots, i, j, both)

    def _add_slo(self, t: int, replica: int, slots: Ints, i: Ints, j: Ints, both: Ints) -> None:
        """Keep a replica's latency within its SLO on each slot of type `t`, or count it late.

        solo * sum of effects + (solo - slo) <= 0 where the replica is there; where it is not,
        each term is 0 or may be.
        """
        effects, kind = self._effects, int(self._kind[replica])
        company = np.flatnonzero((i == replica) | (j == replica))
        other = np.where(i[company] == replica, j[company], i[company])
        solo = float(self._batch.solo[t, kind])
        over = solo - float(self._batch.slo[kind]) - TOLERANCE
        values = np.append(solo * effects.effect[t][kind, self._kind[other]], over)
        terms = np.column_stack([both[company].T, self._on[replica, slots]])
        if self._late is not None:
            late = np.full(len(slots), self._late[replica])
            terms = np.column_stack([terms, late])
            values = np.append(values, -effects.worst_excess[t, kind])
        self._builder.add_rows(terms, values, upper=0.0)

    def _add_limits(self) -> None:
        batch = self._batch
        if batch.max_vms < UNLIMITED:
            self._builder.add_rows(self._used[None, :], 1.0, upper=float(batch.max_vms))
        if np.isfinite(batch.max_price):
            limit = batch.max_price + TOLERANCE
            self._builder.add_rows(self._used[None, :], batch.price[self._type], upper=limit)

    def _add_together(self, rule: Ints) -> Ints:
        """A rule's VM there must be where any replica of the rule's kinds is placed."""
        builder = self._builder
        met = builder.add_variables(np.zeros(len(self._type)))
        for kind in np.flatnonzero(rule):
            members = np.flatnonzero(self._kind == kind)
            terms = np.column_stack([self._on[members].T, met])
            values = np.append(np.ones(len(members)), -float(rule[kind]))
            builder.add_rows(terms, values, lower=0.0)
        listed = np.flatnonzero(rule[self._kind] > 0)
        rows = np.tile(met, (len(listed), 1))
        if self._unplaced is not None:
            rows = np.column_stack([rows, self._unplaced[listed]])
        builder.add_rows(rows if self._unplaced is not None else rows[:1], 1.0, lower=1.0)
        return met

    def _start(self, best: Assignment) -> Floats:
        """Return `best` as values of the variables."""
        values = np.zeros(self._builder.variables)
        on = np.zeros(self._on.shape, dtype=bool)
        waiting = [np.flatnonzero(self._kind == k).tolist() for k in range(self._batch.kinds)]
        next_slot = np.searchsorted(self._type, np.arange(self._batch.types))
        for (t, group), count in sorted(best.items()):
            for _ in range(count):
                for kind in group:
                    on[waiting[kind].pop(0), next_slot[t]] = True
                values[self._used[next_slot[t]]] = 1.0
                for rule, met in zip(self._batch.together, self._met, strict=True):
                    values[met[next_slot[t]]] = holds(group, rule)
                next_slot[t] += 1
        values[self._on[on]] = 1.0
        if self._unplaced is not None:
            values[self._unplaced] = ~on.any(axis=1)
        for i, j, slots, both in self._pairs:
            together = on[i][:, slots] & on[j][:, slots]
            values[both[both >= 0]] = together[both >= 0]
        if self._late is not None:
            self._mark_late(values, on)
        return values

    def _mark_late(self, values: Floats, on: NDArray[np.bool_]) -> None:
        assert self._late is not None
        batch = self._batch
        for replica in np.flatnonzero(self._late >= 0).tolist():
            for slot in np.flatnonzero(on[replica]).tolist():
                t, kind = int(self._type[slot]), int(self._kind[replica])
                company = self._kind[on[:, slot] & (np.arange(len(on)) != replica)]
                slowdown = 1.0 + self._effects.effect[t][kind, company].sum()
                late = batch.solo[t, kind] * slowdown > batch.slo[kind] + TOLERANCE
                values[self._late[replica]] = late


def _lines(chosen: NDArray[np.bool_], *columns: Ints) -> Ints:
    """Return the chosen places of arrays of one shape, a line each (m, len(columns))."""
    return np.column_stack([column[chosen] for column in columns])


def _ones_less(ones: int, last: int | np.int64) -> Floats:
    return np.append(np.ones(ones), -float(last))


def _check_size(batch: Batch, effects: PairEffects, slots: Ints) -> None:
    """Count the non-zeros before anything is built. Raises UsageError."""
    n, every = float(batch.total_replicas), float(slots.sum())
    entries = n * every * (4.0 + batch.capacity.shape[1])
    couples = np.outer(batch.replicas, batch.replicas).astype(float) / 2
    for t in range(batch.types):
        weight = 3.0 * effects.lower[t] + 4.0 * effects.upper[t] + 3.0 * effects.banned[t]
        late = effects.slo_binds[t].astype(float) @ batch.replicas
        entries += float(slots[t]) * (float((couples * weight).sum()) + late * n)
    if entries > NONZERO_LIMIT:
        raise UsageError(
            f"the direct model of {batch.total_replicas:,} replicas would have about "
            f"{entries:,.0f} non-zeros, more than {NONZERO_LIMIT:,}: it is for small batches, "
            "use another solver"
        )
