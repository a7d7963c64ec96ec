"""The instance as its author writes it: VM types, models, interference, objective and rules.

Everything here is validated when it is built and frozen afterwards; what the fields mean, with
their units and defaults, is in docs/formats.md. No solver and no predictor is imported.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
    ValidationError,
    model_validator,
)

from placer import consistency
from placer.errors import InputError
from placer.validation import input_error

FORMAT: Literal["placer/instance"] = "placer/instance"
VERSION: Literal[1] = 1
ANY_VM_TYPE = "*"
TOLERANCE = 1e-6
"""Absolute tolerance with which capacity, SLO and price limits are compared."""


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _number(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 10**300:
        return float("inf")
    return value


_Finite = Annotated[float, BeforeValidator(_number), Field(strict=True, allow_inf_nan=False)]
NonNegative = Annotated[_Finite, Field(ge=0)]
Positive = Annotated[_Finite, Field(gt=0)]
Count = Annotated[int, BeforeValidator(_whole), Field(strict=True, ge=0, le=1_000_000_000)]
Name = Annotated[str, Field(strict=True, min_length=1)]
Quantile = Annotated[_Finite, Field(gt=0, lt=1)]
Feature = Annotated[
    Annotated[_Finite, Tag("number")]
    | Annotated[str, Field(strict=True), Tag("text")]
    | Annotated[None, Tag("null")],
    Discriminator(
        lambda v: "text" if isinstance(v, str) else "null" if v is None else "number",
        custom_error_type="feature_type",
        custom_error_message="a number, a text or null",
    ),
]
Amounts = dict[Name, NonNegative]


def _number_or_map(value: object) -> str:
    return "map" if isinstance(value, Mapping) else "number"


def _word_or_object(value: object) -> str:
    return "word" if isinstance(value, str) else "object"


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class VmType(_Frozen):
    """One type of VM: capacity by resource, price of one VM, how many there are (null: no limit).

    `max_models` is the co-location degree, the most replicas on one VM.
    """

    name: Name
    capacity: Amounts
    price: NonNegative = 0.0
    count: Count | None = None
    max_models: Count | None = None
    features: dict[Name, Feature] = Field(default_factory=dict)


class Model(_Frozen):
    """One model to place, with as many interchangeable replicas as it needs.

    Latencies are in milliseconds, rates in requests per second, demands in the units of the
    VM types' capacities.
    """

    name: Name
    replicas: Count = 1
    demand: Amounts = Field(default_factory=dict)
    demand_on: dict[Name, Amounts] = Field(default_factory=dict)
    cost_on: dict[Name, NonNegative] = Field(default_factory=dict)
    weight: NonNegative = 1.0
    rate_rps: NonNegative | None = None
    solo_latency_ms: (
        Annotated[
            Annotated[Positive, Tag("number")] | Annotated[dict[Name, Positive], Tag("map")],
            Discriminator(_number_or_map),
        ]
        | None
    ) = None
    slo_ms: Positive | None = None
    vm_types: list[Name] | None = None
    features: dict[Name, Feature] = Field(default_factory=dict)

    def solo_latency_on(self, vm_type: str) -> float | None:
        """Return the latency in ms of a lone replica on `vm_type`, None where not given."""
        if isinstance(self.solo_latency_ms, dict):
            return self.solo_latency_ms.get(vm_type)
        return self.solo_latency_ms

    def demand_of(self, vm_type: str) -> Mapping[str, float]:
        """Return the resources that one replica takes on `vm_type`."""
        return self.demand_on.get(vm_type, self.demand)

    def may_run_on(self, vm_type: str) -> bool:
        """Return whether the model's own list of VM types admits `vm_type`."""
        return self.vm_types is None or vm_type in self.vm_types


class NoInterference(_Frozen):
    """Replicas that share a VM do not slow each other down."""

    kind: Literal["none"] = "none"


