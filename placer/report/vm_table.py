"""The VMs of a placement as a table, equal ones in one row."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from placer.problem import Instance
from placer.report.facts import SharedVm, slo_margin
from placer.report.text import number, percent, plural, table
from placer.result import Result

if TYPE_CHECKING:
    from rich.table import Table

ROWS_SHOWN = 40
MODELS_SHOWN = 12
MODELS = 1  # the column
GAP, LEAST_WIDTH = 2, 10  # between columns, and of the models


def vm_table(result: Result, vms: list[SharedVm], width: int) -> tuple[Table, str]:
    """Return the table of the placement's `vms` for a page of `width`, and what it leaves out."""
    instance = result.instance
    with_slo = any(model.slo_ms is not None for model in instance.models)
    heads = ["VM", "models", "|load", ">slowdown\nmean / worst"]
    heads += [">SLO\nmargin"] if with_slo else []
    rows = table(*heads, ">cost", title="VMs")
    for vm in vms[:ROWS_SHOWN]:
        name = result.placement.vms[vm.first].name
        cells = [_label(name, vm), _models(vm), _load(instance, vm), _slowdown(vm)]
        cells += [_margin(vm)] if with_slo else []
        rows.add_row(*cells, number(vm.scored.cost, 4))
    rows.columns[MODELS].min_width = _width(rows, vms[:ROWS_SHOWN], width)
    hidden = vms[ROWS_SHOWN:]
    more = sum(vm.count for vm in hidden)
    return rows, f"... and {plural(more, 'VM')} more" if hidden else ""


def _label(name: str, vm: SharedVm) -> str:
    """Return the VM's name, its type where the name does not say it, and how many are equal."""
    shown = name if name.startswith(vm.scored.vm_type) else f"{name} ({vm.scored.vm_type})"
    return shown if vm.count == 1 else f"{shown}\n+ {vm.count - 1} equal"


def _models(vm: SharedVm) -> str:
    counts = Counter(replica.model for replica in vm.scored.replicas)
    said = [name if count == 1 else f"{name} x{count}" for name, count in counts.items()]
    more = len(said) - MODELS_SHOWN
    return ", ".join(said[:MODELS_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _width(rows: Table, vms: list[SharedVm], page: int) -> int:
    """Return the width that keeps most model names whole and crops no other column."""
    longest = max((len(replica.model) for vm in vms for replica in vm.scored.replicas), default=0)
    others = [
        max(len(line) for cell in (column.header, *column.cells) for line in str(cell).split("\n"))
        for place, column in enumerate(rows.columns)
        if place != MODELS
    ]
    left = page - sum(others) - GAP * len(others)
    return max(LEAST_WIDTH, min(24, longest + 4, left))


def load_of(instance: Instance, vm: SharedVm) -> dict[str, float]:
    """Return the share of each resource's capacity that the replicas on `vm` take."""
    vm_type = instance.vm_type(vm.scored.vm_type)
    models = {model.name: model for model in instance.models}
    counts = Counter(replica.model for replica in vm.scored.replicas)
    loads = {}
    for resource, capacity in vm_type.capacity.items():
        taken = math.fsum(
            count * models[name].demand_of(vm_type.name).get(resource, 0.0)
            for name, count in counts.items()
        )
        loads[resource] = taken / capacity if capacity > 0 else 0.0
    return loads


def _load(instance: Instance, vm: SharedVm) -> str:
    loads = load_of(instance, vm)
    return "\n".join(f"{resource} {100 * share:.0f} %" for resource, share in loads.items())


def _slowdown(vm: SharedVm) -> str:
    slowdowns = [replica.slowdown for replica in vm.scored.replicas]
    return (
        f"{math.fsum(slowdowns) / len(slowdowns):.2f} / {max(slowdowns):.2f}" if slowdowns else ""
    )


def _margin(vm: SharedVm) -> str:
    margins = [m for replica in vm.scored.replicas if (m := slo_margin(replica)) is not None]
    return percent(min(margins)) if margins else "-"
