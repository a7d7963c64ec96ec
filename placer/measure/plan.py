"""What `placer measure` is asked to do: options of the command line or a small TOML file."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import islice
from pathlib import Path
from typing import Any

from placer.errors import InputError, UsageError, near_name
from placer.files import read_toml
from placer.measure import design, host
from placer.measure.campaign import Campaign, State, shuffled
from placer.measure.dataset import DataSet, Group
from placer.measure.guard import Limits
from placer.measure.onnx_models import OnnxModel, read_models
from placer.measure.runner import Window
from placer.measure.shapes import Shape, default_shapes, fitting

DESIGNS = ("random", "complete", "listed", "learn")
REPEATED_SHARE = 0.03  # of the groups, measured again so that the spread of repeats is known
REPEATS_OF_GROUP = 3


@dataclass(frozen=True)
class Plan:
    """A campaign as asked for.

    `models` is a folder of ONNX files and `only` the names to use of it (empty: all); `vm_types`
    are shapes of this host by name (empty: the usual ones). `design` is `random` (`runs` groups of
    2 to `degree`), `complete` (every multiset up to `degree`), `listed` (`groups`) or `learn`
    (what teaches a predictor most, until `budget` seconds are over). `loads` are open-loop rates
    as shares of one processor, `rates` the same in requests/s. Solo groups run `repeats` times,
    the groups of a design that is known beforehand once in each of `passes`.
    """

    models: str = ""
    only: tuple[str, ...] = ()
    vm_types: tuple[str, ...] = ()
    design: str = "random"
    degree: int = 4
    runs: int = 200
    loads: tuple[float, ...] = ()
    rates: tuple[float, ...] = ()
    repeats: int = 3
    passes: int = 1
    groups: tuple[dict[str, Any], ...] = ()
    seconds: float = 1.0
    requests: int = 20
    longest: float = 4.0
    budget: float | None = None
    instance: str | None = None
    seed: int = 0
    label: str = ""
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if self.design not in DESIGNS:
            raise InputError(
                f"found {self.design!r}{near_name(self.design, DESIGNS)}; expected one of "
                f"{', '.join(DESIGNS)}",
                path="design",
            )
        for name in ("degree", "runs", "repeats", "passes", "seconds", "requests", "longest"):
            if getattr(self, name) <= 0:
                raise InputError(f"found {getattr(self, name)!r}; expected above 0", path=name)
        for name in ("loads", "rates"):
            if any(value <= 0 for value in getattr(self, name)):
                raise InputError("expected numbers above 0", path=name)

    def window(self) -> Window:
        """Return how long a run is timed."""
        return Window(self.seconds, self.requests, max(self.longest, self.seconds))


def read_plan(file: str | Path) -> Plan:
    """Read a plan from TOML; paths in it are relative to the file. Raises InputError."""
    source = str(file)
    try:
        plan = from_data(read_toml(file))
    except InputError as error:
        raise error.within(source) from None
    folder = Path(file).parent
    found: dict[str, Any] = {}
    if plan.models:
        found["models"] = str(folder / plan.models)
    if plan.instance:
        found["instance"] = str(folder / plan.instance)
    return replace(plan, **found)


def from_data(data: Mapping[str, Any]) -> Plan:
    """Build a plan from plain data. Raises InputError with the path of what is wrong."""
    kinds = {one.name: str(one.type) for one in fields(Plan) if one.name != "limits"}
    limits = {one.name for one in fields(Limits)}
    given: dict[str, Any] = {}
    bounds: dict[str, float] = {}
    for name, value in data.items():
        if name == "limits" and isinstance(value, dict):
            for one, number in value.items():
                if one not in limits:
                    raise InputError(f"unknown field{near_name(one, limits)}", path=f"limits.{one}")
                bounds[one] = float(checked(number, "float", f"limits.{one}"))
        elif name not in kinds:
            raise InputError(f"unknown field{near_name(name, kinds)}", path=name)
        else:
            given[name] = checked(value, kinds[name], name)
    return Plan(**given, limits=Limits(**bounds))


def checked(value: Any, kind: str, path: str) -> Any:
    """Return a field's value as its type. Raises InputError."""
    if kind.startswith("tuple"):
        inner = kind.removeprefix("tuple[").split(",")[0]
        if not isinstance(value, list):
            raise InputError(f"found {value!r}; expected a list", path=path)
        return tuple(checked(v, inner, f"{path}[{n}]") for n, v in enumerate(value))
    if kind.startswith("dict"):
        return checked_group(value, path)
    wanted: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float)}
    name = kind.split(" ")[0]
    if isinstance(value, bool) or not isinstance(value, wanted[name]):
        words = {"str": "text", "int": "a whole number", "float": "a number"}
        raise InputError(f"found {value!r}; expected {words[name]}", path=path)
    return value


def checked_group(value: Any, path: str) -> dict[str, Any]:
    """Return an entry of `groups`: models, perhaps vm_type and rates_rps. Raises InputError."""
    if not isinstance(value, dict):
        raise InputError(f"found {value!r}; expected a table", path=path)
    known = ("models", "vm_type", "rates_rps")
    for name in value:
        if name not in known:
            raise InputError(f"unknown field{near_name(name, known)}", path=f"{path}.{name}")
    if not value.get("models"):
        raise InputError("expected a list of one or more models", path=f"{path}.models")
    checked(value["models"], "tuple[str", f"{path}.models")
    rates = checked(value.get("rates_rps", []), "tuple[float", f"{path}.rates_rps")
    if rates and len(rates) != len(value["models"]):
        raise InputError("expected one rate for each model, 0 for closed loop",
                         path=f"{path}.rates_rps")  # fmt: skip
    return value


