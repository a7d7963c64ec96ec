"""`placer remove`: one departure from a fleet that lasts."""

from __future__ import annotations

import click

from placer.cli.options import format_option
from placer.report.text import plural


@click.command("remove")
@click.argument("instance", type=click.Path(allow_dash=True))
@click.argument("fleet", type=click.Path())
@click.argument("model")
@click.option("--vm", default=None, help="VM it leaves; without it, the one where that saves most.")
@format_option("output", "How to print what was decided.")
def command(instance: str, fleet: str, model: str, vm: str | None, output: str) -> None:
    """Remove a replica of MODEL from the FLEET, and close its VM if nothing is left on it.

    INSTANCE is the catalogue, FLEET a placement file that is replaced whole. Exit status 4 says
    that those who stay could not share their VM without the replica; the fleet is then as it was.
    """
    from pathlib import Path

    from placer.errors import InputError
    from placer.files import read_instance, to_json
    from placer.fleet_file import durable_fleet

    catalogue = read_instance(instance)
    if not Path(fleet).exists():
        raise InputError("cannot be read: no such file or directory", source=fleet)
    with durable_fleet(catalogue, fleet, strict=False) as placer:
        departure = placer.remove(model, vm)
        if not departure.removed:
            click.echo(f"placer: {model!r} cannot be removed: {departure.reason}", err=True)
            click.get_current_context().exit(4)
        placement = placer.placement()
    if output == "json":
        data = {"departure": departure.to_dict(), "objective": placement.objective}
        click.echo(to_json(data), nl=False)
        return
    closed = ", which is closed" if departure.closed else ""
    saving = "" if departure.saving is None else f", objective {-departure.saving:+.6g}"
    click.echo(f"{model} left {departure.vm} ({departure.vm_type}){closed}{saving}")
    for slowdown in departure.slowdowns:
        after = "gone" if slowdown.after is None else f"{slowdown.after:.3f}x"
        click.echo(f"  {slowdown.model}: {slowdown.before:.3f}x -> {after}")
    objective = "unknown" if placement.objective is None else f"{placement.objective:.6g}"
    click.echo(f"Fleet: {plural(len(placement.vms), 'VM')}, objective {objective}")
