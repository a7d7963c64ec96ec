"""The direct model where slowdowns are no sum of pairs: each slot holds one of the groups."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from placer.errors import UsageError
from placer.problem import TOLERANCE
from placer.solvers.batch import UNLIMITED
from placer.solvers.integer_program import IntegerProgram
from placer.solvers.program_builder import ProgramBuilder
from placer.solvers.run import Assignment, Run, State, holds

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Groups = NDArray[np.int32]

CHOICE_LIMIT = 200_000
"""The most choices of a group for a slot that the model may have."""


GROWTH_LIMIT = 5_000_000
"""The most groups that one step of growth may look at."""


class SlotGroups:
    """One choice w[s, g] for each slot s and each group g that its VM type may hold.

    A kind's replicas in a slot are the sum over g of how many g has of it, so no variable of
    their own is needed. Slots of a type are alike: a later one holds no group of a higher number.
    Raises UsageError where there are more than CHOICE_LIMIT choices.
    """

    def __init__(self, run: Run) -> None:
        self._batch = batch = run.batch
        self._slots = batch.vms_possible()
        self._states: list[list[State]] = []
        self._choice: list[Ints] = []
        self._builder = ProgramBuilder()
        self._held: list[Ints] = []
        left = CHOICE_LIMIT
        for t in range(batch.types):
            groups = _groups_of_type(run, t, left // max(1, int(self._slots[t])))
            cost = run.costs.cost(t, groups)
            groups, cost = groups[np.isfinite(cost)], cost[np.isfinite(cost)]
            left -= len(groups) * int(self._slots[t])
            if left < 0:
                raise _too_many()
            self._states.append([(t, tuple(row[row >= 0].tolist())) for row in groups])
            self._held.append(_counts(groups, batch.kinds))
            costs = np.tile(cost, (int(self._slots[t]), 1))
            self._choice.append(self._builder.add_variables(costs))
        unplaced = batch.unplaced_cost
        self._unplaced = (
            None
            if unplaced is None
            else self._builder.add_variables(unplaced, batch.replicas.astype(float))
        )
        self._add_slots()
        self._add_cover()
        self._add_limits()
        self._add_together()

    def program(self, best: Assignment | None = None) -> IntegerProgram:
        """Return the integer program, begun from `best` where it is given."""
        return self._builder.build(None if best is None else self._start(best))

    def assignment(self, values: Ints) -> dict[State, int]:
        """Return the assignment that `values` of the program's variables stand for."""
        used: dict[State, int] = {}
        for states, choice in zip(self._states, self._choice, strict=True):
            for g, count in enumerate(values[choice].sum(axis=0).tolist()):
                if count:
                    used[states[g]] = int(count)
        return used

    def _add_slots(self) -> None:
        """At most one group a slot, in falling order over the slots of a type."""
        for choice in self._choice:
            groups = choice.shape[1]
            if not groups:
                continue
            self._builder.add_rows(choice, 1.0, upper=1.0)
            rank = np.arange(1.0, groups + 1)
            pairs = np.hstack([choice[:-1], choice[1:]])
            self._builder.add_rows(pairs, np.concatenate([rank, -rank]), lower=0.0)

    def _add_cover(self) -> None:
        """Each kind's replicas are placed, or unplaced where that is allowed."""
        for kind in range(self._batch.kinds):
            parts = [c.reshape(-1) for c in self._choice]
            held = [
                np.tile(h[:, kind], len(c)) for h, c in zip(self._held, self._choice, strict=True)
            ]
            if self._unplaced is not None:
                parts.append(self._unplaced[kind : kind + 1])
                held.append(np.ones(1, dtype=np.int64))
            needed = float(self._batch.replicas[kind])
            self._builder.add_rows(
                np.concatenate(parts)[None, :], np.concatenate(held), needed, needed
            )

    def _add_limits(self) -> None:
        batch = self._batch
        every = np.concatenate([c.reshape(-1) for c in self._choice])[None, :]
        price = np.concatenate(
            [np.full(c.size, batch.price[t]) for t, c in enumerate(self._choice)]
        )
        if batch.max_vms < UNLIMITED:
            self._builder.add_rows(every, 1.0, upper=float(batch.max_vms))
        if np.isfinite(batch.max_price):
            self._builder.add_rows(every, price, upper=batch.max_price + TOLERANCE)

    def _add_together(self) -> None:
        """A rule's VM there must be where any replica of the rule's kinds is placed."""
        batch = self._batch
        for rule in batch.together:
            company = [
                choice[:, [holds(group, rule) for _, group in states]].reshape(-1)
                for states, choice in zip(self._states, self._choice, strict=True)
            ]
            chosen = np.concatenate(company)
            for kind in np.flatnonzero((rule > 0) & (batch.replicas > 0)):
                needed = float(batch.replicas[kind])
                if self._unplaced is None:
                    self._builder.add_rows(chosen[None, :], 1.0, lower=1.0)
                    break
                terms = np.append(chosen, self._unplaced[kind])[None, :]
                values = np.append(np.full(len(chosen), needed), 1.0)
                self._builder.add_rows(terms, values, lower=needed)

    def _start(self, best: Assignment) -> Floats | None:
        """Return `best` as values of the variables; None where it holds a group not listed."""
        values = np.zeros(self._builder.variables)
        left = self._batch.replicas.astype(float)
        for t, states in enumerate(self._states):
            number = {state: g for g, state in enumerate(states)}
            own = [(state, count) for state, count in best.items() if state[0] == t]
            if any(state not in number for state, _ in own):
                return None
            chosen = sorted(
                (number[state] for state, n in own for _ in range(n)),
                reverse=True,
            )
            for slot, g in enumerate(chosen):
                values[self._choice[t][slot, g]] = 1.0
                left -= self._held[t][g]
        if self._unplaced is not None:
            values[self._unplaced] = left
        return values


