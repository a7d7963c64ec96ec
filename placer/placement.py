"""The placement: which replicas share which VM, what that costs, and how far it is proved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetPydanticSchema,
    ValidationError,
    field_serializer,
)

from placer.repeated import Repeated
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


class EqualVms(Repeated[PlacedVm]):
    """VMs of which equal ones are kept once; each is named for its type and numbered."""

    def __init__(self, contents: Iterable[tuple[str, list[PlacedModel]]], counts: Iterable[int]):
        """`contents`: VM type and replicas; counts: how many VMs hold each."""
        kept, numbers = [], Counter[str]()
        counted = list(zip(contents, counts, strict=True))
        for (vm_type, models), count in counted:
            kept.append(_named(numbers[vm_type], vm_type, models))
            numbers[vm_type] += count
        super().__init__(kept, (count for _, count in counted))

    def _at(self, entry: PlacedVm, offset: int) -> PlacedVm:
        return _named(number_of(entry) + offset, entry.vm_type, entry.models)


def number_of(vm: PlacedVm) -> int:
    """Return the number in the name of one of `EqualVms`."""
    return int(vm.name.removeprefix(f"{vm.vm_type}-"))


def _named(number: int, vm_type: str, models: list[PlacedModel]) -> PlacedVm:
    return PlacedVm.model_construct(name=f"{vm_type}-{number}", vm_type=vm_type, models=models)


_Vms = Annotated[
    Sequence[PlacedVm], GetPydanticSchema(lambda _, schema_of: schema_of(list[PlacedVm]))
]
"""What is read is a list."""


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
    vms: _Vms
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

    @field_serializer("vms")
    def _one_by_one(self, vms: Sequence[PlacedVm]) -> list[PlacedVm]:
        return list(vms)

    def assignment(self) -> Repeated[tuple[str, list[str]]]:
        """Return the VM type and the model names of each VM."""
        runs = [(vm.vm_type, [m.name for m in vm.models], len(at)) for vm, at in self.equal_vms()]
        return Repeated([(vm_type, names) for vm_type, names, _ in runs], [n for *_, n in runs])

    def equal_vms(self) -> Iterator[tuple[PlacedVm, range]]:
        """Yield VMs, each with the places of those of equal content that follow it, its own first.

        Those that were read from a file come one by one.
        """
        if isinstance(self.vms, Repeated):
            yield from self.vms.runs()
        else:
            yield from ((vm, range(i, i + 1)) for i, vm in enumerate(self.vms))

    def to_frames(self) -> dict[str, pd.DataFrame]:
        """Return pandas tables: `vms` (one row each), `replicas` (one row each) and `unplaced`."""
        from placer.frames import placement_frames

        return placement_frames(self)
