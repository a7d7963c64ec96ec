"""Greedy placement: one replica at a time, where the instance's objective grows least.

The policy is that of Mendoza et al. (EuroMLSys 2021, doi 10.1145/3437984.3458837), which weighs
the predicted degradation of the newcomer and of those already there, with the price of a VM that
has to be opened. VMs of equal content are handled together: while one content stays the best
host, as many replicas go there as it has VMs, so the work depends on the distinct contents.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from placer.interference.tables import Floats
from placer.solvers.batch import Batch
from placer.solvers.fleet import CostMemo, Fleet, Ints
from placer.solvers.run import Assignment, Run, State, replicas_placed, vms_used, within_limits

WORK_LIMIT = 2_000_000
"""Group costs after which no further try is begun: a limit that repeats exactly, unlike time."""

RANDOM_ORDERS = 6
FIRST_BLOCK, LARGEST_BLOCK = 4, 64
SCARCE = 1e6
DIGITS = 10
"""Digits after which growths count as equal, so that rounding does not pick the host."""


@dataclass(frozen=True)
class Plan:
    """One way to run greedy: the order of the kinds, and who pays for a new VM.

    `opening` is the part of a new VM's price charged to its first replica; the rest is charged to
    every replica by its share of the VM. At 1 greedy is as published; below, it opens sooner.
    `tight` opens a VM only where nothing else is left, and then the roomiest for its worth, for
    instances in which the number or the price of VMs is scarce.
    """

    order: Ints
    opening: float = 1.0
    tight: bool = False


class Greedy:
    """Offers the best of a few greedy placements: different shares of price, then other orders."""

    name = "greedy"
    exact = False

    def solve(self, run: Run) -> None:
        """Offer the best greedy placement found to `run`."""
        run.enter("greedy")
        best_greedy(run)


def best_greedy(run: Run, memo: CostMemo | None = None) -> Fleet:
    """Return the fleet of the best try, complete or not, after offering every complete one."""
    memo = memo or CostMemo(run.costs)
    best: tuple[tuple[float, float], Fleet] | None = None
    run.offer({})  # where leaving out is allowed, or nothing is asked for
    for plan, rescue in plans(run):
        if best is not None and (memo.rows > WORK_LIMIT or run.should_stop()):
            break
        if rescue and best is not None and best[0][0] == 0:
            break
        fleet = construct(run, plan, memo)
        key = _quality(fleet)
        if best is None or key < best[0]:
            best = (key, fleet)
            run.offer(fleet.assignment())
    assert best is not None
    return best[1]


def completed(run: Run, start: Assignment) -> bool:
    """Offer `start` with the replicas that it lacks placed greedily; return whether it was kept."""
    memo = CostMemo(run.costs)
    fleet = Fleet(run.batch, memo)
    placed, used = replicas_placed(run.batch, start), vms_used(run.batch, start)
    if (placed > run.batch.replicas).any() or not within_limits(run.batch, used):
        return False
    fleet.load(start)
    return run.offer(construct(run, Plan(by_size(run.batch)), memo, fleet).assignment())


def _quality(fleet: Fleet) -> tuple[float, float]:
    """Return replicas left out against the rules, and the objective: less is better."""
    penalty = fleet.batch.unplaced_cost
    if penalty is None:
        return float(fleet.remaining.sum()), fleet.total()
    return 0.0, fleet.total() + float(fleet.remaining @ penalty)


def plans(run: Run) -> Iterator[tuple[Plan, bool]]:
    """Yield plans to try; those marked True only help where the others left replicas out."""
    batch = run.batch
    published = Plan(by_size(batch))
    yield published, False
    if batch.price.any() and batch.instance.objective.price > 0:
        for opening in (0.6, 0.3, 0.0):
            yield replace(published, opening=opening), False
    yield replace(published, tight=True), True
    yield Plan(by_hosts(run)), True
    yield Plan(by_hosts(run), tight=True), True
    rng = np.random.default_rng(run.options.seed)
    for _ in range(RANDOM_ORDERS):
        yield Plan(rng.permutation(batch.kinds), tight=bool(rng.random() < 0.5)), True


def shares(batch: Batch) -> Floats:
    """Return the part of a VM that one replica takes, by its dominant resource or its slot (T, K).

    Infinite where the kind may not run.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = batch.demand / batch.capacity[:, None, :]
    parts = np.where(batch.demand > 0, parts, 0.0)
    slot = 1.0 / np.maximum(batch.max_models, 1)
    share = np.maximum(parts.max(axis=2, initial=0.0), slot[:, None])
    return np.where(batch.allowed, share, np.inf)


