"""Which integer vectors the columns of an integer matrix add up to, told exactly.

Z^m modulo the lattice of a nonsingular integer matrix is a finite abelian group. A character of it
is an integer row c with an order o: c @ v is 0 modulo o for every v of the lattice, and a vector
for which that holds for all characters is in the lattice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Objects = NDArray[np.object_]

BITS, LIFTS = 24, 20
"""Binary digits that a lift adds, and how many lifts there are."""

DRAWN = 44
"""Random characters that are drawn: more than such a group has factors."""

MIXED = 24
"""Random sums of entries that are looked at first: one of these has the order of its whole row."""

STABLE = 1 << 36
"""Residuals above this say that floating point does not invert the matrix well enough."""

LARGEST = 1 << (BITS * LIFTS // 2 - 32)
"""The largest order that so many digits tell."""


@dataclass(frozen=True)
class Characters:
    """k characters: rows (k, m), of whole numbers of any size, and the order of each."""

    rows: Objects
    orders: list[int]

    def __len__(self) -> int:
        return len(self.orders)

    def values(self, vectors: Ints) -> Objects:
        """Return what each says of each of `vectors` (m, n), modulo its order (k, n)."""
        result = np.zeros((len(self), vectors.shape[1]), dtype=object)
        for column in range(vectors.shape[1]) if len(self) else ():
            used = np.flatnonzero(vectors[:, column])
            whole = vectors[used, column].astype(object)
            result[:, column] = self.rows[:, used] @ whole if len(used) else 0
        return result % np.array(self.orders, dtype=object)[:, None]

    def of_one(self, vector: Ints) -> list[int]:
        """Return what each says of one vector (m,)."""
        result: list[int] = self.values(vector[:, None])[:, 0].tolist()
        return result


def characters_of(basis: Ints, rng: np.random.Generator) -> Characters | None:
    """Return the characters of the lattice of `basis` (m, m), which is nonsingular.

    None where numbers become too large. Random characters are found as integer rows times the
    inverse, to many digits by exact residuals (Wan, J. Symbolic Comput. 2006), and are whole
    numbers over a common denominator.
    """
    digits = _random_fractions(basis, rng)
    if digits is None:
        return None
    one, modulus = 1 << (BITS * LIFTS), 1
    for value in digits.reshape(-1).tolist():
        rest = value * modulus % one
        if min(rest, one - rest) > one >> 64:
            fraction = Fraction(rest, one).limit_denominator(one >> (BITS * LIFTS // 2))
            modulus *= fraction.denominator
            if modulus > LARGEST:
                return None
    rows = (digits * modulus + one // 2) // one % modulus
    found = _independent(rows, modulus)
    return found if not found.values(basis).any() else None


def vanishing(characters: Characters, vectors: Ints) -> Characters:
    """Return the characters that say 0 of all of `vectors` (m, n) too.

    They are those of the lattice that these vectors make larger.
    """
    if not len(characters):
        return characters
    modulus = math.lcm(*characters.orders)
    times = np.array([modulus // order for order in characters.orders], dtype=object)[:, None]
    rows = characters.rows * times % modulus
    said = characters.values(vectors) * times % modulus
    table = np.hstack([said, rows])
    for column in range(vectors.shape[1]):
        pivot = _alone(table, column, modulus)
        if pivot is not None:
            table[pivot] = table[pivot] * (modulus // math.gcd(table[pivot, column], modulus))
            table[pivot] %= modulus
    return _independent(table[:, vectors.shape[1] :], modulus)


def _random_fractions(basis: Ints, rng: np.random.Generator) -> Objects | None:
    """Return random integer rows times the inverse, modulo 1 in binary digits (DRAWN, m)."""
    from scipy.linalg import lu_factor, lu_solve
    from scipy.sparse import csr_array

    transposed, factors = csr_array(basis.T), lu_factor(basis.T.astype(float))
    rest = rng.integers(-3, 4, size=(len(basis), DRAWN))
    whole = np.rint(lu_solve(factors, rest.astype(float))).astype(np.int64)
    rest = rest - transposed @ whole
    digits = np.zeros(rest.shape, dtype=object)
    for _ in range(LIFTS):
        if np.abs(rest).max(initial=0) > STABLE:
            return None
        part = np.rint(lu_solve(factors, rest.astype(float)) * 2.0**BITS).astype(np.int64)
        rest = (rest << BITS) - transposed @ part
        digits = (digits << BITS) + part
    return digits.T % (1 << (BITS * LIFTS))


def _alone(table: Objects, column: int, modulus: int) -> int | None:
    """Add rows to others until one at most is not 0 in `column`; return which, None for none."""
    while True:
        nonzero = np.flatnonzero(table[:, column]).tolist()
        if len(nonzero) < 2:
            return nonzero[0] if nonzero else None
        least = min(nonzero, key=lambda row: table[row, column])
        for row in nonzero:
            if row != least:
                times = table[row, column] // table[least, column]
                table[row] = (table[row] - times * table[least]) % modulus


def _independent(rows: Objects, modulus: int) -> Characters:
    """Return few characters that make up all that `rows` (n, m) modulo `modulus` do."""
    mixed = np.random.default_rng(0).integers(0, 1 << 30, size=(rows.shape[1], MIXED))
    table = np.hstack([rows @ mixed.astype(object) % modulus, rows])
    found, orders = [], []
    while table.any():
        row, column = _largest_order(table, modulus)
        table[[0, row]] = table[[row, 0]]
        pivot = _alone(table, column, modulus)
        assert pivot is not None
        chosen = table[pivot, MIXED:]
        common: int = reduce(math.gcd, chosen.tolist(), modulus)
        found.append(chosen // common)
        orders.append(modulus // common)
        table = np.delete(table, pivot, axis=0)
    order = sorted(range(len(orders)), key=lambda i: -orders[i])
    shape = (len(found), rows.shape[1])
    every: Any = np.array(found, dtype=object).reshape(shape)
    return Characters(every[order], [orders[i] for i in order])


def _largest_order(table: Objects, modulus: int) -> tuple[int, int]:
    """Return row and column of the entry that has the largest order."""
    best, place = modulus + 1, (0, 0)
    for row, column in zip(*np.nonzero(table), strict=True):
        common = math.gcd(table[row, column], modulus)
        if common < best:
            best, place = common, (int(row), int(column))
            if common == 1:
                break
    return place