def _too_many() -> UsageError:
    return UsageError(
        f"the direct model would have more than {CHOICE_LIMIT:,} choices of a group for a VM: it "
        "is for small batches, use another solver"
    )


def _groups_of_type(run: Run, t: int, limit: int) -> Groups:
    """Return every group that fits on a VM of type `t` (n, width), rows padded with -1."""
    batch = run.batch
    levels = [_singles(run, t)]
    listed = batch.interference.listed(t)
    if batch.interference.only_listed() and listed is not None:
        levels.append(_fitting(run, t, listed[(listed >= 0).sum(axis=1) > 1]))
        return _padded(levels)
    total = 0
    while len(levels[-1]):
        total += len(levels[-1])
        if total > limit or len(levels[-1]) * len(levels[0]) > GROWTH_LIMIT:
            raise _too_many()
        levels.append(_grown(run, t, levels[-1], levels[0][:, 0]))
    return _padded(levels)


def _singles(run: Run, t: int) -> Groups:
    if not run.batch.vms_possible()[t]:
        return np.zeros((0, 1), dtype=np.int32)
    return _fitting(run, t, np.arange(run.batch.kinds, dtype=np.int32)[:, None])


def _grown(run: Run, t: int, groups: Groups, kinds: Groups) -> Groups:
    """Return every group made of one of `groups` by adding a last member of `kinds`."""
    first = np.repeat(groups, len(kinds), axis=0)
    last = np.tile(kinds, len(groups))
    ordered = last >= first[:, -1]
    return _fitting(run, t, np.column_stack([first[ordered], last[ordered]]))


def _fitting(run: Run, t: int, groups: Groups) -> Groups:
    """Return the `groups` that fit on type `t` and for which there are replicas enough."""
    enough = (_counts(groups, run.batch.kinds) <= run.batch.replicas).all(axis=1)
    groups = groups[enough]
    return groups[run.costs.fits(t, groups)] if len(groups) else groups


def _counts(groups: Groups, kinds: int) -> Ints:
    """Return how many of each kind each group has (n, K)."""
    counts = np.zeros((len(groups), kinds + 1), dtype=np.int64)
    for member in groups.T:
        counts[np.arange(len(groups)), member] += 1
    return counts[:, :kinds]


def _padded(levels: list[Groups]) -> Groups:
    width = max(level.shape[1] for level in levels)
    return np.concatenate(
        [
            np.pad(level, ((0, 0), (0, width - level.shape[1])), constant_values=-1)
            for level in levels
        ]
    )
