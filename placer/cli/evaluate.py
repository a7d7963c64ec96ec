"""`placer evaluate`: the error of a predictor on measurements, and its bound's coverage."""

from __future__ import annotations

from typing import Any

import click

from placer.cli.options import format_option


@click.command("evaluate")
@click.argument("predictor", type=click.Path())
@click.argument("measurements", type=click.Path())
@format_option("form", "How to print the result.")
def command(predictor: str, measurements: str, form: str) -> None:
    """Compare PREDICTOR with the slowdowns in MEASUREMENTS, by degree and VM type.

    Runs that the predictor was trained on are shown apart: their error is not held out and says
    little about new groups.
    """
    import json

    from placer.interference.evaluate import evaluate
    from placer.interference.measurements import read_measurements
    from placer.interference.predictor import Predictor

    result = evaluate(Predictor.load(predictor), read_measurements(measurements))
    if form == "json":
        click.echo(json.dumps(result, indent=2))
    else:
        print_table(result)
    if result["in_training"]:
        click.echo(
            f"{result['in_training']} of {result['targets']} slowdowns were in the training data: "
            "they are not held out.",
            err=True,
        )


def print_table(result: dict[str, Any]) -> None:
    """Print one table for held-out slowdowns and one for those in the training data."""
    from rich.console import Console
    from rich.table import Table

    titles = {"held out": "Held out", "in training": "In the training data (not held out)"}
    for data, title in titles.items():
        rows = [row for row in result["rows"] if row["data"] == data]
        if not rows:
            continue
        table = Table(title=title, title_justify="left")
        table.add_column("slowdowns of")
        for head in ("count", "MAPE %", "median APE %", "bias %", "under 95 % bound %"):
            table.add_column(head, justify="right")
        for row in rows:
            label = "all" if row["by"] == "all" else f"{row['by'].replace('_', ' ')} {row['value']}"
            table.add_row(
                label,
                str(row["targets"]),
                f"{row['mape']:.2f}",
                f"{row['median_ape']:.2f}",
                f"{row['bias']:+.2f}",
                f"{row['coverage']:.1f}",
            )
        Console().print(table)
