"""The working state of growth: what it stands on, groups that may grow, and their children."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from placer.solvers.batch import Batch
from placer.solvers.columns import TogetherIndex
from placer.solvers.pair_search import TypeClass, classes_of, searchable
from placer.solvers.run import Run

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Ground:
    """What growth stands on: the run, its batch (or what is left of it), and costs bounded below.

    least_cost: for each VM type what a replica of each kind costs at the least there (K,).
    """

    run: Run
    batch: Batch
    together: TogetherIndex
    least_cost: list[Floats]

    @classmethod
    def of(cls, run: Run) -> Ground:
        """Return the ground of the whole batch of `run`."""
        least = [run.costs.least_member_cost(t) for t in range(run.batch.types)]
        return cls(run, run.batch, TogetherIndex(run.batch), least)

    @cached_property
    def classes(self) -> list[TypeClass]:
        """The run's VM types by class, none where costs are no sums over pairs."""
        return classes_of(self.run) if searchable(self.run) else []


@dataclass(frozen=True)
class Frontier:
    """Groups that may grow: n of one degree d, members by place in the search's order.

    places, floors (n, d): members and floors of their slowdowns; room (n, R); base (n,): a bound
    of reduced cost before anybody joins.
    """

    places: NDArray[np.int32]
    floors: Floats
    room: Floats
    base: Floats

    def part(self, rows: slice | Ints) -> Frontier:
        """Return some of the groups."""
        return Frontier(self.places[rows], self.floors[rows], self.room[rows], self.base[rows])


@dataclass
class Children:
    """Groups one larger than a frontier's: row of the parent, place of who joins, bound."""

    row: list[Ints] = field(default_factory=list)
    place: list[Ints] = field(default_factory=list)
    bound: list[Floats] = field(default_factory=list)
    count: int = 0

    def add(self, row: Ints, place: Ints, bound: Floats) -> None:
        """Take more children."""
        self.row.append(row)
        self.place.append(place)
        self.bound.append(bound)
        self.count += len(row)

    def whole(self) -> tuple[Ints, Ints, Floats]:
        """Return all of them."""
        if not self.row:
            return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
        return np.concatenate(self.row), np.concatenate(self.place), np.concatenate(self.bound)

    def cut(self, most: int) -> float:
        """Keep the `most` that promise most; return the least bound of what is dropped."""
        row, place, bound = self.whole()
        if len(row) <= most:
            return float(np.inf)
        order = np.argpartition(bound, most)
        dropped = float(bound[order[most:]].min())
        keep = order[:most]
        self.row, self.place, self.bound = [row[keep]], [place[keep]], [bound[keep]]
        self.count = most
        return dropped


def lowest_each(scores: Floats, each: int) -> tuple[Ints, Ints]:
    """Return row and column of the `each` lowest finite scores of every row (n, k)."""
    if each < scores.shape[1]:
        column = np.argpartition(scores, each - 1, axis=1)[:, :each]
    else:
        column = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    row = np.repeat(np.arange(len(scores)), column.shape[1])
    column = column.reshape(-1)
    finite = np.isfinite(scores[row, column])
    return row[finite], column[finite]


def distinct(places: NDArray[np.int32], row: Ints, place: Ints) -> tuple[Ints, Ints]:
    """Return those of the children that are different groups, whatever the members' order."""
    members = np.sort(np.column_stack([places[row], place]), axis=1)
    _, first = np.unique(members, axis=0, return_index=True)
    return row[first], place[first]


def best_of_each(owner: Ints, score: Floats, most: int) -> Ints:
    """Return the rows that are among the `most` lowest scores of their owner (n,)."""
    order = np.lexsort((score, owner))
    sorted_owner = owner[order]
    start = np.flatnonzero(np.append(True, sorted_owner[1:] != sorted_owner[:-1]))
    rank = np.arange(len(order)) - np.repeat(start, np.diff(np.append(start, len(order))))
    chosen: Ints = order[rank < most]
    return chosen
