"""The summary of a solve that a person wants to read."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from placer.placement import SolverRecord
from placer.report.comparison import POLICIES, compare
from placer.report.facts import Facts, facts_of, shared_vms, slo_margin
from placer.report.text import console, number, percent, plural, table
from placer.report.vm_table import vm_table
from placer.result import Result
from placer.scoring import TERMS, ReplicaScore
from placer.status import Status, StoppedBy

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

REASONS_SHOWN = 40

COMPARED = 200_000
"""Replicas of the largest batch that is compared: blind placement goes VM by VM."""

STOPPED = {
    StoppedBy.PROOF: "proof",
    StoppedBy.GAP: "the gap asked for is reached",
    StoppedBy.TIME: "time limit",
    StoppedBy.INTERRUPT: "interrupt",
    StoppedBy.COMPLETE: "the heuristic ran to its end",
}


def print_result(result: Result) -> None:
    """Print the summary, the VMs, what is not placed, and what blind placement would cost."""
    out = console()
    out.print(f"{result.instance.name}: {status_words(result)}", style="bold")
    if result.instance.description:
        out.print(result.instance.description, style="dim")
    if result.score is None:
        out.print(_block(_closing_rows(result)))
        _print_notes(out, result)
        return
    vms = shared_vms(result.score.vms)
    facts = facts_of(result.instance, vms)
    out.print(_block([*_objective_rows(result), *_fleet_rows(result, facts)]))
    _print_notes(out, result)
    rows, more = vm_table(result, vms, out.width)
    out.print()
    out.print(rows)
    if more:
        out.print(more)
    if result.placement.unplaced:
        out.print()
        out.print(_unplaced(result))
    _print_comparison(out, result, facts)


def status_words(result: Result) -> str:
    """Return what is proved, in words."""
    if result.status == Status.INFEASIBLE:
        return "infeasible: proved that no placement keeps every rule"
    if result.status == Status.UNKNOWN:
        return "no placement found, and no proof that there is none"
    if result.status == Status.OPTIMAL:
        exact = not result.gap
        return "optimal, proved" if exact else f"optimal, proved within {percent(result.gap)}"
    if result.gap is None:
        return "feasible, no proven bound"
    return f"feasible, proved within {percent(result.gap)} of the optimum"


def _block(rows: list[tuple[str, str]]) -> Table:
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for row in rows:
        grid.add_row(*row)
    return grid


def _print_notes(out: Console, result: Result) -> None:
    for note in result.notes:
        out.print(f"note: {note}")


def _objective_rows(result: Result) -> list[tuple[str, str]]:
    assert result.score is not None
    terms = " + ".join(
        f"{term} {number(result.score.terms[term])}"
        for term in TERMS
        if result.score.terms[term] or term in ("price", "degradation")
    )
    return [("objective", f"{number(result.objective)} = {terms}"), *_closing_rows(result)]


def _closing_rows(result: Result) -> list[tuple[str, str]]:
    """Return bound, gap and why the solve stopped."""
    bound = "none proved" if result.bound is None else number(result.bound, 9)
    gap = "" if result.gap is None else f", gap {percent(result.gap)}"
    rows = [] if result.status == Status.INFEASIBLE else [("bound", bound + gap)]
    record = result.placement.solver
    return rows if record is None else [*rows, ("stopped by", _record_words(record))]


def _record_words(record: SolverRecord) -> str:
    why = STOPPED.get(StoppedBy(record.stopped_by), "") if record.stopped_by else ""
    seconds = "" if record.seconds is None else f" after {record.seconds:.2f} s"
    workers = "" if record.workers is None else f", {plural(record.workers, 'worker')}"
    return f"{why}{seconds} (solver {record.name}, seed {record.seed}{workers})"


def _fleet_rows(result: Result, facts: Facts) -> list[tuple[str, str]]:
    prices = {v.name: v.price for v in result.instance.vm_types}
    types = ", ".join(f"{n} x {name} at {number(prices[name])}" for name, n in facts.vms.items())
    total = sum(facts.vms.values())
    rows = [
        ("VMs", f"{total}: {types}" if types else "0"),
        ("price", f"{number(facts.price)} for {plural(facts.replicas, 'replica')} placed"),
    ]
    if facts.worst is not None and facts.mean_slowdown is not None:
        worst, vm_type = facts.worst
        where = "" if worst.slowdown == facts.mean_slowdown else f" ({worst.model} on {vm_type})"
        rows.append(
            ("slowdown", f"mean {facts.mean_slowdown:.3f}, worst {worst.slowdown:.3f}{where}")
        )
    if facts.tightest is not None:
        rows.append(("SLOs", _slo_words(facts, *facts.tightest)))
    left = len(result.placement.unplaced)
    return [*rows, ("not placed", plural(left, "replica"))] if left else rows


def _slo_words(facts: Facts, tightest: ReplicaScore, vm_type: str) -> str:
    kept = facts.with_slo - facts.misses
    said = f"{kept} of {facts.with_slo} kept"
    said += f", {facts.misses} missed" if facts.misses else ""
    margin = slo_margin(tightest)
    latency = number(tightest.latency_upper_ms, 4)
    return (
        f"{said}; least margin {percent(margin)} ({tightest.model} on {vm_type}: {latency} of "
        f"{number(tightest.slo_ms, 4)} ms)"
    )


def _unplaced(result: Result) -> Table:
    rows = table("model", ">replicas", "why not placed", title="Not placed")
    counts = Counter(
        (u, "") if isinstance(u, str) else (u.name, u.reason or "")
        for u in result.placement.unplaced
    )
    for (name, reason), count in list(counts.items())[:REASONS_SHOWN]:
        rows.add_row(name, str(count), reason)
    if len(counts) > REASONS_SHOWN:
        rows.add_row(f"... and {len(counts) - REASONS_SHOWN} more models", "", "")
    return rows


def _print_comparison(out: Console, result: Result, facts: Facts) -> None:
    if sum(model.replicas for model in result.instance.models) > COMPARED:
        names = " and ".join(f"`--solver {policy}`" for policy in POLICIES)
        out.print(
            f"\nNot compared with blind placement, which goes VM by VM: {names} do it.",
            soft_wrap=True,
        )
        return
    record = result.placement.solver
    heads = (">VMs", ">price", ">slowdown\nmean / worst", ">SLOs\nmissed", ">objective", ">dearer")
    title = "The same batch under placement that sees no interference"
    rows = table("", *heads, title=title)
    total = str(sum(facts.vms.values()))
    rows.add_row("this placement", total, *_figures(facts), number(result.objective), "")
    broken = []
    for other in compare(result.instance, (record.seed if record else None) or 0):
        figures = _figures(other.facts) if other.facts else ["-", "-", "-"]
        dearer = _dearer(result.objective, other.objective)
        rows.add_row(other.policy, str(other.vms), *figures, number(other.objective), dearer)
        if other.breaks:
            broken.append(f"{other.policy} is not allowed: {other.breaks}")
    out.print()
    out.print(rows)
    for line in broken:
        out.print(line)


def _figures(facts: Facts) -> list[str]:
    slowdown = "-"
    if facts.worst is not None and facts.mean_slowdown is not None:
        slowdown = f"{facts.mean_slowdown:.2f} / {facts.worst[0].slowdown:.2f}"
    return [number(facts.price, 5), slowdown, str(facts.misses) if facts.with_slo else "-"]


def _dearer(objective: float | None, other: float | None) -> str:
    if objective is None or other is None or objective <= 0:
        return "-"
    return f"{100 * (other - objective) / objective:+.1f} %"
