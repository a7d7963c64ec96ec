"""The compiled part of the beam search for covers: all ways to cover one more row."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from placer.solvers.jit import compiled

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Words = NDArray[np.uint64]

ONE = np.uint64(1)
ODD, ODDER = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)
FOLD = np.uint64(29)

FULL = 1e-9
"""By how much a limit may be exceeded, relative to it."""


class Choices(NamedTuple):
    """Columns by the first row that they cover, the cheapest first: n of them, R rows, L limits.

    rows (n, W): the rows of each, as bits of words; loss (n,): its reduced cost; use (n, L): what
    it takes of each limit (L,); first (R + 1,): where the columns of each first row begin.
    """

    rows: Words
    loss: Floats
    use: Floats
    limit: Floats
    first: Ints


class Beam(NamedTuple):
    """Partial covers by the first row that they lack, R + 1 times B places; W words, L limits.

    rows (R + 1, B, W): what is covered; used (R + 1, B, L): of the limits; loss (R + 1, B): the sum
    of reduced costs, infinite in places that are free; column, before (R + 1, B): the last column,
    and the place that it was added to, counted through all rows.
    """

    rows: Words
    used: Floats
    loss: Floats
    column: Ints
    before: Ints


@compiled
def first_lacking(rows: Words, begin: int, count: int) -> int:
    """Return the first row from `begin` on that is not covered, `count` where all are."""
    row = begin
    while row < count and (rows[row >> 6] >> np.uint64(row & 63)) & ONE:
        row += 1
    return row


@compiled
def place_of(beam: Beam, row: int, rows: Words, loss: float) -> np.int64:
    """Return which place a cover takes, -1 where better ones are in its way.

    One of two places that follow from what it covers: of covers alike the best stays.
    """
    places = np.uint64(beam.loss.shape[1])
    code = np.uint64(0)
    for w in range(len(rows)):
        code = (code ^ rows[w]) * ODD
        code ^= code >> FOLD
    at = np.int64(code % places)
    if loss < beam.loss[row, at]:
        return at
    if (beam.rows[row, at] == rows).all():
        return np.int64(-1)
    code = (code + ODD) * ODDER
    at = np.int64((code ^ (code >> FOLD)) % places)
    return at if loss < beam.loss[row, at] else np.int64(-1)


@compiled
def cover_row(choices: Choices, beam: Beam, row: int, most: float) -> None:
    """Add to each cover whose first lacking row this is every column that covers it first.

    Covers with a loss of `most` or more are left out.
    """
    count, places, words = beam.loss.shape[0] - 1, beam.loss.shape[1], beam.rows.shape[2]
    limits = choices.limit.shape[0]
    rows = np.zeros(words, np.uint64)
    for s in range(places):
        before = beam.loss[row, s]
        if before >= most:
            continue
        for j in range(choices.first[row], choices.first[row + 1]):
            loss = before + choices.loss[j]
            if loss >= most:
                break
            free = True
            for w in range(words):
                free = free and not (beam.rows[row, s, w] & choices.rows[j, w])
            for x in range(limits):
                most_used = choices.limit[x] * (1.0 + FULL)
                free = free and beam.used[row, s, x] + choices.use[j, x] <= most_used
            if not free:
                continue
            for w in range(words):
                rows[w] = beam.rows[row, s, w] | choices.rows[j, w]
            lacking = first_lacking(rows, row + 1, count)
            at = place_of(beam, lacking, rows, loss)
            if at < 0:
                continue
            beam.rows[lacking, at] = rows
            for x in range(limits):
                beam.used[lacking, at, x] = beam.used[row, s, x] + choices.use[j, x]
            beam.loss[lacking, at], beam.column[lacking, at] = loss, j
            beam.before[lacking, at] = row * places + s
