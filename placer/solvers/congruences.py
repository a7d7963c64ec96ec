"""Integer points that keep congruences, and of these the ones near a place."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from placer.solvers.lattice_kernel import reduce_basis

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Objects = NDArray[np.object_]

STAGE = 10
"""Binary digits of a remainder that a step of a reduction makes matter."""

STRESSES = 4
"""Steps, each with as many more, after which remainders that can be 0 must be."""

WAVER = 1.0
"""How likely the farther plane is where both are as near, twice."""

EXCHANGES = 300_000
"""The most exchanges of one reduction."""

ROUNDS = 8
"""How often a far point is moved near: floating point sees some digits at a time."""


class Congruences:
    """The points z (q,) of whole numbers for which values @ z is given modulo some orders.

    metric (q, dim): where each unit vector lies; what is near or short is measured there. basis
    (q, q): short points whose values are 0.
    """

    def __init__(self, metric: Floats, values: Objects, orders: list[int]) -> None:
        """Raises ArithmeticError where remainders do not vanish."""
        self.metric, self._values, self._orders = metric, values, orders
        self.basis: Ints = np.eye(len(metric), dtype=np.int64)
        self._steps = [
            self._impose(said, order) for said, order in zip(values, orders, strict=True)
        ]
        reduce_basis(self.basis @ metric, self.basis, EXCHANGES)
        self._orthogonal, self._triangle = np.linalg.qr((self.basis @ metric).T)

    def _impose(self, said: Objects, order: int) -> tuple[Objects, int] | None:
        """Keep one more congruence; return a point that does not, and its value, if there is one.

        The basis and a remainder of the order itself are reduced together, remainders weighing
        more and more, until they are 0 in all rows but one.
        """
        rest: Objects = self.basis.astype(object) @ said % order
        if not rest.any():
            return None
        rest = np.append(np.where(2 * rest > order, rest - order, rest), order)
        count = len(self.basis)
        rows = np.zeros((count + 1, count), dtype=np.int64)
        rows[:count] = self.basis
        size = float(np.linalg.norm(self.metric, axis=1).max(initial=1.0))
        for shift in range(order.bit_length() - STAGE, -STAGE * STRESSES - 1, -STAGE):
            weighed = np.array([size * shifted(value, shift) for value in rest.tolist()])
            vectors = np.ascontiguousarray(np.column_stack([rows @ self.metric, weighed]))
            whole = np.hstack([rows, np.eye(count + 1, dtype=np.int64)])
            reduce_basis(vectors, whole, EXCHANGES)
            rows, rest = whole[:, :count].copy(), whole[:, count:].astype(object) @ rest
        left = np.flatnonzero(rest)
        if len(left) != 1:
            raise ArithmeticError("remainders that do not vanish")
        self.basis = np.delete(rows, left[0], axis=0)
        return rows[left[0]].astype(object), int(rest[left[0]])

    def point(self, target: list[int]) -> Objects | None:
        """Return a point whose values are `target` modulo the orders, None where there is none."""
        found: Objects = np.zeros(len(self.basis), dtype=object)
        for said, order, step, wanted in zip(
            self._values, self._orders, self._steps, target, strict=True
        ):
            lacking = int(wanted - sum(said * found)) % order
            if lacking and (step is None or lacking % step[1]):
                return None
            if step is not None:
                found = found + lacking // step[1] * step[0]
        return found

    def near(
        self, point: Objects, place: Floats, rng: np.random.Generator | None = None
    ) -> Objects:
        """Return `point` moved by the basis near `place` (dim,): nearest planes, in turn (Babai).

        With `rng` one of the two nearest planes, each the likelier the nearer it is (Klein 2000).
        Raises ArithmeticError where floating point does not reach so far.
        """
        for _ in range(ROUNDS if rng is None else 1):
            away = self._orthogonal.T @ (point.astype(float) @ self.metric - place)
            times = np.zeros(len(self.basis), dtype=object)
            for i in range(len(self.basis) - 1, -1, -1):
                share = away[i] / self._triangle[i, i]
                step = float(np.rint(share))
                if rng is not None and rng.random() < WAVER * abs(share - step):
                    step += float(np.sign(share - step))
                if not np.isfinite(step):
                    raise ArithmeticError("a point that is too far")
                times[i] = int(step)
                away -= step * self._triangle[:, i]
            if not times.any():
                break
            point = point - times @ self.basis.astype(object)
        return point


def shifted(value: int, shift: int) -> float:
    """Return `value` over two to the power of `shift`, however large both are."""
    some = max(0, shift - 60)
    return float(value >> some) * 2.0 ** (some - shift)
