"""Placement that sees no interference: what schedulers do without a predictor.

They see capacity, co-location degree, admission, apart and together rules, counts, max_vms,
max_price and price; not slowdowns, SLOs or group tables. Each replica goes into the free slot
that its policy ranks first among the VMs that are open, and a VM is opened only when nothing
fits. Where every VM type has a count, the fleet is a given one: the policies that spread
(least-loaded, round-robin, random) then have all of it before them, as in Mendoza et al.
(EuroMLSys 2021), whose baseline is least-loaded.
"""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
from numpy.typing import NDArray

from placer.interference.tables import Floats
from placer.problem import TOLERANCE
from placer.solvers.batch import UNLIMITED, Batch
from placer.solvers.fleet import Ints
from placer.solvers.greedy import by_size, shares, together_units
from placer.solvers.run import Run, State, rows_of

SPREADING = ("least-loaded", "round-robin", "random")
POLICIES = (*SPREADING, "first-fit-decreasing", "best-fit-decreasing")

SLOT_LIMIT = 4_000_000
"""Free slots ranked at once, to bound memory."""


def blind_assignment(batch: Batch, policy: str, seed: int = 0) -> dict[State, int]:
    """Return where `policy`, one of POLICIES, puts the batch, whatever interference makes of it.

    Every limit that the policy sees is kept; replicas that fit nowhere are left out. SLO bans and
    group tables may be broken. Raises KeyError for an unknown policy.
    """
    if policy not in POLICIES:
        raise KeyError(policy)
    packing = _Packing(batch, policy, seed)
    packing.pack()
    return packing.assignment()


class _Baseline:
    """Offers the placement of one policy, or says why it is none of this instance."""

    name = ""
    exact = False

    def solve(self, run: Run) -> None:
        """Offer the policy's placement to `run`; note the reason where it breaks the instance."""
        run.enter(self.name)
        assignment = blind_assignment(run.batch, self.name, run.options.seed)
        if run.objective_of(assignment) is None:
            run.notes.append(
                f"{self.name} sees no interference, and its placement {_breach(run, assignment)}, "
                "so it is not a placement of this instance"
            )
        else:
            run.offer(assignment)


class LeastLoaded(_Baseline):
    """The VM whose dominant resource is used least."""

    name = "least-loaded"


class RoundRobin(_Baseline):
    """Each VM in turn."""

    name = "round-robin"


class Random(_Baseline):
    """Any VM that fits, by the seed."""

    name = "random"


class FirstFitDecreasing(_Baseline):
    """Largest replicas first, each on the VM opened first among those that fit."""

    name = "first-fit-decreasing"


class BestFitDecreasing(_Baseline):
    """Largest replicas first, each on the fullest VM that fits; opens what is cheapest for them."""

    name = "best-fit-decreasing"


def _breach(run: Run, assignment: dict[State, int]) -> str:
    """Return in words what `assignment` breaks."""
    batch = run.batch
    placed = Counter[int]()
    late = forbidden = 0
    for (t, group), vms in assignment.items():
        placed.update({kind: n * vms for kind, n in Counter(group).items()})
        row = rows_of([group])
        slowdown = batch.interference.slowdown(t, row)[0]
        if np.isnan(slowdown).any():
            forbidden += vms
            continue
        upper = batch.interference.upper(t, row)[0]
        over = batch.solo[t, list(group)] * upper > batch.slo[list(group)] + TOLERANCE
        late += vms * int(over.sum())
    left_out = batch.total_replicas - sum(placed.values())
    if left_out and batch.unplaced_cost is None:
        return f"leaves out {left_out} of {batch.total_replicas} replicas"
    if forbidden:
        return f"forms {forbidden} groups that the group table does not list"
    if late and batch.instance.objective.slo_penalty is None:
        return f"breaks the SLO of {late} replicas"
    return "breaks a together rule"