def by_size(batch: Batch) -> Ints:
    """Return the kinds, largest share of its best VM type first, then by weight."""
    return np.lexsort((-batch.weight, -shares(batch).min(axis=0)))


def by_hosts(run: Run) -> Ints:
    """Return the kinds, those with the fewest VM types that can host one alone first."""
    batch = run.batch
    alone = np.arange(batch.kinds, dtype=np.int32)[:, None]
    possible = [np.isfinite(run.costs.cost(t, alone)) for t in range(batch.types)]
    vms = np.where(np.array(possible), batch.vms_possible()[:, None], 0).sum(axis=0)
    return np.lexsort((-shares(batch).min(axis=0), vms))


def construct(run: Run, plan: Plan, memo: CostMemo, fleet: Fleet | None = None) -> Fleet:
    """Return `fleet`, or a new one, with every replica that is left placed by `plan` if it can."""
    fleet = fleet or Fleet(run.batch, memo)
    greedy = _Placing(fleet, plan)
    barred = greedy.place_units()
    for kind in plan.order.tolist():
        if kind in barred:
            continue
        greedy.place(kind)
        if run.should_stop():
            return fleet
    if fleet.remaining.any() and fleet.batch.unplaced_cost is None:
        for kind in plan.order.tolist():
            if kind not in barred and not run.should_stop():
                greedy.eject_for(kind)
    drop_dear_vms(fleet)
    return fleet


def barred_kinds(fleet: Fleet) -> set[int]:
    """Return the kinds that no VM may hold because a together rule of theirs has no VM."""
    held = fleet.held()
    barred: set[int] = set()
    for rule, vms in zip(fleet.batch.together, held.tolist(), strict=True):
        if vms == 0:
            barred.update(np.flatnonzero(rule).tolist())
    return barred