class PairwiseInterference(_Frozen):
    """Slowdown of a target by each co-runner: `slowdown[vm_type][target][co_runner]`.

    `combine` says how several co-runners add up: 1 + the sum of (s - 1), or the product.
    """

    kind: Literal["pairwise"] = "pairwise"
    combine: Literal["sum", "product"] = "sum"
    slowdown: dict[Name, dict[Name, dict[Name, Positive]]] = Field(default_factory=dict)
    default: Positive | None = None

    def table_for(self, vm_type: str) -> Mapping[str, Mapping[str, float]]:
        """Return target -> co-runner -> slowdown on `vm_type`, "*" speaking for types not named."""
        return self.slowdown.get(vm_type, self.slowdown.get(ANY_VM_TYPE, {}))

    def pair(self, vm_type: str, target: str, co_runner: str) -> float | None:
        """Return the slowdown of `target` beside `co_runner`, or None where nothing gives it."""
        return self.table_for(vm_type).get(target, {}).get(co_runner, self.default)


class GroupEntry(_Frozen):
    """One listed group: model names (repeats are replicas) and the slowdown of each."""

    models: list[Name] = Field(min_length=1)
    slowdown: list[Positive]


class GroupsInterference(_Frozen):
    """Slowdown of whole groups; what is not listed is forbidden or falls back on a pair table."""

    kind: Literal["groups"] = "groups"
    slowdown: dict[Name, list[GroupEntry]] = Field(default_factory=dict)
    missing: Literal["forbid", "pairwise"] = "forbid"
    pairwise: PairwiseInterference | None = None

    def entries_for(self, vm_type: str) -> list[GroupEntry]:
        """Return the listed groups of `vm_type`, "*" speaking for types not named."""
        return self.slowdown.get(vm_type, self.slowdown.get(ANY_VM_TYPE, []))


class PredictorInterference(_Frozen):
    """Slowdown by a trained predictor: "builtin", or a path relative to the instance's file.

    `measured` is a folder of measurements: groups that ran there have their measured slowdowns.
    """

    kind: Literal["predictor"] = "predictor"
    predictor: Name = "builtin"
    measured: Name | None = None
    slo_quantile: Quantile | None = None


def _kind_of_interference(value: object) -> object:
    if isinstance(value, Mapping):
        return value.get("kind", "none")
    return getattr(value, "kind", None)


Interference = Annotated[
    Annotated[NoInterference, Tag("none")]
    | Annotated[PairwiseInterference, Tag("pairwise")]
    | Annotated[GroupsInterference, Tag("groups")]
    | Annotated[PredictorInterference, Tag("predictor")],
    Discriminator(_kind_of_interference),
]


class Penalty(_Frozen):
    """A limit that may be broken at a price for each unit of weight."""

    penalty: NonNegative


Ban = Annotated[
    Annotated[Literal["forbid"], Tag("word")] | Annotated[Penalty, Tag("object")],
    Discriminator(_word_or_object),
]


class Objective(_Frozen):
    """Weights of the objective's terms, and what breaking an SLO or not placing costs."""

    price: NonNegative = 1.0
    degradation: NonNegative = 1.0
    latency: NonNegative = 0.0
    slo: Ban = "forbid"
    unplaced: Ban = "forbid"

    @property
    def slo_penalty(self) -> float | None:
        """The price of one unit of weight over its SLO; None where that is forbidden."""
        return self.slo.penalty if isinstance(self.slo, Penalty) else None

    @property
    def unplaced_penalty(self) -> float | None:
        """The price of one unit of weight not placed; None where that is forbidden."""
        return self.unplaced.penalty if isinstance(self.unplaced, Penalty) else None


class Rules(_Frozen):
    """Who stays apart, who stays together, and limits on the VMs used and their summed price."""

    apart: list[list[Name]] = Field(default_factory=list)
    together: list[list[Name]] = Field(default_factory=list)
    max_vms: Count | None = None
    max_price: NonNegative | None = None