class _Packing:
    """VMs in the order in which they were opened, as arrays, and one policy at work on them."""

    def __init__(self, batch: Batch, policy: str, seed: int) -> None:
        self.batch = batch
        self.policy = policy
        self._rng = np.random.default_rng(seed)
        self._share = shares(batch)
        self._type = np.zeros(0, dtype=np.int64)
        self._degree = np.zeros(0, dtype=np.int64)
        self._used = np.zeros((0, batch.demand.shape[2]))
        self._load = np.zeros(0)
        self._barred = np.zeros((0, batch.kinds), dtype=bool)
        self._in_use = np.zeros(batch.types, dtype=np.int64)
        self._turn = 0
        self._content: list[tuple[Ints, int, Ints]] = []
        self._any_apart = bool(batch.apart.any())

    def pack(self) -> None:
        """Place everything that fits."""
        batch = self.batch
        self._stand_ready()
        left = batch.replicas.copy()
        out = np.zeros(batch.kinds, dtype=bool)
        for unit in together_units(batch):
            if (unit > left).any() or not self._place_unit(unit):
                out |= unit > 0
            else:
                left -= unit
        decreasing = self.policy not in SPREADING
        for kind in by_size(batch) if decreasing else np.arange(batch.kinds):
            if not out[kind]:
                self._place(int(kind), int(left[kind]))

    def assignment(self) -> dict[State, int]:
        """Return the VMs that hold something, by content."""
        if not self._content:
            return {}
        vm = np.concatenate([vms for vms, _, _ in self._content])
        kind = np.concatenate([np.full(len(vms), k) for vms, k, _ in self._content])
        number = np.concatenate([n for _, _, n in self._content])
        members = defaultdict[int, list[int]](list)
        for i in np.lexsort((kind, vm)).tolist():
            members[int(vm[i])] += [int(kind[i])] * int(number[i])
        types = self._type.tolist()
        return dict(Counter((types[v], tuple(group)) for v, group in members.items()))

    def _stand_ready(self) -> None:
        """Open the whole fleet where it is a given one and the policy spreads over it."""
        batch = self.batch
        if self.policy not in SPREADING or (batch.count == UNLIMITED).any():
            return
        smallest = np.where(np.isfinite(self._share), self._share, np.inf).min(axis=1, initial=1.0)
        for t in np.lexsort((smallest, batch.price * smallest)):
            self._open(int(t), min(self._available(int(t)), batch.total_replicas))

    def _available(self, t: int) -> int:
        batch, in_use = self.batch, self._in_use
        free = min(int(batch.count[t] - in_use[t]), int(batch.max_vms - in_use.sum()))
        if np.isfinite(batch.max_price) and batch.price[t] > 0:
            left = batch.max_price + TOLERANCE - float(in_use @ batch.price)
            free = min(free, max(0, int(left / batch.price[t] + 1e-12)))
            change = np.zeros(batch.types, dtype=np.int64)
            change[t] = 1
            while free > 0 and float((in_use + free * change) @ batch.price) > (
                batch.max_price + TOLERANCE
            ):
                free -= 1
        return max(0, free)

    def _open(self, t: int, vms: int) -> None:
        self._in_use[t] += vms
        self._type = np.append(self._type, np.full(vms, t, dtype=np.int64))
        self._degree = np.append(self._degree, np.zeros(vms, dtype=np.int64))
        self._load = np.append(self._load, np.zeros(vms))
        self._used = np.vstack([self._used, np.zeros((vms, self._used.shape[1]))])
        if self._any_apart:
            fresh = np.zeros((vms, self.batch.kinds), dtype=bool)
            self._barred = np.vstack([self._barred, fresh])

    def _place(self, kind: int, left: int) -> None:
        while left > 0:
            depth = self._room(kind, left)
            if depth.any():
                left -= self._fill(kind, depth, left)
            elif not self._open_for(kind, left):
                return

    def _room(self, kind: int, left: int) -> Ints:
        """Return how many replicas of `kind` each VM can still take (V,)."""
        batch, types = self.batch, self._type
        depth = np.minimum(batch.max_models[types] - self._degree, left)
        need, room = batch.demand[:, kind], batch.capacity[types] - self._used + TOLERANCE
        for r in range(need.shape[1]):
            asked = need[types, r]
            ratio = np.full(len(types), float(left))
            np.divide(room[:, r], asked, out=ratio, where=asked > 0)
            depth = np.minimum(depth, np.minimum(ratio, float(left)).astype(np.int64))
        depth = np.where(batch.allowed[types, kind], np.maximum(depth, 0), 0)
        if self._any_apart:
            depth = np.where(self._barred[:, kind], 0, depth)
            if batch.apart[kind, kind]:
                depth = np.minimum(depth, 1)
        return np.asarray(depth, dtype=np.int64)

    def _fill(self, kind: int, depth: Ints, left: int) -> int:
        """Put up to `left` replicas into the slots ranked first; return how many."""
        hosts = np.flatnonzero(depth)
        depth = np.minimum(depth[hosts], max(1, SLOT_LIMIT // len(hosts)))
        vm = np.repeat(hosts, depth)
        layer = np.arange(len(vm)) - np.repeat(np.cumsum(depth) - depth, depth)
        first = self._rank(kind, vm, layer)[:left]
        self._take(kind, np.bincount(vm[first], minlength=len(self._type)))
        self._turn = int(vm[first[-1]]) + 1
        return len(first)

    def _rank(self, kind: int, vm: Ints, layer: Ints) -> Ints:
        """Return the slots, the one to be used first in front."""
        if self.policy == "least-loaded":
            share = self._share[self._type[vm], kind]
            return np.lexsort((vm, np.round(self._load[vm] + layer * share, 9)))
        if self.policy == "round-robin":
            return np.lexsort(((vm - self._turn) % len(self._type), layer))
        if self.policy == "random":
            return self._rng.permutation(len(vm))
        if self.policy == "best-fit-decreasing":
            return np.lexsort((layer, vm, -np.round(self._load[vm], 9)))
        return np.lexsort((layer, vm))

    def _take(self, kind: int, number: Ints) -> None:
        vms = np.flatnonzero(number)
        n, types = number[vms], self._type[vms]
        self._content.append((vms, kind, n))
        self._degree[vms] += n
        self._used[vms] += n[:, None] * self.batch.demand[types, kind]
        self._load[vms] = self._loads(vms)
        if self._any_apart:
            barred = self.batch.apart[kind].copy()
            self._barred[vms] |= barred

    def _loads(self, vms: Ints) -> Floats:
        """Return the part of each VM's dominant resource, or slots, in use."""
        batch, types = self.batch, self._type[vms]
        parts = np.zeros(len(vms))
        for r in range(self._used.shape[1]):
            capacity = batch.capacity[types, r]
            has = capacity > 0
            part = np.divide(self._used[vms, r], capacity, out=np.zeros(len(vms)), where=has)
            parts = np.maximum(parts, part)
        return np.maximum(parts, self._degree[vms] / np.maximum(batch.max_models[types], 1))

    def _open_for(self, kind: int, left: int) -> bool:
        """Open VMs of the type that the policy takes for `kind`; return whether there is one."""
        before = len(self._type)
        options: list[tuple[tuple[float, ...], int, int]] = []
        for t in range(self.batch.types):
            free = self._available(t)
            depth = self._empty_room(t, kind, left) if free else 0
            if depth:
                options.append((self._worth(t, kind, depth, left), t, min(free, left // depth)))
        if not options:
            return False
        _, t, vms = min(options)
        self._open(t, max(1, vms))
        return len(self._type) > before

    def _empty_room(self, t: int, kind: int, left: int) -> int:
        batch = self.batch
        if not batch.allowed[t, kind]:
            return 0
        need, depth = batch.demand[t, kind], min(int(batch.max_models[t]), left)
        for r in np.flatnonzero(need > 0):
            depth = int(min(depth, (batch.capacity[t, r] + TOLERANCE) / need[r]))
        return min(depth, 1) if batch.apart[kind, kind] else depth

    def _worth(self, t: int, kind: int, depth: int, left: int) -> tuple[float, ...]:
        """Return what decides between VM types, less being better."""
        if self.policy == "first-fit-decreasing":
            return (float(t),)
        price, share = float(self.batch.price[t]), float(self._share[t, kind])
        if self.policy == "best-fit-decreasing":
            return price * -(-left // depth), share
        return price * share, share

    def _place_unit(self, unit: Ints) -> bool:
        """Put what must share a VM on the first that takes it all, opened if need be."""
        batch, members = self.batch, np.flatnonzero(unit)
        own = batch.apart[np.ix_(members, members)] & (np.diag(unit[members]) != 1)
        if own.any():
            return False
        open_vms = np.flatnonzero(self._takes(unit, members, self._type, self._used, self._degree))
        if self._any_apart:
            open_vms = open_vms[~self._barred[np.ix_(open_vms, members)].any(axis=1)]
        if not len(open_vms):
            types = np.array([t for t in range(batch.types) if self._available(t)], dtype=np.int64)
            empty = np.zeros((len(types), self._used.shape[1])), np.zeros(len(types))
            fitting = types[self._takes(unit, members, types, *empty)]
            if not len(fitting):
                return False
            self._open(int(fitting[batch.price[fitting].argmin()]), 1)
            open_vms = np.array([len(self._type) - 1])
        for kind in members:
            number = np.zeros(len(self._type), dtype=np.int64)
            number[open_vms[0]] = unit[kind]
            self._take(int(kind), number)
        return True

    def _takes(
        self, unit: Ints, members: Ints, types: Ints, used: Floats, degree: Floats | Ints
    ) -> NDArray[np.bool_]:
        """Return which VMs of these `types` with this content have room for `unit` (n,)."""
        batch = self.batch
        need = (batch.demand[:, members] * unit[members][:, None]).sum(axis=1)
        fits = (used + need[types] <= batch.capacity[types] + TOLERANCE).all(axis=1)
        fits &= degree + unit.sum() <= batch.max_models[types]
        allowed = np.all(batch.allowed[:, members], axis=1)
        return np.asarray(fits & allowed[types])


__all__ = [
    "POLICIES",
    "BestFitDecreasing",
    "FirstFitDecreasing",
    "LeastLoaded",
    "Random",
    "RoundRobin",
    "blind_assignment",
]
