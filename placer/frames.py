"""Placements as pandas tables, and instances from and to pandas tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from placer.errors import InputError, near_name
from placer.problem import ANY_VM_TYPE, Instance
from placer.validation import show

if TYPE_CHECKING:
    import pandas as pd

    from placer.placement import Placement

VM_TYPE_COLUMNS = ("name", "price", "count", "max_models")
VM_TYPE_MAPS = ("capacity", "features")
MODEL_COLUMNS = ("name", "replicas", "weight", "rate_rps", "slo_ms", "solo_latency_ms", "vm_types")
MODEL_MAPS = ("demand", "demand_on", "cost_on", "solo_latency_ms", "features")
REQUIRED_MAPS = ("capacity",)
PAIR_COLUMNS = ("vm_type", "target", "co_runner", "slowdown")
GROUP_COLUMNS = ("vm_type", "models", "slowdown")


def placement_frames(placement: Placement) -> dict[str, pd.DataFrame]:
    """Return the tables `vms`, `replicas` and `unplaced` of `placement`.

    vms: vm, vm_type, replicas. replicas: vm, vm_type, model, slowdown, latency_ms, slo_ms, one row
    for each replica. unplaced: model, reason. What is not given is NaN.
    """
    import pandas as pd

    vms = [(vm.name, vm.vm_type, len(vm.models)) for vm in placement.vms]
    replicas = [
        (vm.name, vm.vm_type, model.name, model.slowdown, model.latency_ms, model.slo_ms)
        for vm in placement.vms
        for model in vm.models
    ]
    unplaced = [(u, None) if isinstance(u, str) else (u.name, u.reason) for u in placement.unplaced]
    figures = ["slowdown", "latency_ms", "slo_ms"]
    frame = pd.DataFrame(replicas, columns=["vm", "vm_type", "model", *figures])
    return {
        "vms": pd.DataFrame(vms, columns=["vm", "vm_type", "replicas"]),
        "replicas": frame.astype(dict.fromkeys(figures, float)),
        "unplaced": pd.DataFrame(unplaced, columns=["model", "reason"]),
    }


def instance_from_frames(
    vm_types: pd.DataFrame,
    models: pd.DataFrame,
    slowdown: pd.DataFrame | None = None,
    **fields: Any,
) -> Instance:
    """Return the instance that pandas tables describe; NaN, NA and None are as not given.

    vm_types: name, price, count, max_models, capacity.<resource>, features.<name>.
    models: name, replicas, weight, rate_rps, slo_ms, vm_types (a list, or names with commas),
    demand.<resource>, demand_on.<vm_type>.<resource>, cost_on.<vm_type>, solo_latency_ms or
    solo_latency_ms.<vm_type>, features.<name>.
    slowdown: vm_type, target, co_runner, slowdown for pairs; or vm_type, models, slowdown with
    lists for groups. Other fields of the instance by name; `interference` joins the table, as
    `{"kind": "pairwise", "combine": "product"}`. Raises InputError with row and column.
    """
    types = _records(vm_types, "vm_types", VM_TYPE_COLUMNS, VM_TYPE_MAPS)
    known = [str(record.get("name")) for record in types]
    kinds = _records(models, "models", MODEL_COLUMNS, MODEL_MAPS, known)
    data: dict[str, Any] = {"vm_types": types, "models": kinds, **fields}
    if slowdown is not None:
        given = fields.get("interference", {})
        if not isinstance(given, Mapping):
            raise InputError(
                "found an object, expected a dict beside a slowdown table", path="interference"
            )
        data["interference"] = {**_interference(slowdown), **given}
    return Instance.from_dict(data)


def instance_to_frames(instance: Instance) -> dict[str, pd.DataFrame]:
    """Return the tables `vm_types`, `models` and `slowdown` that `instance_from_frames` reads.

    Objective, rules and what else interference says are not in them. `slowdown` is empty where
    the instance has no table.
    """
    import pandas as pd

    data = instance.to_dict()
    interference = instance.interference
    columns, rows = list(PAIR_COLUMNS), _pair_rows(data.get("interference", {}))
    if interference.kind == "groups":
        columns = list(GROUP_COLUMNS)
        rows = [
            (vm_type, list(entry.models), list(entry.slowdown))
            for vm_type, entries in interference.slowdown.items()
            for entry in entries
        ]
    return {
        "vm_types": pd.DataFrame([_flat(v, VM_TYPE_MAPS) for v in data["vm_types"]]),
        "models": pd.DataFrame([_flat(m, MODEL_MAPS) for m in data["models"]]),
        "slowdown": pd.DataFrame(rows, columns=columns),
    }


def _pair_rows(interference: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    if interference.get("kind") != "pairwise":
        return []
    return [
        (vm_type, target, co_runner, value)
        for vm_type, targets in interference.get("slowdown", {}).items()
        for target, co_runners in targets.items()
        for co_runner, value in co_runners.items()
    ]


def _flat(record: Mapping[str, Any], maps: Iterable[str]) -> dict[str, Any]:
    """Return `record` with its maps spread over columns such as `demand.vcpu`."""
    flat: dict[str, Any] = {}
    for field, value in record.items():
        if field not in maps or not isinstance(value, Mapping):
            flat[field] = value
            continue
        for name, inner in value.items():
            nested = inner if isinstance(inner, Mapping) else {"": inner}
            for last, amount in nested.items():
                flat[".".join(part for part in (field, name, last) if part)] = amount
    return flat


def _records(
    frame: pd.DataFrame,
    table: str,
    columns: tuple[str, ...],
    maps: tuple[str, ...],
    vm_types: list[str] | None = None,
) -> list[dict[str, Any]]:
    """Return one JSON object for each row of `frame`. Raises InputError."""
    places = [_place(str(column), table, columns, maps, vm_types or []) for column in frame.columns]
    if len(set(places)) < len(places):
        twice = next(c for i, c in enumerate(frame.columns) if places[i] in places[:i])
        raise InputError("found twice, expected each column once", path=f"{table}.{twice}")
    cells = _columns(frame)
    records = []
    for row in range(len(frame)):
        record: dict[str, Any] = {field: {} for field in maps if field in REQUIRED_MAPS}
        for place, column in zip(places, cells, strict=True):
            if column[row] is not None and not _put(record, place, column[row]):
                raise InputError(
                    "found as a number and by VM type, expected one of both",
                    path=f"{table}[{row}].{place[0]}",
                )
        if isinstance(record.get("vm_types"), str):
            names = str(record["vm_types"]).split(",")
            record["vm_types"] = [name.strip() for name in names if name.strip()]
        records.append(record)
    return records


def _place(
    column: str, table: str, columns: tuple[str, ...], maps: tuple[str, ...], vm_types: list[str]
) -> tuple[str, ...]:
    """Return where a column's values go, as the keys from the record inwards."""
    if column in columns:
        return (column,)
    field, _, rest = column.partition(".")
    if field in maps and rest:
        if field != "demand_on":
            return field, rest
        # a VM type's name may have dots itself
        name = max((n for n in vm_types if rest.startswith(f"{n}.")), key=len, default="")
        name = name or rest.rpartition(".")[0]
        if name:
            return field, name, rest[len(name) + 1 :]
    expected = ", ".join([*columns, *(f"{name}.<name>" for name in maps)])
    raise InputError(
        f"unknown column {column!r}{near_name(column, columns)}, expected one of {expected}",
        path=table,
    )


