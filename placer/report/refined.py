"""The rounds of `placer refine`: one line each, and a table of all."""

from __future__ import annotations

from placer.measure.refine import REASONS, Refined, Round
from placer.report.text import console, number, percent, plural, table


def round_line(one: Round) -> str:
    """Return a round in one line."""
    measured = f"{number(one.measured, 5)} measured" if one.measured is not None else "not measured"
    apart = "" if one.apart is None else f", degradation {percent(one.apart)} apart"
    return (
        f"round {one.number}: objective {number(one.predicted, 5)} predicted, {measured}{apart}; "
        f"{one.measured_now} of {plural(one.groups, 'group')} measured now"
    )


def print_refined(result: Refined) -> None:
    """Print the rounds, why they ended and which placement was kept."""
    out = console()
    rows = table(
        ">round", ">objective\npredicted", ">\nmeasured", ">degradation\npredicted", ">\nmeasured",
        ">apart", ">SLOs\nmissed", ">groups\nused", ">measured\nnow",
        title=f"Rounds of {result.instance}",
    )  # fmt: skip
    for one in result.rounds:
        rows.add_row(
            str(one.number), number(one.predicted, 5), number(one.measured, 5),
            number(one.predicted_degradation, 4), number(one.measured_degradation, 4),
            percent(one.apart), number(one.slos_missed), str(one.groups), str(one.measured_now),
        )  # fmt: skip
    if result.rounds:
        out.print(rows)
    out.print(f"stopped: {REASONS[result.stopped_by]}")
    if result.placement is not None:
        truth = "not measured" if result.measured is None else f"{number(result.measured, 6)}"
        out.print(
            f"kept: the placement of round {result.best}, objective as measured: {truth}, as the "
            f"predictor now says: {number(result.placement.objective, 6)}"
        )
