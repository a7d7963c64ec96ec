"""Where `placer refine` has groups measured: this host, into the folder of a data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from placer.errors import UsageError
from placer.interference.measurements import Measurements, read_measurements
from placer.measure.campaign import Campaign, State, shuffled
from placer.measure.dataset import DataSet, Group
from placer.measure.design import solos_needed
from placer.measure.guard import Limits
from placer.measure.onnx_models import OnnxModel
from placer.measure.runner import Window
from placer.measure.shapes import Shape

SOLO_RUNS = 3  # of each model alone


class Laboratory(Protocol):
    """Where groups are measured; the real one is `HostLaboratory`."""

    def lacking(self, groups: Sequence[Group]) -> list[Group]:
        """Return those of the groups that were not measured yet."""

    def measure(self, groups: Sequence[Group]) -> None:
        """Measure groups, and their models alone."""

    def measurements(self) -> Measurements | None:
        """Return all that was measured so far, None for nothing."""


class HostLaboratory:
    """Measures on this host, into a data set's folder."""

    def __init__(
        self,
        folder: str | Path,
        models: Mapping[str, OnnxModel],
        shapes: Mapping[str, Shape],
        *,
        repeats: int = 2,
        window: Window | None = None,
        limits: Limits | None = None,
        seed: int = 0,
        deadline: float | None = None,
        on_progress: Callable[[State], None] | None = None,
    ) -> None:
        """`shapes` are by VM type, `deadline` is on `time.monotonic`. Raises UsageError."""
        folder = Path(folder)
        if (folder / "measurements.parquet").exists() and not (
            folder / "measurements.csv"
        ).exists():
            raise UsageError(f"{folder}: holds Parquet files; a data set grows as CSV alone")
        self.data = DataSet(folder)
        self._models, self._shapes, self._repeats = models, shapes, repeats
        self._window, self._limits, self._seed = window, limits, seed
        self._deadline, self._listener = deadline, on_progress

    def lacking(self, groups: Sequence[Group]) -> list[Group]:
        """Return those of the groups that the data set has no run of."""
        return [group for group in groups if not self.data.done[group.key]]

    def measure(self, groups: Sequence[Group]) -> None:
        """Run groups, and each of their models alone again, since hosts drift."""
        if not groups:
            return
        wanted = {group.key: (group, self._repeats) for group in groups}
        for solo in solos_needed(groups):
            wanted[solo.key] = (solo, max(SOLO_RUNS, self.data.done[solo.key] + 1))
        runs = [group for group, count in wanted.values() for _ in range(count)]
        self._seed += 1
        campaign = Campaign(
            self.data, list(self._models.values()), self._shapes, window=self._window,
            limits=self._limits, seed=self._seed, deadline=self._deadline,
            on_progress=self._listener,
        )  # fmt: skip
        with campaign:
            campaign.measure(shuffled(runs, self._seed))

    def measurements(self) -> Measurements | None:
        """Read the data set as `placer train` does."""
        return read_measurements(self.data.folder) if self.data.rows else None
