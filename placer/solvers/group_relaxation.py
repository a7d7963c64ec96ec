"""Which columns add up to an element of a finite abelian group at the least cost (Gomory 1965)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from placer.solvers.backend_cpsat import solve_with_cpsat
from placer.solvers.integer_program import IntegerProgram
from placer.solvers.run import Run

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LARGEST = 1 << 20
"""The largest cyclic group that an integer program is asked about."""


def cheapest_sum(
    run: Run, orders: list[int], codes: Ints, cost: Floats, target: Ints
) -> Ints | None:
    """Return which columns, some of them several times, add up to `target` (k,).

    The group is the product of cyclic ones of these `orders`; codes (k, n): the element of each
    column; cost (n,), not negative. They are the cheapest where there is time to find these. None
    where none are found. Of columns that are the same element only the cheapest is looked at.
    CP-SAT is asked: such remainders keep HiGHS far longer.
    """
    if max(orders, default=1) > LARGEST:
        return None
    order = np.argsort(cost, kind="stable")
    _, first = np.unique(codes[:, order], axis=1, return_index=True)
    some = order[np.sort(first)]
    some = some[codes[:, some].any(axis=0)]
    modulus = np.array(orders, dtype=np.int64)
    table = np.hstack([codes[:, some], -np.diag(modulus)])
    order_of_each = np.lcm.reduce(
        modulus[:, None] // np.gcd(codes[:, some], modulus[:, None]), axis=0, initial=1
    )
    most = order_of_each - 1.0
    program = IntegerProgram(
        cost=np.append(cost[some], np.zeros(len(orders))),
        upper=np.append(most, codes[:, some] @ most // modulus),
        matrix=csr_array(table.astype(float)),
        row_lower=target.astype(float),
        row_upper=target.astype(float),
    )
    found = solve_with_cpsat(program, run).values
    return None if found is None else np.repeat(some, found[: len(some)])
