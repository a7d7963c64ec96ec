"""Sequences in which equal entries follow each other, each kept once with how often it comes.

A placement of a million replicas has a few hundred different VMs.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, groupby
from typing import Generic, TypeVar, overload

T = TypeVar("T")


class Repeated(Sequence[T], Generic[T]):
    """A sequence of entries, each of which comes a number of times in a row."""

    def __init__(self, entries: Iterable[T], counts: Iterable[int]) -> None:
        """`entries` and, for each, how often it comes; those that never come are left out."""
        kept = [(entry, n) for entry, n in zip(entries, counts, strict=True) if n > 0]
        self._entries = [entry for entry, _ in kept]
        self._ends = list(accumulate(n for _, n in kept))

    @classmethod
    def of(cls, entries: Iterable[T]) -> Repeated[T]:
        """Return `entries` with equals that follow each other kept once."""
        if isinstance(entries, Repeated):
            return entries
        counted = [(entry, sum(1 for _ in equals)) for entry, equals in groupby(entries)]
        return cls((entry for entry, _ in counted), (n for _, n in counted))

    def runs(self) -> Iterator[tuple[T, range]]:
        """Yield each entry with its places."""
        begin = 0
        for entry, end in zip(self._entries, self._ends, strict=True):
            yield entry, range(begin, end)
            begin = end

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[T]:
        for entry, places in self.runs():
            for place in places:
                yield self._at(entry, place - places.start)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return [self[place] for place in range(len(self))[index]]
        place = range(len(self))[index]
        run = bisect_right(self._ends, place)
        return self._at(self._entries[run], place - (self._ends[run - 1] if run else 0))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} entries, {len(self._entries)} runs)"

    def _at(self, entry: T, offset: int) -> T:
        """Return the entry as it is `offset` places after the first of its run."""
        return entry