class _Placing:
    """Greedy steps on one fleet under one plan."""

    def __init__(self, fleet: Fleet, plan: Plan) -> None:
        self.fleet = fleet
        batch = fleet.batch
        price = batch.instance.objective.price * batch.price
        later = 1.0 - plan.opening
        self._discount = later * price
        share = np.where(batch.allowed, shares(batch), 0.0)
        self._charge = later * price[:, None] * share
        self._penalty = batch.unplaced_cost
        self._tight = plan.tight
        worth = batch.price[:, None] if np.isfinite(batch.max_price) else 1.0
        self._scarcity = SCARCE * (share * worth + share)

    def place(self, kind: int) -> None:
        """Place the replicas left of `kind`, those without a host or dearer than left out kept."""
        fleet = self.fleet
        limit = np.inf if self._penalty is None else float(self._penalty[kind])
        queue = self._queue(kind) if fleet.remaining[kind] > 0 else []
        while queue and fleet.remaining[kind] > 0:
            score, opens, row, cost = heapq.heappop(queue)
            vms = fleet.vms_of(row)
            if vms <= 0:
                continue
            if score >= limit and not self._tight:
                return
            left = int(fleet.remaining[kind])
            depth, cost, next_cost = self._stack(row, kind, cost, left)
            target = fleet.row(fleet.grown(row, [kind] * depth), cost)
            used = min(vms, left // depth)
            fleet.shift(row, target, used)
            if np.isfinite(next_cost):
                entry = (self._score(target, kind, next_cost), False, target, next_cost)
                heapq.heappush(queue, entry)
            if used < vms:
                first = float(fleet.cost_with(np.array([row]), (kind,))[0]) if depth > 1 else cost
                heapq.heappush(queue, (score, opens, row, first))

    def _queue(self, kind: int) -> list[tuple[float, bool, int, float]]:
        fleet = self.fleet
        rows = fleet.hosts()
        costs = fleet.cost_with(rows, (kind,))
        scores = self._scores(rows, kind, costs)
        opens = fleet.degree[rows] == 0
        found = np.flatnonzero(np.isfinite(costs))
        enough = int(fleet.remaining[kind]) + fleet.batch.types
        if len(found) > enough:  # no more than one host a replica can ever be taken from the queue
            found = found[np.lexsort((opens[found], scores[found]))[:enough]]
        queue = [(float(scores[i]), bool(opens[i]), int(rows[i]), float(costs[i])) for i in found]
        heapq.heapify(queue)
        return queue

    def _scores(self, rows: Ints, kind: int, costs: Floats) -> Floats:
        fleet = self.fleet
        types, empty = fleet.type_of[rows], fleet.degree[rows] == 0
        growth = costs - fleet.cost[rows] - self._discount[types] * empty
        if self._tight:
            growth += self._scarcity[types, kind] * empty
        return np.round(growth + self._charge[types, kind], DIGITS)

    def _score(self, row: int, kind: int, cost: float) -> float:
        return float(self._scores(np.array([row]), kind, np.array([cost]))[0])

    def _stack(self, row: int, kind: int, cost: float, left: int) -> tuple[int, float, float]:
        """Return how many replicas in a row a VM of `row` takes, its cost then, and with one more.

        The next replica stays on the same VM as long as that grows the cost no more than the
        first did: no other host can be better by then.
        """
        fleet = self.fleet
        limit = min(left + 1, fleet.most(row, kind))
        t = int(fleet.type_of[row])
        opening = self._discount[t] if fleet.degree[row] == 0 else 0.0
        first = round(cost - float(fleet.cost[row]) - opening, DIGITS)
        if self._tight and fleet.degree[row] == 0:
            first = np.inf
        depth, block = 1, FIRST_BLOCK
        while depth < limit:
            costs = fleet.chain(row, kind, depth + 1, min(limit, depth + block))
            for next_cost in costs.tolist():
                stays = np.isfinite(next_cost) and round(next_cost - cost, DIGITS) <= first
                if depth >= left or not stays:
                    return depth, cost, next_cost
                depth, cost = depth + 1, next_cost
            block = min(2 * block, LARGEST_BLOCK)
        return depth, cost, np.inf

    def place_units(self) -> set[int]:
        """Give each together rule its VM; return the kinds that are barred as theirs found none."""
        fleet = self.fleet
        for unit in together_units(fleet.batch):
            if self._unit_is_held(unit) or (unit > fleet.remaining).any():
                continue
            members = np.repeat(np.arange(len(unit)), unit).tolist()
            rows = fleet.hosts()
            if not len(rows):
                break
            costs = fleet.cost_with(rows, members)
            growth = costs - fleet.cost[rows]
            best = int(np.lexsort((fleet.degree[rows] == 0, np.round(growth, DIGITS)))[0])
            if not np.isfinite(growth[best]) or self._cheaper_left_out(unit, growth[best]):
                continue
            target = fleet.row(fleet.grown(int(rows[best]), members), float(costs[best]))
            fleet.shift(int(rows[best]), target, 1)
        return self._barred()

    def _barred(self) -> set[int]:
        """Return the kinds whose together rule has no VM, none of which then stays placed."""
        fleet = self.fleet
        while True:
            barred = barred_kinds(fleet)
            wrong = [r for r in fleet.alive().tolist() if barred & set(fleet.states[r][1])]
            if not wrong:
                return barred
            for row in wrong:
                fleet.shift(row, int(fleet.type_of[row]), int(fleet.count[row]))

    def _unit_is_held(self, unit: Ints) -> bool:
        rules, held = self.fleet.batch.together, self.fleet.held()
        inside = [(rule <= unit).all() for rule in rules]
        return bool(all(h > 0 for h, mine in zip(held, inside, strict=True) if mine))

    def _cheaper_left_out(self, unit: Ints, growth: float) -> bool:
        if self._penalty is None:
            return False
        return bool(growth > float((self._penalty * self.fleet.remaining)[unit > 0].sum()))

    def eject_for(self, kind: int) -> None:
        """Place replicas of `kind` that found no host by moving another out of the way."""
        fleet = self.fleet
        for _ in range(64):
            if fleet.remaining[kind] <= 0:
                return
            swaps = self._ejections(kind)
            if not swaps:
                return
            if not any(self._eject(kind, source, victim) for source, victim in swaps[:8]):
                return

    def _ejections(self, kind: int) -> list[tuple[int, int]]:
        """Return the (row, victim) pairs that make room for `kind`, cheapest growth first."""
        fleet = self.fleet
        pairs = [
            (row, victim)
            for row in fleet.alive().tolist()
            if fleet.batch.allowed[fleet.type_of[row], kind]
            for victim in sorted(set(fleet.states[row][1]) - {kind})
        ]
        costs = fleet.costs_of([_replaced(fleet.states[row], v, kind) for row, v in pairs])
        growth = costs - fleet.cost[[row for row, _ in pairs]] if pairs else costs
        order = np.argsort(np.round(growth, DIGITS), kind="stable")
        return [pairs[i] for i in order if np.isfinite(growth[i])]

    def _eject(self, kind: int, source: int, victim: int) -> bool:
        """Put one `kind` in `victim`'s place and `victim` on its best other host, if it has one."""
        fleet = self.fleet
        target = int(fleet.rows([_replaced(fleet.states[source], victim, kind)])[0])
        if fleet.breaks_together([source], [target], 1):
            return False
        fleet.shift(source, target, 1)
        rows = fleet.hosts()
        costs = fleet.cost_with(rows, (victim,))
        scores = self._scores(rows, victim, costs)
        best = int(scores.argmin()) if len(rows) else -1
        if best < 0 or not np.isfinite(scores[best]):
            fleet.shift(target, source, 1)
            return False
        host = fleet.row(fleet.grown(int(rows[best]), [victim]), float(costs[best]))
        fleet.shift(int(rows[best]), host, 1)
        return True


def _replaced(state: State, out: int, new: int) -> State:
    """Return `state` with one replica of kind `out` replaced by one of kind `new`."""
    members = list(state[1])
    members[members.index(out)] = new
    return state[0], tuple(sorted(members))


def drop_dear_vms(fleet: Fleet) -> None:
    """Close the VMs that cost more than leaving their replicas out, where that is allowed."""
    penalty = fleet.batch.unplaced_cost
    if penalty is None:
        return
    for row in fleet.alive().tolist():
        t, group = fleet.states[row]
        vms = int(fleet.count[row])
        worth = float(penalty[list(group)].sum())
        if fleet.cost[row] > worth and not fleet.breaks_together([row], [t], vms):
            fleet.shift(row, t, vms)


def together_units(batch: Batch) -> list[Ints]:
    """Return what single VMs must hold (K,): together rules, merged where replicas are too few.

    Rules that share a model with fewer replicas than they ask for in sum must share a VM.
    """
    units = [rule.copy() for rule in batch.together]
    merged = True
    while merged:
        merged = False
        for i in range(len(units)):
            for j in range(i + 1, len(units)):
                shared = (units[i] > 0) & (units[j] > 0)
                if (shared & (units[i] + units[j] > batch.replicas)).any():
                    units[i] = np.maximum(units[i], units.pop(j))
                    merged = True
                    break
            if merged:
                break
    return sorted(units, key=lambda unit: -int(unit.sum()))
