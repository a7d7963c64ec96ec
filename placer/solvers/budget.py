"""How many VMs a placement better than the incumbent can use: what is spent cannot exceed it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from placer.solvers.run import Run

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Budget:
    """What VMs cost, and what the replicas cost at the least wherever they are.

    price (T,): of one VM, as the objective counts it; possible (T,): how many could be in use;
    replicas: the least that the replicas of the batch cost together beside the VMs' price.
    """

    price: Floats
    possible: Floats
    replicas: float

    @classmethod
    def of(cls, run: Run) -> Budget:
        """Return the budget of the whole batch of `run`."""
        batch = run.batch
        least = np.min([run.costs.least_member_cost(t) for t in range(batch.types)], axis=0)
        if batch.unplaced_cost is not None:
            least = np.minimum(least, batch.unplaced_cost)
        used = batch.replicas > 0
        return cls(
            batch.instance.objective.price * batch.price,
            batch.vms_possible().astype(float),
            float(batch.replicas[used] @ least[used]),
        )

    def slack(self, least: Floats, objective: float) -> float:
        """Return the most that VMs of negative reduced cost can take off the linear bound.

        least (T,): the least reduced cost of each type. Holds for every placement that costs at
        most `objective`: its VMs cost no more than that less what its replicas do. A fractional
        knapsack over the types.
        """
        gain = np.maximum(-least, 0.0)
        left = objective - self.replicas
        left += 1e-9 * (1.0 + abs(objective) + abs(self.replicas))
        if not gain.any():
            return 0.0
        if not np.isfinite(gain).all() or not np.isfinite(left) or left < 0:
            return float(np.inf)
        taken = 0.0
        free = self.price <= 0
        taken += float(gain[free] @ self.possible[free])
        rest = np.flatnonzero(~free)
        for t in rest[np.argsort(-gain[rest] / self.price[rest])].tolist():
            count = min(self.possible[t], left / self.price[t])
            taken += gain[t] * count
            left -= count * self.price[t]
        return taken
