"""A bound for batches too large to price: replicas share the VMs of a type as if these were one.

How many VMs of each type are used stays integer, who sits on which of them is given up: the
replicas of a type need its VMs' summed capacity and places, and each costs the least that it can
on that type, whatever the company.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from placer.problem import TOLERANCE
from placer.solvers.backend_highs import solve_with_highs
from placer.solvers.batch import UNLIMITED
from placer.solvers.integer_program import IntegerProgram
from placer.solvers.run import Run

Floats = NDArray[np.float64]

ROUNDING = 1e-8
"""What the tolerances of an LP may take from a bound, relative to it."""


class _Model:
    """Rows of the relaxation as they are written down."""

    def __init__(self) -> None:
        self.row: list[int] = []
        self.column: list[int] = []
        self.value: list[float] = []
        self.lower: list[float] = []
        self.upper: list[float] = []

    def add(self, columns: list[int], values: list[float], lower: float, upper: float) -> None:
        self.row += [len(self.lower)] * len(columns)
        self.column += columns
        self.value += values
        self.lower.append(lower)
        self.upper.append(upper)


def raise_aggregate_bound(run: Run, seconds: float) -> None:
    """Raise the run's bound by the relaxation, or prove that no placement exists."""
    with run.at_most(seconds):
        result = solve_with_highs(aggregate_program(run), run)
    if result.infeasible and run.best is None:
        run.proved_infeasible = True
    elif result.bound is not None:
        run.raise_bound(result.bound - ROUNDING * abs(result.bound))


def aggregate_proves_infeasible(run: Run) -> bool:
    """Return whether summed demands, prices and numbers alone prove that no placement exists."""
    if run.batch.unplaced_cost is not None:
        return False
    program = aggregate_program(run)
    # Without costs the first solution ends the search.
    return solve_with_highs(replace(program, cost=np.zeros_like(program.cost)), run).infeasible


def aggregate_program(run: Run, slack: float = 0.0) -> IntegerProgram:
    """Return the relaxation of the run's batch: VMs of each type, then replicas on each type.

    With `slack`, only that much less of each capacity may be used, and it bounds nothing.
    """
    from scipy.sparse import coo_array

    batch, objective = run.batch, run.batch.instance.objective
    least = np.stack([run.costs.least_member_cost(t) for t in range(batch.types)])
    hosts = np.argwhere(np.isfinite(least) & (batch.replicas > 0))
    first = batch.types
    cost = [*(objective.price * batch.price), *least[hosts[:, 0], hosts[:, 1]]]
    upper = [*batch.vms_possible().astype(float), *batch.replicas[hosts[:, 1]].astype(float)]
    unplaced = batch.unplaced_cost
    if unplaced is not None:
        cost += list(unplaced)
        upper += list(batch.replicas.astype(float))
    model = _Model()
    for kind in np.flatnonzero(batch.replicas).tolist():
        columns = (first + np.flatnonzero(hosts[:, 1] == kind)).tolist()
        columns += [] if unplaced is None else [first + len(hosts) + kind]
        need = float(batch.replicas[kind])
        model.add(columns, [1.0] * len(columns), need, need)
    for t in range(batch.types):
        _share_type(run, model, t, hosts, first, 1.0 - slack)
    _limit_all(run, model)
    continuous = np.arange(len(cost)) >= first
    matrix = coo_array(
        (np.array(model.value), (np.array(model.row), np.array(model.column))),
        shape=(len(model.lower), len(cost)),
    ).tocsr()
    return IntegerProgram(
        cost=np.array(cost),
        upper=np.array(upper),
        matrix=matrix,
        row_lower=np.array(model.lower),
        row_upper=np.array(model.upper),
        continuous=continuous,
    )


def _share_type(
    run: Run, model: _Model, t: int, hosts: NDArray[np.int_], first: int, share: float
) -> None:
    """The replicas on type `t` share the summed capacity and places of its VMs."""
    batch = run.batch
    here = np.flatnonzero(hosts[:, 0] == t)
    kinds, columns = hosts[here, 1], (first + here).tolist()
    for resource in range(batch.capacity.shape[1]):
        capacity = share * batch.capacity[t, resource]
        if np.isfinite(capacity):
            demand = batch.demand[t, kinds, resource].tolist()
            model.add([t, *columns], [-(capacity + TOLERANCE), *demand], -np.inf, 0.0)
    if batch.max_models[t] < UNLIMITED:
        places = share * float(batch.max_models[t])
        model.add([t, *columns], [-places, *([1.0] * len(columns))], -np.inf, 0.0)
    for kind, column in zip(kinds.tolist(), columns, strict=True):
        if batch.apart[kind, kind]:
            model.add([t, column], [-1.0, 1.0], -np.inf, 0.0)


def _limit_all(run: Run, model: _Model) -> None:
    batch = run.batch
    types = list(range(batch.types))
    if batch.max_vms < UNLIMITED:
        model.add(types, [1.0] * batch.types, -np.inf, float(batch.max_vms))
    if np.isfinite(batch.max_price):
        model.add(types, batch.price.tolist(), -np.inf, batch.max_price + TOLERANCE)
