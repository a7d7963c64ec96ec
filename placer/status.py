"""What is proved, why a solve stopped, and the gap: three things that are kept apart."""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """What is proved: an optimum within the gap, a placement, that none exists, or nothing."""

    OPTIMAL = "optimal"
    FEASIBLE = "feasible"
    INFEASIBLE = "infeasible"
    UNKNOWN = "unknown"


class StoppedBy(StrEnum):
    """Why a solver stopped, whatever it had proved by then."""

    PROOF = "proof"
    GAP = "gap"
    TIME = "time"
    INTERRUPT = "interrupt"
    COMPLETE = "complete"  # a heuristic that ran to its own end


def gap_between(objective: float | None, bound: float | None) -> float | None:
    """Return (objective - bound) / max(|objective|, 1e-9), or None where either is unknown."""
    if objective is None or bound is None:
        return None
    return max(0.0, (objective - bound) / max(abs(objective), 1e-9))
