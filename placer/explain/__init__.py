"""Why an instance is infeasible, and why replicas are left out, in the user's words."""

from __future__ import annotations

from placer.explain.infeasible import explain_infeasible
from placer.explain.unplaced import explain_unplaced

__all__ = ["explain_infeasible", "explain_unplaced"]