def shapes_of(plan: Plan) -> list[Shape]:
    """Return the plan's VM types. Raises UsageError or InputError for what the host cannot be."""
    count = len(host.processors())
    if not plan.vm_types:
        return default_shapes(count)
    return fitting([Shape.parse(name) for name in plan.vm_types], count)


def models_of(plan: Plan) -> list[OnnxModel]:
    """Return the plan's models. Raises InputError where a name is not among them."""
    models = read_models(plan.models)
    known = [model.name for model in models]
    for name in plan.only:
        if name not in known:
            raise InputError(f"there is no {name}.onnx{near_name(name, known)}", source=plan.models)
    return [model for model in models if not plan.only or model.name in plan.only]


def measure(
    plan: Plan, folder: str | Path, on_progress: Callable[[State], None] | None = None
) -> DataSet:
    """Carry out a plan and return the data set; what the folder holds already is not repeated.

    Raises InputError or UsageError for a plan that this host cannot carry out, NotQuietError where
    the host stays disturbed; the data set then keeps what was measured.
    """
    shapes, models = shapes_of(plan), models_of(plan)
    names = [model.name for model in models]
    deadline = None if plan.budget is None else time.monotonic() + plan.budget
    data = DataSet(folder)
    campaign = Campaign(
        data, models, shapes, window=plan.window(), limits=plan.limits, label=plan.label,
        seed=plan.seed, deadline=deadline, on_progress=on_progress,
    )  # fmt: skip
    with campaign:
        if plan.design == "listed":
            groups = listed(plan, shapes, names)
            campaign.measure(design.solos_needed(groups), plan.repeats)
            in_passes(plan, campaign, groups)
            return data
        campaign.measure(shuffled(design.solo(shapes, names, plan.label), plan.seed))
        if plan.design == "learn":
            from placer.measure.choose import learn

            learn(plan, campaign, shapes)
            return data
        groups = designed(plan, shapes, names, data)
        some = shuffled(groups, plan.seed + 2)[: round(REPEATED_SHARE * len(groups))]
        again = some * (REPEATS_OF_GROUP - 1)
        solos = design.solos_needed(groups)
        opened = [group for group in solos if group.rates[0] is not None]
        closed = [group for group in solos if group.rates[0] is None]
        campaign.measure(shuffled(opened, plan.seed))
        campaign.measure(shuffled([*groups, *again, *closed * plan.repeats], plan.seed + 1))
        in_passes(plan, campaign, groups)
    return data


def in_passes(plan: Plan, campaign: Campaign, groups: Sequence[Group]) -> None:
    """Measure all groups once, then once more, so that a stop leaves them equally often run."""
    for number in range(1, plan.passes + 1):
        campaign.measure(shuffled(groups, plan.seed + number), number)


def designed(
    plan: Plan, shapes: Sequence[Shape], names: Sequence[str], data: DataSet
) -> list[Group]:
    """Return the groups of a random or complete design."""
    if plan.design == "complete":
        return design.complete(shapes, names, plan.degree, plan.label)
    latency = reference_latency(plan, shapes, names, data)
    weights = dict.fromkeys(range(2, plan.degree + 1), 1.0)
    source = design.random_groups(
        shapes, names, weights, open_rates(plan, latency), latency, plan.seed, plan.label
    )
    return list(islice(source, plan.runs))


def reference_latency(
    plan: Plan, shapes: Sequence[Shape], names: Sequence[str], data: DataSet
) -> dict[str, float]:
    """Return each model's solo latency in ms on the first VM type where it was measured."""
    solo = data.solo_latencies()
    found: dict[str, float] = {}
    for shape in reversed(shapes):
        found |= {
            m: solo[m, plan.label + shape.name]
            for m in names
            if (m, plan.label + shape.name) in solo
        }
    return found


def open_rates(plan: Plan, latency: Mapping[str, float]) -> dict[str, list[float]]:
    """Return the open-loop rates of each model, requests/s."""
    rates = design.rates_of(latency, plan.loads)
    return {model: [*values, *plan.rates] for model, values in rates.items()}


def listed(plan: Plan, shapes: Sequence[Shape], names: Sequence[str]) -> list[Group]:
    """Return the plan's own groups. Raises InputError for a model or VM type it does not have."""
    known = [plan.label + shape.name for shape in shapes]
    found = []
    for number, one in enumerate(plan.groups):
        for name in one["models"]:
            if name not in names:
                raise InputError(f"unknown model {name!r}{near_name(name, names)}",
                                 path=f"groups[{number}].models")  # fmt: skip
        vm_type = one.get("vm_type")
        if vm_type is not None and vm_type not in known:
            raise InputError(
                f"unknown VM type {vm_type!r}{near_name(vm_type, known)}; expected one of "
                f"{', '.join(known)}",
                path=f"groups[{number}].vm_type",
            )
        rates = tuple(
            float(rate) or None for rate in one.get("rates_rps", [0] * len(one["models"]))
        )
        for name in known if vm_type is None else [vm_type]:
            found.append(Group(name, tuple(one["models"]), rates))
    if not found:
        raise UsageError("the plan lists no groups; give [[groups]] entries, or another design")
    return found
