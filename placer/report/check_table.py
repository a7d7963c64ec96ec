"""The report of `placer check` as tables."""

from __future__ import annotations

from collections import Counter

from placer.checker import CheckReport
from placer.placement import Placement
from placer.problem import Instance
from placer.report.text import console, number, plural, table
from placer.scoring import TERMS

VIOLATIONS_SHOWN = 50


def print_check(instance: Instance, placement: Placement, report: CheckReport) -> None:
    """Print the objective by term, as stated and as recomputed, and every violation."""
    out = console()
    if report.ok:
        out.print(f"{instance.name}: the placement keeps every rule and its figures are right")
    else:
        out.print(f"{instance.name}: {plural(len(report.violations), 'violation')}")
    out.print(
        f"{plural(len(placement.vms), 'VM')}, "
        f"{plural(sum(len(vm.models) for vm in placement.vms), 'replica')} placed, "
        f"{len(placement.unplaced)} listed as not placed"
    )
    if report.score is not None:
        out.print()
        out.print(_terms(placement, report))
    if not report.ok:
        out.print()
        out.print(_violations(report))
        more = len(report.violations) - VIOLATIONS_SHOWN
        if more > 0:
            codes = Counter(violation.code for violation in report.violations)
            every = ", ".join(f"{count} {code}" for code, count in codes.most_common())
            out.print(f"... and {more} more; in all {every}")


def _terms(placement: Placement, report: CheckReport) -> object:
    assert report.score is not None
    result = table("term", ">stated", ">recomputed")
    for term in TERMS:
        stated = None if placement.terms is None else getattr(placement.terms, term)
        result.add_row(term, number(stated, 9), number(report.score.terms[term], 9))
    result.add_row("objective", number(placement.objective, 9), number(report.score.objective, 9))
    return result


def _violations(report: CheckReport) -> object:
    result = table("violation", "where", "what")
    for violation in report.violations[:VIOLATIONS_SHOWN]:
        result.add_row(violation.code, violation.path, violation.message)
    return result
