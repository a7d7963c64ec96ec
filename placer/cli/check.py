"""`placer check`: recomputes a placement from its instance alone."""

from __future__ import annotations

import click

from placer.cli.options import format_option
from placer.cli.solve import said_of
from placer.errors import UsageError


@click.command("check")
@click.argument("instance", type=click.Path())
@click.argument("placement", type=click.Path())
@format_option("form", "How to print the report.")
@click.option(
    "--protect", type=float, metavar="Q", help="Hold SLOs by the predictor's bound at this level."
)
def command(instance: str, placement: str, form: str, protect: float | None) -> None:
    """Recompute PLACEMENT from INSTANCE and list every violation.

    Exit status 1 where there is one. No solver takes part.
    """
    if instance == placement == "-":
        raise UsageError("INSTANCE and PLACEMENT cannot both be standard input")
    from placer.checker import check
    from placer.files import read_instance, read_placement, to_json

    batch = read_instance(instance)
    stated = read_placement(placement)
    with said_of(instance, placement):
        if protect is not None:
            from placer.protection import protected

            batch = protected(batch, protect)
        report = check(batch, stated)
    if form == "json":
        click.echo(to_json(report.to_dict()), nl=False)
    else:
        from placer.report.check_table import print_check

        print_check(batch, stated, report)
    click.get_current_context().exit(0 if report.ok else 1)
