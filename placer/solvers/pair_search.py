"""Exact search for groups whose costs are sums over pairs, one class of VM types at a time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from placer.problem import TOLERANCE
from placer.solvers.columns import Columns, Prices, join, no_columns
from placer.solvers.group_costs import most_members
from placer.solvers.pair_types import Found, PairTask, Stack
from placer.solvers.run import Run

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BANNED = 1e200
"""What a pair costs that may not share a VM: more than any group."""

STACK_CELLS = 10_000_000
"""Degree x degree x kind cells that one search may keep."""

NODES = 20_000
"""Nodes between two looks at the clock."""

KEPT = 2_000
"""Groups of negative reduced cost that one search keeps, the best of them."""

RATE_SCALES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)
"""Multiples of the rates of room that are tried for each number of members."""

HASTY_NODES = 20_000_000
"""Nodes after which a search that has found something is left unfinished."""

PASS_SHARE = 0.2
"""Of the time left, what one search of all classes may take."""


@dataclass(frozen=True)
class TypeClass:
    """VM types that differ in price, capacity, count and degree alone, by ascending price.

    types (n,); demand (K, R); lone (K,): what a replica costs but for company and SLO, infinite
    where it may not run; pair (K, K): what two cost each other; effect (K, K), slack (K,): what a
    co-runner adds to a slowdown, and how much may be added.
    """

    types: Ints
    demand: Floats
    lone: Floats
    pair: Floats
    effect: Floats
    slack: Floats


def searchable(run: Run) -> bool:
    """Return whether costs are sums over pairs, no rule asks for a group, and memory is enough."""
    batch = run.batch
    if batch.together or (run.costs.has_slo and batch.instance.objective.slo_penalty is not None):
        return False
    wide = max(most_members(batch, t) for t in range(batch.types))
    if (wide + 2) ** 2 * batch.kinds > STACK_CELLS:
        return False
    for t in range(batch.types):
        listed = batch.interference.listed(t)
        if (listed is not None and len(listed)) or batch.interference.pair_sum(t) is None:
            return False
    return True


def classes_of(run: Run) -> list[TypeClass]:
    """Return the classes of the VM types of which there are any."""
    possible = run.batch.vms_possible()
    classes: list[tuple[list[int], tuple[Floats, ...]]] = []
    for t in np.argsort(run.batch.price, kind="stable").tolist():
        if possible[t] <= 0:
            continue
        numbers = _numbers(run, t)
        for types, other in classes:
            if all(np.array_equal(x, y) for x, y in zip(numbers, other, strict=True)):
                types.append(t)
                break
        else:
            classes.append(([t], numbers))
    return [TypeClass(np.array(types), *numbers) for types, numbers in classes]


def _numbers(run: Run, t: int) -> tuple[Floats, ...]:
    """Return what types of one class have in common, but for the types themselves."""
    batch, costs = run.batch, run.costs
    found = batch.interference.pair_sum(t)
    assert found is not None
    effect = found[0][:-1, :-1]
    cost = effect * costs.slowdown_price(t)[:, None]
    pair = cost + cost.T
    pair[batch.apart | np.isnan(pair)] = np.inf
    slack = np.full(batch.kinds, np.inf)
    if costs.has_slo:
        asked = np.isfinite(batch.slo)
        slack[asked] = (batch.slo[asked] + TOLERANCE) / batch.solo[t][asked] - 1.0
        slack[np.isnan(slack)] = -1.0
    effect = np.nan_to_num(effect)
    hopeless = (slack < 0.0) & (effect.min(axis=1) >= 0.0)  # else company may help to keep the SLO
    may_run = (batch.replicas > 0) & ~hopeless
    may_run &= costs.fits(t, np.arange(batch.kinds, dtype=np.int32)[:, None])
    return batch.demand[t], np.where(may_run, costs.lone_cost(t), np.inf), pair, effect, slack


class PairPrices:
    """What replicas and room are worth in one class of VM types at one set of prices.

    With `free`, groups cost nothing. kinds (K,): those that may run, the ones that could gain most
    first; own (K,), demand (K, R), times (K,), pair (K, K) and most, offer (T,), capacity (T, R) as
    in `PairTask`; rates (R,): rent of room, whatever the size of a group.
    """

    def __init__(self, run: Run, types: TypeClass, prices: Prices, *, free: bool = False) -> None:
        batch, paid = run.batch, not free
        kinds = np.flatnonzero(np.isfinite(types.lone))
        limited = np.isfinite(batch.capacity[types.types]).any(axis=0)
        self.most = np.array([most_members(batch, int(t)) for t in types.types])
        times = np.minimum(batch.replicas[kinds], self.most.max())
        demand = types.demand[kinds][:, limited]
        self.capacity = np.minimum(batch.capacity[types.types][:, limited], demand.T @ times + 1.0)
        price = batch.instance.objective.price * batch.price[types.types] * paid
        self.offer = price - prices.vm_type[types.types]
        own = types.lone[kinds] * paid - prices.kind[kinds]
        pair = types.pair[np.ix_(kinds, kinds)]
        pair = np.where(np.isinf(pair), BANNED, pair if paid else 0.0)
        value = own + least_company(pair, times, int(self.most.max()))
        self.rates = room_rates(value, demand, times, self.capacity, self.most, self.offer)
        order = np.argsort(value + demand @ self.rates, kind="stable")
        self.kinds, self.own, self.times = kinds[order], own[order], times[order]
        self.demand = np.ascontiguousarray(demand[order])
        self.pair = np.ascontiguousarray(pair[np.ix_(order, order)])

    def room(self, rates: Floats) -> Floats:
        """Return offer less the rent of the whole VM (..., T) at these rates (..., R)."""
        rest: Floats = self.offer - rates @ (self.capacity + TOLERANCE).T
        return rest

    def rates_by_size(self) -> tuple[Floats, Floats]:
        """Return for each number of members the rates with the best bound (D, R), and that (D,).

        Rates are multiples of `rates`: a small group leaves room that it need not pay for.
        """
        from placer.solvers.pair_bounds import least_of

        found = np.zeros((int(self.most.max()) + 1, len(self.rates)))
        bounds = np.full(len(found), np.inf)
        for size in range(1, len(found)):
            bounds[size] = -np.inf
            for scale in RATE_SCALES if self.rates.any() else (0.0,):
                rent = scale * self.rates
                own = self.own + self.demand @ rent
                least = least_of(self.pair, own, self.times, size)
                bound = self.room(rent)[self.most >= size].min() + least
                if bound > bounds[size]:
                    bounds[size], found[size] = bound, rent
        return found, bounds

    def by_member(self) -> float:
        """Return a lower bound of the reduced cost per member of any group."""
        bounds = self.rates_by_size()[1][1:]
        return float((bounds / np.arange(1, len(bounds) + 1)).min(initial=np.inf))


class PairSearch:
    """The search of one class of VM types at one set of prices; with `free`, groups cost nothing.

    Of VM types that hold a group, those dearer than one that never runs out are left out.
    """

    def __init__(self, run: Run, types: TypeClass, prices: Prices, *, free: bool = False) -> None:
        self._run, self._class, self._prices = run, types, prices
        worth = PairPrices(run, types, prices, free=free)
        self.kinds, self._most = worth.kinds, worth.most
        rates, batch = worth.rates_by_size()[0], run.batch
        effect = np.ascontiguousarray(types.effect[np.ix_(worth.kinds, worth.kinds)])
        self.task = PairTask(
            own=worth.own,
            demand=worth.demand,
            rent=rates @ worth.demand.T,
            pair=worth.pair,
            times=worth.times,
            offer=worth.offer,
            room=worth.room(rates),
            capacity=np.ascontiguousarray(worth.capacity),
            most=worth.most,
            endless=batch.vms_possible()[types.types] >= min(batch.total_replicas, batch.max_vms),
            rates=rates,
            effect=effect,
            slack=types.slack[worth.kinds],
            help=effect.min(axis=1, initial=0.0),
            has_slo=bool(np.isfinite(types.slack).any()),
            **self._cuts(),
        )
        largest = np.abs(worth.own).max(initial=0.0) + np.abs(worth.offer).max()
        self.rounding = 1e-9 * (1.0 + largest)

    def _cuts(self) -> dict[str, NDArray[Any]]:
        """Return the cuts by the places of their kinds, those of kinds that may not join left out.

        A cut of which one kind is left out counts as long as the two others are there.
        """
        place = np.full(self._run.batch.kinds, -1)
        place[self.kinds] = np.arange(len(self.kinds))
        triples = place[self._prices.triples]
        counts = (triples >= 0).sum(axis=1) >= 2
        triples = triples[counts]
        row, column = np.nonzero(triples >= 0)
        kind = triples[row, column]
        order = np.argsort(kind, kind="stable")
        return {
            "triples": np.ascontiguousarray(triples),
            "penalty": -self._prices.cut[counts],
            "cuts": row[order],
            "first_cut": np.searchsorted(kind[order], np.arange(len(self.kinds) + 1)),
        }

    def share(
        self,
        threshold: float,
        limit: int,
        *,
        thinning: bool,
        patient: bool = False,
        most_nodes: float = np.inf,
        share: int = 0,
        shares: int = 1,
    ) -> tuple[float, Columns] | None:
        """Return the least reduced cost (or the threshold), and groups below `threshold`.

        Of the first members only each `shares`-th is taken, from `share` on. With `thinning` only
        the best `limit` groups are kept, and minus infinity stands for a search left unfinished,
        which happens soon to one that is not `patient` and has found something, or after
        `most_nodes`; else None is returned where it had to stop, or found too many.
        """
        from placer.solvers import pair_kernel as kernel

        if not len(self.kinds):
            return np.inf, no_columns()
        stack, found = self._start(limit + len(self.task.offer) + 1)
        ceiling = np.array([threshold])
        kernel.begin(self.task, stack, found, threshold, self.rounding, share)
        nodes = 0
        while True:
            status = kernel.search(
                self.task, stack, found, ceiling, self.rounding, NODES, share, shares, thinning
            )
            nodes += NODES
            if status == kernel.DONE:
                least = float(found.least[0])
                return (least if least < threshold else np.inf), self.columns(found)
            hasty = thinning and not patient and nodes >= HASTY_NODES and found.size[0] > 0
            if hasty or nodes >= most_nodes or self._run.should_stop():
                return (-np.inf, self.columns(found)) if thinning else None
            if status == kernel.FULL:
                return None

    def _start(self, limit: int) -> tuple[Stack, Found]:
        """Return an empty stack, and room for `limit` groups."""
        kinds, resources = self.task.demand.shape
        wide = int(self._most.max())
        degrees = wide + 2
        whole, real = np.int64, np.float64
        stack = Stack(
            kind=np.zeros((degrees, kinds), whole),
            beside=np.zeros((degrees, kinds), real),
            helped=np.zeros((degrees, degrees, kinds), real),
            shared=np.zeros((degrees, kinds), real),
            change=np.zeros(kinds, real),
            score=np.zeros((degrees, kinds), real),
            joint=np.zeros((degrees, kinds), real),
            bound=np.zeros((degrees, kinds), real),
            left=np.zeros(degrees, whole),
            at=np.zeros(degrees, whole),
            base=np.zeros(degrees, real),
            load=np.zeros((degrees, resources), real),
            member=np.zeros(degrees + 1, whole),
            slow=np.zeros((degrees, degrees), real),
            depth=np.zeros(1, whole),
        )
        found = Found(
            vm_type=np.zeros(limit, whole),
            groups=np.full((limit, wide), -1, whole),
            reduced=np.zeros(limit, real),
            size=np.zeros(1, whole),
            least=np.array([np.inf]),
        )
        return stack, found

    def columns(self, found: Found) -> Columns:
        """Return what was found as columns, costed as every group is."""
        count = int(found.size[0])
        groups = np.append(self.kinds, self._run.batch.kinds)[found.groups[:count]]
        groups = np.sort(groups, axis=1)
        groups = np.where(groups == self._run.batch.kinds, -1, groups).astype(np.int32)
        vm_type = self._class.types[found.vm_type[:count]].astype(np.int32)
        cost = np.full(count, np.inf)
        for t in np.unique(vm_type).tolist():
            rows = np.flatnonzero(vm_type == t)
            cost[rows] = self._run.costs.cost(t, groups[rows])
        return Columns(vm_type, groups, cost).take(np.isfinite(cost))


def least_company(pair: Floats, times: Ints, wide: int) -> Floats:
    """Return the least that company could cost each kind (K,), below 0 where it helps."""
    from placer.solvers.pair_bounds import helps

    cost = np.zeros((wide, len(pair)))
    if wide > 1:
        helps(pair, np.arange(len(pair)), times, wide - 1, cost)
    least: Floats = cost.min(axis=0)
    return least


def room_rates(
    value: Floats, demand: Floats, times: Ints, capacity: Floats, most: Ints, offer: Floats
) -> Floats:
    """Return the rates (R,) of room at which the bound over all types is best.

    value (K,): what each kind costs at the least; demand (K, R), times (K,); capacity (T, R),
    most and offer (T,). Any rates that are not negative give a valid bound; these are the linear
    dual's of the knapsack of the type where it is worst.
    """
    from scipy.optimize import linprog

    useful = np.flatnonzero(value < 0)
    n, (types, resources) = len(useful), capacity.shape
    if not n or not resources:
        return np.zeros(resources)
    gained = np.hstack([-demand[useful], np.full((n, 1), -1.0), np.zeros((n, 1)), -np.eye(n)])
    housed = np.hstack([capacity, most[:, None], np.ones((types, 1)), np.zeros((types, n))])
    solved = linprog(
        np.concatenate([np.zeros(resources + 1), [-1.0], times[useful].astype(float)]),
        A_ub=np.vstack([gained, housed]),
        b_ub=np.concatenate([value[useful], offer]),
        bounds=[(0, None)] * (resources + 1) + [(None, None)] + [(0, None)] * n,
        method="highs",
    )
    if solved.status != 0:
        return np.zeros(resources)
    rates: Floats = np.maximum(solved.x[:resources], 0.0)
    return rates


def search_classes(
    run: Run,
    classes: list[TypeClass],
    prices: Prices,
    threshold: float,
    limit: int,
    *,
    free: bool = False,
    thinning: bool = True,
    patient: bool = False,
) -> tuple[list[float], Columns] | None:
    """Search all `classes`, threads side by side; return least reduced costs, and columns.

    As `PairSearch.share`; None where a search that must find all of them could not.
    """
    shares = run.options.workers
    searches = [PairSearch(run, c, prices, free=free) for c in classes]
    jobs = [(search, share) for search in searches for share in range(shares)]

    def work(job: tuple[PairSearch, int]) -> tuple[float, Columns] | None:
        search, share = job
        return search.share(
            threshold, limit, thinning=thinning, patient=patient, share=share, shares=shares
        )

    with run.at_most(PASS_SHARE * run.time_left()), ThreadPoolExecutor(shares) as pool:
        results = list(pool.map(work, jobs))
    done = [result for result in results if result is not None]
    columns = join([found for _, found in done])
    if len(done) < len(results) or (not thinning and len(columns) > limit):
        return None
    least = [min(r[0] for r in done[i : i + shares]) for i in range(0, len(done), shares)]
    return least, columns
