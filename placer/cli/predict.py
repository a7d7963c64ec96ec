"""`placer predict`: the slowdowns of given groups."""

from __future__ import annotations

import click


@click.command("predict")
@click.argument("predictor", type=click.Path())
@click.argument("queries", type=click.Path(allow_dash=True))
@click.option(
    "--measurements",
    default=None,
    type=click.Path(),
    help="Folder with features and solo runs of models and VM types not trained on.",
)
@click.option(
    "--explain",
    is_flag=True,
    help="Add a column with the factors that multiply to each slowdown.",
)
def command(predictor: str, queries: str, measurements: str | None, explain: bool) -> None:
    """Print QUERIES with the predicted slowdown and its 95 % upper bound.

    QUERIES is CSV with the columns run, vm_type, model and rate_rps (empty is closed loop); the
    rows of one run share one VM. - is standard input. The result is CSV in the same order; a
    column note is added where a group is far from the training data, and with --explain a column
    explanation says what drives each slowdown.
    """
    import sys

    from placer.interference.evaluate import predict_table
    from placer.interference.measurements import read_measurements
    from placer.interference.predictor import Predictor

    loaded = Predictor.load(predictor)
    extra = None if measurements is None else read_measurements(measurements)
    if queries == "-":
        table = predict_table(loaded, sys.stdin, extra, source="standard input", explain=explain)
    else:
        table = predict_table(loaded, queries, extra, explain=explain)
    click.echo(table.to_csv(index=False, lineterminator="\n"), nl=False)
