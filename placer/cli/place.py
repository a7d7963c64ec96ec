"""`placer place`: one arrival, or several of one model, on a fleet that lasts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from placer.cli.options import format_option
from placer.report.text import plural

if TYPE_CHECKING:
    from placer.online import Decision, OnlinePlacer


@click.command("place")
@click.argument("instance", type=click.Path(allow_dash=True))
@click.argument("fleet", type=click.Path())
@click.argument("model")
@click.option(
    "--count",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    help="Replicas to place; all of them or none.",
)
@format_option("output", "How to print what was decided.")
def command(instance: str, fleet: str, model: str, count: int, output: str) -> None:
    """Place a replica of MODEL on the FLEET where the objective grows least.

    INSTANCE is the catalogue: its VM types, models, interference, objective and rules hold, its
    replicas do not. FLEET is a placement file, begun when missing and replaced whole; calls at
    the same time wait for each other. Exit status 4 says that no VM may take the replica, and
    then the fleet is as it was.
    """
    from placer.files import read_instance, to_json
    from placer.fleet_file import durable_fleet

    decisions: list[Decision] = []
    with durable_fleet(read_instance(instance), fleet) as placer:
        for _ in range(count):
            decisions.append(placer.place(model))
            if not decisions[-1].placed:
                _refuse(decisions, count)
        objective = placer.placement().objective
    if output == "json":
        data = {"decisions": [d.to_dict() for d in decisions], "objective": objective}
        click.echo(to_json(data), nl=False)
    else:
        _print(decisions, placer)


def _refuse(decisions: list[Decision], count: int) -> None:
    refused = decisions[-1]
    done = f" after {len(decisions) - 1} of {count}, so none is" if len(decisions) > 1 else ""
    click.echo(f"placer: {refused.model!r} cannot be placed{done}: {refused.reason}", err=True)
    click.get_current_context().exit(4)


def _print(decisions: list[Decision], placer: OnlinePlacer) -> None:
    for decision in decisions:
        opened = "new " if decision.opened else ""
        click.echo(
            f"{decision.model} on {decision.vm} ({opened}{decision.vm_type}), "
            f"objective {decision.growth:+.6g}"
        )
        for slowdown in decision.slowdowns:
            before = "new" if slowdown.before is None else f"{slowdown.before:.3f}x"
            click.echo(f"  {slowdown.model}: {before} -> {slowdown.after:.3f}x")
    placement = placer.placement()
    click.echo(f"Fleet: {plural(len(placement.vms), 'VM')}, objective {placement.objective:.6g}")
