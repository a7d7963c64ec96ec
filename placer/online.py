"""Single arrivals and departures over a fleet that lasts.

The instance is a catalogue here: its VM types, models, interference, objective and rules hold,
while `replicas` is ignored, since a fleet may hold any number of replicas of a model. What is
held is a placement, of which every figure is recomputed from the catalogue.

An arrival goes where the objective grows least, whatever leaving it out would cost; it is refused
only where no VM may take it. A together rule whose list is not complete yet gathers the listed
models on one VM as they arrive. A VM that its last replica leaves is closed.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from placer._version import __version__
from placer.checker import check
from placer.decisions import Decision, Departure, Slowdown
from placer.errors import InputError, near_name
from placer.placement import PlacedModel, PlacedVm, Placement, SolverRecord, Terms
from placer.problem import TOLERANCE, Instance
from placer.scoring import VmScore, score
from placer.solvers.batch import compile_batch
from placer.solvers.fleet import CostMemo, Fleet, Ints
from placer.solvers.group_costs import GroupCosts
from placer.solvers.run import State, rows_of
from placer.status import Status

DIGITS = 10
"""Digits after which growths count as equal, so that rounding does not pick the host."""


class OnlinePlacer:
    """Places and removes single replicas on a fleet, by the objective of one instance."""

    def __init__(
        self, instance: Instance, fleet: Placement | None = None, *, strict: bool = True
    ) -> None:
        """Take over the VMs of `fleet`, none where it is None; VMs that hold nothing are closed.

        Raises InputError where the fleet is of another instance or names what the instance does
        not know and, if `strict`, where it breaks a limit or rule of the instance.
        """
        self.instance = instance
        self._batch = compile_batch(instance)
        self._fleet = Fleet(self._batch, CostMemo(GroupCosts(self._batch)))
        self._types = {v.name: t for t, v in enumerate(instance.vm_types)}
        self._kinds = {m.name: k for k, m in enumerate(instance.models)}
        self._vms: dict[str, State] = {}
        self._by_row: dict[int, list[str]] = {}
        self._extra: dict[str, dict[str, Any]] = {}
        self._fleet_extra: dict[str, Any] = {}
        self._next_number: Counter[str] = Counter()
        if fleet is not None:
            self._take_over(fleet)
            if strict:
                self._refuse_breaches()

    def _take_over(self, fleet: Placement) -> None:
        if fleet.instance != self.instance.name:
            raise InputError(
                f"found {fleet.instance!r}, expected {self.instance.name!r}, the catalogue's name",
                path="instance",
            )
        self._fleet_extra = dict(fleet.model_extra or {})
        vms: list[tuple[str, State]] = []
        for i, vm in enumerate(fleet.vms):
            t = _known(self._types, vm.vm_type, "VM type", f"vms[{i}].vm_type")
            if vm.name in self._extra:
                raise InputError(
                    f"found {vm.name!r} twice; names must differ", path=f"vms[{i}].name"
                )
            self._extra[vm.name] = dict(vm.model_extra or {})
            kinds = [
                _known(self._kinds, model.name, "model", f"vms[{i}].models[{j}].name")
                for j, model in enumerate(vm.models)
            ]
            if kinds:
                vms.append((vm.name, (t, tuple(sorted(kinds)))))
        rows = self._fleet.rows([state for _, state in vms]).tolist()
        for (name, state), row in zip(vms, rows, strict=True):
            self._fleet.shift(state[0], row, 1)
            self._vms[name] = state
            self._by_row.setdefault(row, []).append(name)

    def _refuse_breaches(self) -> None:
        report = check(self.as_instance(), self.placement())
        for violation in report.violations:
            if violation.code != "together":  # an incomplete list is still gathering
                raise InputError(violation.message, path=violation.path)

    # Arrivals

    def place(self, model: str) -> Decision:
        """Put one replica of `model` where the objective grows least, every host scored at once.

        Raises InputError for a model that the instance does not know.
        """
        kind = _known(self._kinds, model, "model", "")
        fleet = self._fleet
        rows = self._gathering(kind, fleet.hosts())
        costs = fleet.cost_with(rows, (kind,))
        growth = np.where(np.isfinite(costs), costs - fleet.cost[rows], np.inf)
        growth[np.isnan(growth)] = np.inf
        if not np.isfinite(growth).any():
            return Decision(model, reason=self._why_not(kind, rows))
        opens = fleet.degree[rows] == 0
        best = int(np.lexsort((opens, np.round(growth, DIGITS)))[0])
        row = int(rows[best])
        before = fleet.states[row]
        name = self._new_name(before[0]) if opens[best] else self._by_row[row][0]
        target = fleet.row(fleet.grown(row, [kind]), float(costs[best]))
        self._turn(name, row, target)
        return Decision(
            model,
            vm=name,
            vm_type=self.instance.vm_types[before[0]].name,
            opened=bool(opens[best]),
            growth=float(growth[best]),
            slowdowns=self._compare(before, fleet.states[target]),
        )

    def _gathering(self, kind: int, rows: Ints) -> Ints:
        """Return the `rows` that bring an incomplete together rule of `kind` further."""
        fleet = self._fleet
        held = fleet.held()
        for rule, vms in zip(self._batch.together, held.tolist(), strict=True):
            if vms or not rule[kind]:
                continue
            alive = fleet.alive()
            most = max((_overlap(fleet.states[r], rule) for r in alive.tolist()), default=0)
            full = {
                r
                for r in alive.tolist()
                if _overlap(fleet.states[r], rule) == most
                and fleet.states[r][1].count(kind) < rule[kind]
            }
            if most and full:
                rows = np.array([r for r in rows.tolist() if r in full], dtype=np.int64)
        return rows

    def _why_not(self, kind: int, rows: Ints) -> str:
        """Return in a user's words why no VM may take `kind`."""
        fleet, batch, causes = self._fleet, self._batch, Counter[str]()
        for row in rows[fleet.degree[rows] > 0].tolist():
            causes[self._cause(row, kind)] += int(fleet.count[row])
        parts = [f"{n} VM{'s' if n > 1 else ''} in use: {cause}" for cause, n in causes.items()]
        if len(rows) == 0 and fleet.alive().size:
            parts.append("the VMs in use cannot take it")
        for t, vm_type in enumerate(self.instance.vm_types):
            if fleet.available(t) > 0:
                if t not in rows:
                    parts.append(
                        f"a new {vm_type.name!r}: rules.together wants it beside the models that "
                        "it is listed with"
                    )
                else:
                    parts.append(f"a new {vm_type.name!r}: {self._cause(t, kind)}")
            elif int(fleet.in_use[t]) >= batch.count[t]:
                parts.append(f"a new {vm_type.name!r}: none of its {int(batch.count[t])} is left")
            elif int(fleet.in_use.sum()) >= batch.max_vms:
                parts.append(f"a new {vm_type.name!r}: rules.max_vms is reached")
            else:
                parts.append(f"a new {vm_type.name!r}: rules.max_price would be exceeded")
        return "; ".join(parts)

    def _cause(self, row: int, kind: int) -> str:
        """Return what keeps one `kind` off a VM of `row`."""
        fleet, batch, t = self._fleet, self._batch, int(self._fleet.type_of[row])
        vm_type = self.instance.vm_types[t]
        if not batch.allowed[t, kind]:
            return f"the model may not run on {vm_type.name!r}"
        if fleet.degree[row] >= batch.max_models[t]:
            return f"holds {vm_type.max_models} replicas, the most that {vm_type.name!r} allows"
        over = fleet.used[row] + batch.demand[t, kind] > batch.capacity[t] + TOLERANCE
        if over.any():
            names = sorted({r for v in self.instance.vm_types for r in v.capacity})
            resource = names[int(np.flatnonzero(over)[0])]
            return (
                f"too little {resource} is left"
                if fleet.degree[row]
                else (
                    f"it takes {batch.demand[t, kind][over][0]:g} {resource}, "
                    f"{vm_type.name!r} has {batch.capacity[t][over][0]:g}"
                )
            )
        group = rows_of([fleet.grown(row, [kind])[1]])
        if not GroupCosts(batch).fits(t, group)[0]:
            return "a rule keeps it apart from a model there"
        if np.isnan(batch.interference.slowdown(t, group)[0][: int(fleet.degree[row]) + 1]).any():
            return "the group would be one that is not listed"
        return "an SLO would be missed" + (" there" if fleet.degree[row] else " even alone")

    def _new_name(self, t: int) -> str:
        vm_type = self.instance.vm_types[t].name
        while f"{vm_type}-{self._next_number[vm_type]}" in self._vms:
            self._next_number[vm_type] += 1
        return f"{vm_type}-{self._next_number[vm_type]}"

    # Departures

    def remove(self, model: str, vm: str | None = None) -> Departure:
        """Take one replica of `model` from the VM named, or from where that saves most.

        Raises InputError where the model or VM is unknown, or the model is not there. The
        departure is refused, with a reason, where those who stay may not share a VM by
        themselves (a group table that does not list them, a co-runner gone that kept an SLO).
        """
        kind = _known(self._kinds, model, "model", "")
        fleet = self._fleet
        if vm is not None:
            _known(self._vms, vm, "VM", "")
            rows = np.array([fleet.index[self._vms[vm]]])
        else:
            rows = fleet.alive()
        rows = np.array([r for r in rows.tolist() if kind in fleet.states[r][1]], dtype=np.int64)
        if not len(rows):
            place = "the fleet" if vm is None else f"VM {vm!r}"
            raise InputError(f"no replica of model {model!r} is on {place}")
        targets = fleet.rows([_without(fleet.states[r], kind) for r in rows.tolist()])
        saving = fleet.cost[rows] - fleet.cost[targets]
        saving[~np.isfinite(fleet.cost[targets])] = -np.inf
        best = int(np.argmax(np.round(saving, DIGITS)))
        if not np.isfinite(fleet.cost[targets[best]]):
            reason = "those who stay may not share a VM without it"
            return Departure(model, reason=reason)
        row, target = int(rows[best]), int(targets[best])
        name = vm if vm is not None else self._by_row[row][0]
        before, after = fleet.states[row], fleet.states[target]
        self._turn(name, row, target)
        return Departure(
            model,
            vm=name,
            vm_type=self.instance.vm_types[before[0]].name,
            closed=not after[1],
            saving=float(saving[best]) if np.isfinite(saving[best]) else None,
            slowdowns=self._compare(before, after),
        )

    def _turn(self, name: str, source: int, target: int) -> None:
        """Let the VM called `name`, of row `source`, become one of row `target`."""
        fleet = self._fleet
        fleet.shift(source, target, 1)
        if fleet.degree[source]:
            self._by_row[source].remove(name)
        if fleet.degree[target]:
            self._vms[name] = fleet.states[target]
            self._by_row.setdefault(target, []).append(name)
        else:
            del self._vms[name]
            self._extra.pop(name, None)

    # What there is

    def as_instance(self) -> Instance:
        """Return the catalogue with `replicas` as the fleet holds them, to check or re-solve."""
        held = Counter(kind for _, group in self._vms.values() for kind in group)
        models = [
            model.model_copy(update={"replicas": held[k]})
            for k, model in enumerate(self.instance.models)
        ]
        return self.instance.model_copy(update={"models": models})

    def placement(self) -> Placement:
        """Return the fleet as a placement, every figure recomputed, with no bound.

        It passes the check against `as_instance()`, save for together lists not complete yet.
        """
        types, models = self.instance.vm_types, self.instance.models
        contents = [
            (types[t].name, [models[k].name for k in group]) for t, group in self._vms.values()
        ]
        scored = score(self.as_instance(), contents)
        listed = all(vm is not None for vm in scored.vms)
        vms = [
            PlacedVm(name=name, vm_type=content[0], models=_placed(vm, content[1]), **extra)
            for name, content, vm in zip(self._vms, contents, scored.vms, strict=True)
            for extra in (self._extra.get(name, {}),)
        ]
        return Placement(
            **self._fleet_extra,
            instance=self.instance.name,
            status=Status.FEASIBLE,
            objective=scored.objective if listed else None,
            terms=Terms(**scored.terms) if listed else None,
            vms=vms,
            solver=SolverRecord(name="online", version=__version__),
        )

    def _compare(self, before: State, after: State) -> list[Slowdown]:
        """Return the slowdown of each replica on a VM before and after, by kind."""
        old, new = self._slowdowns(before), self._slowdowns(after)
        found = []
        for kind in sorted({*before[1], *after[1]}):
            was, now = before[1].count(kind), after[1].count(kind)
            name = self.instance.models[kind].name
            for i in range(max(was, now)):
                found.append(
                    Slowdown(name, old[kind] if i < was else None, new[kind] if i < now else None)
                )
        return found

    def _slowdowns(self, state: State) -> dict[int, float]:
        t, group = state
        if not group:
            return {}
        values = self._batch.interference.slowdown(t, rows_of([group]))[0]
        return {kind: float(value) for kind, value in zip(group, values, strict=False)}


def _known(known: dict[str, Any], name: str, what: str, path: str) -> int:
    if name not in known:
        raise InputError(f"unknown {what} {name!r}{near_name(name, known)}", path=path)
    value = known[name]
    return value if isinstance(value, int) else 0


def _overlap(state: State, rule: Ints) -> int:
    return sum(min(state[1].count(int(k)), int(rule[k])) for k in np.flatnonzero(rule))


def _without(state: State, kind: int) -> State:
    members = list(state[1])
    members.remove(kind)
    return state[0], tuple(members)


def _placed(vm: VmScore | None, names: list[str]) -> list[PlacedModel]:
    if vm is None:
        return [PlacedModel(name=name) for name in names]
    placed = []
    for r in vm.replicas:
        upper = {} if r.slowdown_upper == r.slowdown else {"slowdown_upper": r.slowdown_upper}
        placed.append(
            PlacedModel(
                name=r.model, slowdown=r.slowdown, latency_ms=r.latency_ms, slo_ms=r.slo_ms, **upper
            )
        )
    return placed


__all__ = ["Decision", "Departure", "OnlinePlacer", "Slowdown"]
