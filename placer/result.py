"""What a solve gives back: the placement, its score, and what there is to say about both."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from placer.placement import Placement
from placer.problem import Instance
from placer.scoring import Score
from placer.status import Status

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Result:
    """The outcome of one solve.

    `score` is None where there is no placement. `explanation` says in sentences why the instance
    is infeasible, `notes` what a user should know about the figures (extrapolation, limits).
    """

    instance: Instance
    placement: Placement
    score: Score | None
    explanation: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def status(self) -> Status:
        """What is proved."""
        return self.placement.status

    @property
    def objective(self) -> float | None:
        """The objective of the placement, None where there is none."""
        return self.placement.objective

    @property
    def bound(self) -> float | None:
        """The proven lower bound, None where there is none."""
        return self.placement.bound

    @property
    def gap(self) -> float | None:
        """(objective - bound) / max(|objective|, 1e-9), None where either is unknown."""
        return self.placement.gap

    def to_frames(self) -> dict[str, pd.DataFrame]:
        """Return pandas tables: `vms`, `replicas` and `unplaced`."""
        return self.placement.to_frames()
