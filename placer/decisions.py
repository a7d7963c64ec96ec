"""What came of an arrival at a fleet, or of a departure from it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Slowdown:
    """One replica's slowdown before and after a change of its VM; None where it was not there."""

    model: str
    before: float | None
    after: float | None


@dataclass(frozen=True)
class Decision:
    """Where an arrival went, or the reason why nowhere.

    growth: what it adds to the objective. slowdowns: of all on that VM, the newcomer included.
    """

    model: str
    vm: str | None = None
    vm_type: str | None = None
    opened: bool = False
    growth: float | None = None
    slowdowns: list[Slowdown] = field(default_factory=list)
    reason: str | None = None

    @property
    def placed(self) -> bool:
        """Whether the arrival has a VM."""
        return self.vm is not None

    def to_dict(self) -> dict[str, Any]:
        """Return the decision as a JSON object."""
        return {"placed": self.placed, **asdict(self)}


@dataclass(frozen=True)
class Departure:
    """Which replica left, or the reason why none could.

    saving: what the objective falls by. slowdowns: of all on that VM, the leaver included.
    """

    model: str
    vm: str | None = None
    vm_type: str | None = None
    closed: bool = False
    saving: float | None = None
    slowdowns: list[Slowdown] = field(default_factory=list)
    reason: str | None = None

    @property
    def removed(self) -> bool:
        """Whether a replica left."""
        return self.vm is not None

    def to_dict(self) -> dict[str, Any]:
        """Return the departure as a JSON object."""
        return {"removed": self.removed, **asdict(self)}
