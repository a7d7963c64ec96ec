"""`placer solve`: places the batch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from placer.cli.options import format_option
from placer.errors import InputError, UsageError

if TYPE_CHECKING:
    from placer.result import Result

DEFAULT_MILP_SOLVER = "highs"
EXIT_STATUS = {"infeasible": 3, "unknown": 4}


@click.command("solve")
@click.argument("instance", type=click.Path())
@click.option("-o", "--output", type=click.Path(), help="File to write the placement to.")
@click.option(
    "--solver",
    default="auto",
    show_default=True,
    metavar="NAME",
    help="One of those that `placer solvers` lists.",
)
@click.option("--time-limit", type=float, metavar="S", help="Seconds to take at the most.")
@click.option(
    "--gap",
    type=float,
    default=1e-6,
    show_default=True,
    metavar="G",
    help="Stop when the placement is proved to be within this share of the optimum.",
)
@click.option(
    "--workers", type=click.IntRange(1), metavar="N", help="Threads; all cores if not given."
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    default=0,
    show_default=True,
    metavar="N",
    help="Seed of every random choice.",
)
@click.option("--start", type=click.Path(), metavar="PLACEMENT", help="Placement to begin from.")
@format_option("form", "Print a summary, or the placement file's content.")
@click.option("--quiet", is_flag=True, help="No progress and no notes on standard error.")
@click.option(
    "--milp-solver",
    metavar="NAME",
    help="MILP solver for the solvers that use PuLP.  [default: highs]",
)
def command(
    instance: str,
    output: str | None,
    solver: str,
    time_limit: float | None,
    gap: float,
    workers: int | None,
    seed: int,
    start: str | None,
    form: str,
    quiet: bool,
    milp_solver: str | None,
) -> None:
    """Place the batch in INSTANCE and print the placement.

    Ctrl-C ends the search with the best placement so far.
    """
    _refuse_before_solving(instance, output, solver, start, milp_solver)
    from placer.files import read_instance, read_placement
    from placer.report.progress import watching
    from placer.solving import solve

    batch = read_instance(instance)
    begin = None if start is None else read_placement(start)
    with watching(quiet=quiet) as listener, said_of(instance, start):
        result = solve(
            batch,
            solver=solver,
            time_limit=time_limit,
            gap=gap,
            workers=workers,
            seed=seed,
            start=begin,
            on_progress=listener,
            milp_solver=milp_solver or DEFAULT_MILP_SOLVER,
        )
    _write(result, output, form, quiet=quiet)
    click.get_current_context().exit(EXIT_STATUS.get(result.status.value, 0))


def _refuse_before_solving(
    instance: str, output: str | None, solver: str, start: str | None, milp_solver: str | None
) -> None:
    """Raise UsageError for what would only come to light after minutes of work."""
    if instance == "-" and start == "-":
        raise UsageError("INSTANCE and --start cannot both be standard input")
    if output not in (None, "-"):
        refuse_output(str(output), instance)
    if milp_solver is not None or solver.startswith("milp"):
        from placer.solvers.backend_pulp import solver_name

        solver_name(milp_solver or DEFAULT_MILP_SOLVER)


@contextmanager
def said_of(instance: str, placement: str | None = None) -> Iterator[None]:
    """Name the file in an InputError that has none: a VM's place is one in the placement."""
    try:
        yield
    except InputError as error:
        if error.source is not None:
            raise
        file = placement if placement is not None and error.path.startswith("vms[") else instance
        raise error.within("standard input" if file == "-" else file) from None


def refuse_output(output: str, instance: str) -> None:
    """Raise UsageError where no file can be written at `output`, or that is the instance's own."""
    target = Path(output)
    folder = target.parent
    if not folder.is_dir():
        raise UsageError(f"-o {output}: there is no folder {str(folder)!r}")
    if target.is_dir():
        raise UsageError(f"-o {output}: is a folder, expected a file")
    if not os.access(target if target.exists() else folder, os.W_OK):
        raise UsageError(f"-o {output}: cannot be written: permission denied")
    both = instance != "-" and target.exists() and Path(instance).exists()
    if both and target.samefile(instance):
        raise UsageError(f"-o {output}: is the instance's own file, expected another")


def _write(result: Result, output: str | None, form: str, *, quiet: bool) -> None:
    from placer.files import to_json, write_placement
    from placer.report.summary import print_result
    from placer.status import Status

    if output not in (None, "-") and result.status != Status.UNKNOWN:
        write_placement(str(output), result.placement)
    as_json = form == "json" or output == "-"
    if as_json:
        click.echo(to_json(result.placement.to_dict()), nl=False)
    else:
        print_result(result)
    said = [*result.explanation]
    if as_json and not quiet:
        said += [f"note: {note}" for note in result.notes]
    if result.status == Status.UNKNOWN:
        kept = "" if output in (None, "-") else f"; {output} was not written"
        said.append(f"placer: no placement found{kept}")
    for line in said:
        click.echo(line, err=True)
