"""`placer schema`: the JSON Schema of a file format."""

from __future__ import annotations

import click


@click.command("schema")
@click.argument("which", type=click.Choice(["instance", "placement"]))
def command(which: str) -> None:
    """Print the JSON Schema of instance files or of placement files."""
    from placer.schema import schema_text

    click.echo(schema_text(which), nl=False)