def _put(record: dict[str, Any], place: tuple[str, ...], value: object) -> bool:
    """Set `value` at `place`; return False where a number stands in a map's place or beside it."""
    for key in place[:-1]:
        inner = record.setdefault(key, {})
        if not isinstance(inner, dict):
            return False
        record = inner
    if isinstance(record.get(place[-1]), dict):
        return False
    record[place[-1]] = value
    return True


def _columns(frame: pd.DataFrame) -> list[list[Any]]:
    """Return the cells by column as plain Python values, None where nothing is given."""
    return [[_plain(v) for v in frame.iloc[:, i].tolist()] for i in range(frame.shape[1])]


def _plain(value: Any) -> Any:
    """Return a cell as plain Python, None where nothing is given."""
    import pandas as pd

    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple | set):
        return [_plain(inner) for inner in value]
    return None if value is None or value is pd.NA or value is pd.NaT or _is_nan(value) else value


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _interference(frame: pd.DataFrame) -> dict[str, Any]:
    columns = {str(column) for column in frame.columns}
    pairs, groups = set(PAIR_COLUMNS) - {"vm_type"}, set(GROUP_COLUMNS) - {"vm_type"}
    if pairs <= columns <= set(PAIR_COLUMNS):
        return {"kind": "pairwise", "slowdown": _nested(frame, _add_pair)}
    if groups <= columns <= set(GROUP_COLUMNS):
        return {"kind": "groups", "slowdown": _nested(frame, _add_group)}
    raise InputError(
        f"found the columns {', '.join(sorted(columns))}; expected {', '.join(PAIR_COLUMNS)} for "
        f"pairs, or {', '.join(GROUP_COLUMNS)} for groups",
        path="slowdown",
    )


def _nested(
    frame: pd.DataFrame, add: Callable[[dict[str, Any], int, str, dict[str, Any]], None]
) -> dict[str, Any]:
    """Return the rows of `frame` by VM type; a row without one speaks for every type not named."""
    nested: dict[str, Any] = {}
    heads = [str(column) for column in frame.columns]
    columns = _columns(frame)
    for row in range(len(frame)):
        cells = {head: column[row] for head, column in zip(heads, columns, strict=True)}
        missing = [head for head in heads if cells[head] is None and head != "vm_type"]
        if missing:
            raise InputError("missing; this cell is required", path=f"slowdown[{row}].{missing[0]}")
        add(nested, row, str(cells.get("vm_type") or ANY_VM_TYPE), cells)
    return nested


def _add_pair(nested: dict[str, Any], row: int, vm_type: str, cells: dict[str, Any]) -> None:
    rows = nested.setdefault(vm_type, {}).setdefault(cells["target"], {})
    if cells["co_runner"] in rows:
        raise InputError(
            f"the pair {show(cells['target'])} beside {show(cells['co_runner'])} was given before, "
            "expected each once",
            path=f"slowdown[{row}]",
        )
    rows[cells["co_runner"]] = cells["slowdown"]


def _add_group(nested: dict[str, Any], row: int, vm_type: str, cells: dict[str, Any]) -> None:
    names = cells["models"]
    if isinstance(names, str):
        cells["models"] = [name.strip() for name in names.split(",") if name.strip()]
    nested.setdefault(vm_type, []).append(
        {"models": cells["models"], "slowdown": cells["slowdown"]}
    )
