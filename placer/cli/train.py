"""`placer train`: fits the unified predictor to a folder of measurements."""

from __future__ import annotations

import click


@click.command("train")
@click.argument("measurements", nargs=-1, required=True, type=click.Path())
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(),
    help="File to write the predictor to; - is standard output.",
)
@click.option(
    "--seed",
    default=0,
    show_default=True,
    type=click.IntRange(0, 2**31 - 1),
    help="Seed of every random choice.",
)
@click.option("--workers", default=None, type=click.IntRange(1), help="Threads to use.")
def command(measurements: tuple[str, ...], output: str, seed: int, workers: int | None) -> None:
    """Fit the unified predictor to MEASUREMENTS.

    MEASUREMENTS is a folder with measurements.csv (or .parquet), models.csv and vm_types.csv.
    Several are joined.
    """
    import json

    from placer.interference.joined import read_folders
    from placer.interference.predictor import Predictor

    data = read_folders(measurements)
    predictor = Predictor.train(data, seed=seed, workers=workers)
    if output == "-":
        click.echo(json.dumps(predictor.to_json(), allow_nan=False))
    else:
        predictor.save(output)
    facts = predictor.metadata
    click.echo(
        f"Trained on {facts['targets']} slowdowns from {facts['runs']} runs: "
        f"{len(facts['models'])} models, {len(facts['vm_types'])} VM types, "
        f"degree {facts['degrees'][0]} to {facts['degrees'][-1]}.",
        err=True,
    )
