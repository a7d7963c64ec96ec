"""The placement: which replicas share which VM, what that costs, and how far it is proved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from placer.status import Status
from placer.validation import input_error

if TYPE_CHECKING:
    import pandas as pd

Number = Annotated[float, Field(strict=True)]

FORMAT: Literal["placer/placement"] = "placer/placement"
VERSION: Literal[1] = 1


class _Open(BaseModel):
    """Fields that other programs added are kept, since the format grows by adding."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)


class PlacedModel(_Open):
    """One replica on its VM; latencies in ms, null where the instance gives no solo latency."""

    name: str = Field(strict=True)
    slowdown: Number | None = None
    latency_ms: Number | None = None
    slo_ms: Number | None = None


class PlacedVm(_Open):
    """One VM in use and the replicas on it."""

    name: str = Field(strict=True)
    vm_type: str = Field(strict=True)
    models: list[PlacedModel]


class UnplacedModel(_Open):
    """One replica that no VM holds, and what stopped it on the nearest VM type."""

    name: str = Field(strict=True)
    reason: str | None = None


class Terms(_Open):
    """The objective by term, each already multiplied by its weight."""

    price: Number = 0.0
    degradation: Number = 0.0
    latency: Number = 0.0
    slo: Number = 0.0
    unplaced: Number = 0.0


class SolverRecord(_Open):
    """Who made the placement, with what settings, and why it stopped."""

    name: str
    version: str = ""
    seconds: Number | None = None
    seed: int | None = None
    workers: int | None = None
    stopped_by: str | None = None


class Placement(_Open):
    """A placement file: assignment, objective by term, proven bound, and the solver's record."""

    format: Literal["placer/placement"] = FORMAT
    version: Literal[1] = VERSION
    instance: str = ""
    status: Status = Status.FEASIBLE
    objective: Number | None = None
    bound: Number | None = None
    gap: Number | None = None
    terms: Terms | None = None
    vms: list[PlacedVm]
    unplaced: list[str | UnplacedModel] = Field(default_factory=list)
    solver: SolverRecord | None = None

    @classmethod
    def from_dict(cls, data: object) -> Placement:
        """Return the placement that `data`, a parsed JSON object, describes. Raises InputError."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise input_error(error, cls) from None

    def to_dict(self) -> dict[str, Any]:
        """Return the placement file's JSON object."""
        return self.model_dump(mode="json")

    def assignment(self) -> list[tuple[str, list[str]]]:
        """Return the VM type and the model names of each VM."""
        return [(vm.vm_type, [model.name for model in vm.models]) for vm in self.vms]

    def to_frames(self) -> dict[str, pd.DataFrame]:
        """Return pandas tables: `vms` (one row each), `replicas` (one row each) and `unplaced`."""
        from placer.frames import placement_frames

        return placement_frames(self)