class Instance(_Frozen):
    """A batch of models, the VM types on offer, and what is to be minimised under which rules."""

    format: Literal["placer/instance"] = FORMAT
    version: Literal[1] = VERSION
    name: str = Field(default="unnamed", strict=True)
    description: str = Field(default="", strict=True)
    vm_types: list[VmType] = Field(min_length=1)
    models: list[Model] = Field(min_length=1)
    interference: Interference = Field(default_factory=NoInterference)
    objective: Objective = Field(default_factory=Objective)
    rules: Rules = Field(default_factory=Rules)

    _file: Path | None = PrivateAttr(default=None)
    _predictor: Any = PrivateAttr(default=None)
    _bound_predictor: Any = PrivateAttr(default=None)
    _measurements: Any = PrivateAttr(default=None)
    _measured_groups: Any = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _names_agree(self) -> Instance:
        consistency.verify(self)
        return self

    @classmethod
    def from_dict(cls, data: object, *, file: Path | None = None) -> Instance:
        """Return the instance that `data`, a parsed JSON object, describes.

        `file` is where it was read from: a predictor's path is relative to its folder. Raises
        InputError.
        """
        try:
            instance = cls.model_validate(data)
        except ValidationError as error:
            raise input_error(error, cls) from None
        instance._file = file
        return instance

    @classmethod
    def build(cls, vm_types: Iterable[VmType], models: Iterable[Model], **fields: Any) -> Instance:
        """Return an instance of these parts, other fields by name. Raises InputError."""
        return cls.from_dict({"vm_types": list(vm_types), "models": list(models), **fields})

    def to_dict(self) -> dict[str, Any]:
        """Return the instance as its JSON object, fields at their defaults left out."""
        data = self.model_dump(exclude_defaults=True)
        fixed: dict[str, Any] = {"format": FORMAT, "version": VERSION, "name": self.name}
        if "interference" in data:
            data["interference"] = {"kind": self.interference.kind, **data["interference"]}
        return fixed | data

    def with_predictor(self, predictor: object, measured: object = None) -> Instance:
        """Return a copy that asks `predictor`, a Predictor in memory, in place of a file.

        Groups that ran in `measured`, as `read_measurements` gives it, have the slowdowns measured
        there; None leaves the folder that the instance names, where it names one.
        """
        copy = self.model_copy()
        copy._file, copy._predictor, copy._bound_predictor = self._file, predictor, None
        if measured is not None:
            copy._measurements, copy._measured_groups = measured, None
        return copy

    def remember_bound_predictor(self, bound: object) -> None:
        """Keep a predictor bound to this instance, so that it is loaded once."""
        self._bound_predictor = bound

    def remember_measured_groups(self, groups: object) -> None:
        """Keep the groups of this instance that were measured, so that they are read once."""
        self._measured_groups = groups

    @property
    def file(self) -> Path | None:
        """The file that the instance was read from, None where it was built in Python."""
        return self._file

    @property
    def folder(self) -> Path:
        """The folder that a predictor's relative path starts from."""
        return self._file.parent if self._file is not None else Path()

    @property
    def predictor_in_memory(self) -> Any:
        """The predictor given by `with_predictor`, or None."""
        return self._predictor

    @property
    def bound_predictor(self) -> Any:
        """The predictor kept by `remember_bound_predictor`, or None."""
        return self._bound_predictor

    @property
    def measurements_in_memory(self) -> Any:
        """The measurements given to `with_predictor`, or None."""
        return self._measurements

    @property
    def measured_groups(self) -> Any:
        """The measured groups kept by `remember_measured_groups`, or None."""
        return self._measured_groups

    @property
    def total_replicas(self) -> int:
        """How many replicas the whole batch has."""
        return sum(model.replicas for model in self.models)

    def vm_type(self, name: str) -> VmType:
        """Return the VM type called `name`. Raises KeyError."""
        return {v.name: v for v in self.vm_types}[name]


def best_solo_latency(instance: Instance, model: Model) -> float:
    """Return the least solo latency in ms of `model` over the VM types where it may run.

    Infinite where there is none, as for a model that may run nowhere.
    """
    given = (
        model.solo_latency_on(vm_type.name)
        for vm_type in instance.vm_types
        if model.may_run_on(vm_type.name)
    )
    return min((latency for latency in given if latency is not None), default=math.inf)


__all__ = [
    "TOLERANCE",
    "GroupEntry",
    "GroupsInterference",
    "InputError",
    "Instance",
    "Interference",
    "Model",
    "NoInterference",
    "Objective",
    "PairwiseInterference",
    "Penalty",
    "PredictorInterference",
    "Rules",
    "VmType",
    "best_solo_latency",
]
