"""A replay as tables: measured beside predicted by VM, latencies by model, and the totals."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from placer.measure.replayed import COMPLETE, Replay, ReplayedVm, percentiles
from placer.report.text import console, number, percent, plural, table

if TYPE_CHECKING:
    from rich.table import Table

ROWS_SHOWN = 40


def print_replay(replay: Replay) -> None:
    """Print what was replayed, where and how, and the totals."""
    out = console()
    out.print(heading(replay))
    out.print()
    out.print(vm_rows(replay))
    more = len(replay.vms) - ROWS_SHOWN
    if more > 0:
        out.print(f"... and {plural(more, 'different VM')} more")
    out.print()
    out.print(model_rows(replay))
    out.print()
    for name, text in total_lines(replay.totals()):
        out.print(f"{name:12}{text}")
    for note in replay.notes:
        out.print(f"note: {note}")


def heading(replay: Replay) -> str:
    """Return what was run, where, and how much of it counted."""
    totals, host = replay.totals(), replay.host
    counts = plural(totals["vms"], "VM")
    if totals["different_vms"] < totals["vms"]:
        counts += f", {totals['different_vms']} different"
    if replay.stopped_by != COMPLETE or totals["vms_replayed"] < totals["vms"]:
        counts += f", {totals['vms_replayed']} replayed"
    thrown = sum(replay.runs_thrown.values())
    reasons = ", ".join(f"{count} {why}" for why, count in replay.runs_thrown.items())
    where = f"{host.get('cpu_model', 'this host')}, {host.get('processors', '?')} processors"
    return (
        f"{replay.instance or 'placement'}: {counts}\n"
        f"measured    on {where}, {replay.started}\n"
        f"runs        {replay.runs_kept} kept in {replay.seconds:.0f} s, {thrown} thrown away"
        + (f" ({reasons})" if thrown else "")
    )


def vm_rows(replay: Replay) -> Table:
    """Return the table of VMs, equal ones in one row."""
    rows = table(
        "VM", "models", ">predicted\nmean / worst", ">measured\nmean / worst", ">error",
        ">SLOs missed\npred. / meas.", title="Slowdown",
    )  # fmt: skip
    for vm in replay.vms[:ROWS_SHOWN]:
        predicted, measured = vm.slowdowns("predicted"), vm.slowdowns("measured")
        error = "-"
        if predicted is not None and measured is not None:
            error = f"{100.0 * (measured[0] / predicted[0] - 1.0):+.1f} %"
        with_slo = any(model.slo_ms is not None for model in vm.models)
        missed = f"{vm.misses('predicted')} / {vm.misses('measured') if vm.runs else '-'}"
        cells = [label(vm), members(vm), pair(predicted), pair(measured), error]
        rows.add_row(*cells, missed if with_slo else "-")
    return rows


def label(vm: ReplayedVm) -> str:
    """Return the name of the first of equal VMs, the shape behind it, and how many more."""
    name = vm.names[0] if vm.names[0].startswith(vm.shape) else f"{vm.names[0]} ({vm.shape})"
    return name if len(vm.names) == 1 else f"{name}\n+ {len(vm.names) - 1} equal"


def members(vm: ReplayedVm) -> str:
    """Return the models on a VM, `bert@5 x2` for two replicas at five requests a second."""
    said = []
    for model in vm.models:
        rate = "" if model.rate_rps is None else f"@{model.rate_rps:g}"
        many = f" x{model.replicas}" if model.replicas > 1 else ""
        over = " (overloaded)" if model.saturated else ""
        said.append(f"{model.name}{rate}{many}{over}")
    return ", ".join(said)


def pair(values: tuple[float, float] | None) -> str:
    """Return mean and worst."""
    return "-" if values is None else f"{values[0]:.2f} / {values[1]:.2f}"


def model_rows(replay: Replay) -> Table:
    """Return the table of latencies by model, of all requests of all its replicas."""
    rows = table(
        "model", ">replicas", ">p50", ">p95", ">p99", ">SLO", ">requests\nover SLO",
        title="Latency of all requests, ms",
    )  # fmt: skip
    replicas: Counter[str] = Counter()
    slos: dict[str, float | None] = {}
    for _, model, count in replay.counted():
        replicas[model.name] += count
        slos[model.name] = model.slo_ms
    for name in sorted(replicas):
        values, weights, _ = replay.latencies(name)
        spread = percentiles(values, weights)
        slo = slos[name]
        late = None
        if slo is not None and len(values):
            late = float(weights[values > slo].sum() / weights.sum())
        rows.add_row(
            name, str(replicas[name]), *(number(value, 4) for value in spread.values()),
            number(slo, 5), percent(late),
        )  # fmt: skip
    return rows


def total_lines(totals: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the totals as lines: a name and a text."""

    def both(name: str, digits: int = 4) -> str:
        sides = totals[name]
        predicted, measured = number(sides["predicted"], digits), number(sides["measured"], digits)
        return f"predicted {predicted}, measured {measured}"

    ratio, error = totals["degradation_ratio"], totals["mean_absolute_error_percent"]
    spread = totals["latency_ms"]
    lines = [
        ("slowdown", f"mean {both('mean_slowdown')}; worst {both('worst_slowdown')}"),
        (
            "degradation",
            f"sum of slowdown - 1: {both('degradation')}"
            + (f", ratio {ratio:.2f}" if ratio is not None else ""),
        ),
        ("error", "-" if error is None else f"mean absolute {error:.1f} % of measured slowdown"),
        ("latency", ", ".join(f"{name} {number(ms, 4)}" for name, ms in spread.items()) + " ms"),
    ]
    if totals["slos"]:
        late = percent(totals["requests_over_slo_share"])
        lines.append(
            (
                "SLOs",
                f"of {totals['slos']} missed by the median: {both('slos_missed')}; "
                f"{late} of requests took longer",
            )
        )
    if totals["saturated_replicas"]:
        lines.append(("overloaded", plural(totals["saturated_replicas"], "replica")))
    if totals["objective"]["measured"] is not None:
        lines.append(("objective", both("objective", 6)))
    return lines
