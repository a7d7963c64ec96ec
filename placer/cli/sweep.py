"""`placer sweep`: many instances x solvers x options x seeds, resumable, in parallel."""

from __future__ import annotations

import click

from placer.cli.options import format_option


@click.command("sweep")
@click.argument("plan", type=click.Path())
@click.option(
    "-o", "--output", required=True, type=click.Path(),
    help="Parquet file of results; cells that it holds are not run again.",
)  # fmt: skip
@click.option(
    "--backend", default="loky", show_default=True, metavar="NAME",
    help="Where cells run: loky or threading here, dask or ray on a cluster.",
)  # fmt: skip
@click.option("--jobs", type=click.IntRange(1), help="Cells at once; all processors if not given.")
@click.option("--scheduler", metavar="ADDRESS", help="Of the Dask scheduler or the Ray cluster.")
@click.option("--retry-errors", is_flag=True, help="Run cells that failed before once more.")
@click.option("--again", is_flag=True, help="Run all cells anew, those that are there too.")
@format_option("form", "Print a summary, or the rows as JSON.")
@click.option("--quiet", is_flag=True, help="No progress on standard error.")
def command(
    plan: str, output: str, backend: str, jobs: int | None, scheduler: str | None,
    retry_errors: bool, again: bool, form: str, quiet: bool,
) -> None:  # fmt: skip
    """Run every cell of PLAN (TOML) once and sum up what came of it.

    A cell is one instance, solver, set of options and seed, in a process of its own. The same
    command goes on where it was stopped.
    """
    from placer.parallel import Workers
    from placer.report.swept import print_summary, watching
    from placer.sweep import read_sweep_plan, sweep
    from placer.sweep_summary import summarise

    workers = Workers(backend, jobs, scheduler)
    read = read_sweep_plan(plan)
    with watching(quiet=quiet) as listener:
        rows = sweep(
            read, output, workers, retry_errors=retry_errors, again=again, on_progress=listener
        )
    if form == "json":
        click.echo(rows.to_json(orient="records", indent=1))
    else:
        print_summary(summarise(rows), rows, output)
