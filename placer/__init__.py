"""Places inference models on VMs: cheapest, least interference, SLOs kept, with a proven bound.

The public names are imported when first used, so that `import placer` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from placer._version import __version__

if TYPE_CHECKING:
    from placer.checker import CheckReport, Violation, check
    from placer.decisions import Decision, Departure
    from placer.errors import InputError, PlacerError
    from placer.files import read_instance, read_placement, write_instance, write_placement
    from placer.frames import instance_from_frames, instance_to_frames
    from placer.interference.measurements import read_measurements
    from placer.interference.predictor import Predictor
    from placer.interference.profiles import ModelProfile, VmTypeProfile
    from placer.online import OnlinePlacer
    from placer.placement import Placement
    from placer.problem import Instance, Model, Objective, Penalty, Rules, VmType
    from placer.result import Result
    from placer.scoring import score
    from placer.solvers.run import Progress
    from placer.solving import solve
    from placer.status import Status, StoppedBy

_HOMES = {
    "CheckReport": "placer.checker",
    "Decision": "placer.decisions",
    "Departure": "placer.decisions",
    "InputError": "placer.errors",
    "Instance": "placer.problem",
    "Model": "placer.problem",
    "ModelProfile": "placer.interference.profiles",
    "Objective": "placer.problem",
    "OnlinePlacer": "placer.online",
    "Penalty": "placer.problem",
    "Placement": "placer.placement",
    "PlacerError": "placer.errors",
    "Predictor": "placer.interference.predictor",
    "Progress": "placer.solvers.run",
    "Result": "placer.result",
    "Rules": "placer.problem",
    "Status": "placer.status",
    "StoppedBy": "placer.status",
    "Violation": "placer.checker",
    "VmType": "placer.problem",
    "VmTypeProfile": "placer.interference.profiles",
    "check": "placer.checker",
    "instance_from_frames": "placer.frames",
    "instance_to_frames": "placer.frames",
    "read_instance": "placer.files",
    "read_measurements": "placer.interference.measurements",
    "read_placement": "placer.files",
    "score": "placer.scoring",
    "solve": "placer.solving",
    "write_instance": "placer.files",
    "write_placement": "placer.files",
}

__all__ = [
    "CheckReport",
    "Decision",
    "Departure",
    "InputError",
    "Instance",
    "Model",
    "ModelProfile",
    "Objective",
    "OnlinePlacer",
    "Penalty",
    "Placement",
    "PlacerError",
    "Predictor",
    "Progress",
    "Result",
    "Rules",
    "Status",
    "StoppedBy",
    "Violation",
    "VmType",
    "VmTypeProfile",
    "__version__",
    "check",
    "instance_from_frames",
    "instance_to_frames",
    "read_instance",
    "read_measurements",
    "read_placement",
    "score",
    "solve",
    "write_instance",
    "write_placement",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'placer' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
