"""`placer solve`: places the batch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from placer.cli.options import format_option
from placer.errors import InputError, UsageError

if TYPE_CHECKING:
    from placer.parallel import Workers
    from placer.placement import Placement
    from placer.problem import Instance
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
@click.option(
    "--protect",
    type=float,
    metavar="Q",
    help="Hold SLOs by the predictor's bound at this level, such as 0.95.",
)
@click.option(
    "--verify", "second", is_flag=True, help="Solve again with another formulation, and compare."
)
@click.option(
    "--parts",
    type=click.IntRange(2),
    metavar="N",
    help="Solve so many parts of the batch in parallel first.",
)
@click.option("--backend", metavar="NAME", help="Where parts run: loky, threading, dask or ray.")
@click.option("--jobs", type=click.IntRange(1), metavar="N", help="Parts at once.")
@click.option("--scheduler", metavar="ADDRESS", help="Of the Dask scheduler or the Ray cluster.")
def command(
    instance: str, output: str | None, start: str | None, form: str, quiet: bool, **options: Any
) -> None:  # fmt: skip
    """Place the batch in INSTANCE and print the placement.

    Ctrl-C ends the search with the best placement so far.
    """
    _refuse_before_solving(instance, output, options["solver"], start, options["milp_solver"])
    cluster = _cluster(start=start, **options)
    from placer.files import read_instance, read_placement
    from placer.report.progress import watching

    batch = read_instance(instance)
    begin = None if start is None else read_placement(start)
    with watching(quiet=quiet) as listener, said_of(instance, start):
        if options["protect"] is not None:
            from placer.protection import protected

            batch = protected(batch, options["protect"])
        result = _solved(batch, begin, cluster, options, listener)
        result = _looked_into(result, options, listener)
    _write(result, output, form, quiet=quiet)
    click.get_current_context().exit(EXIT_STATUS.get(result.status.value, 0))


def _solved(
    batch: Instance,
    begin: Placement | None,
    cluster: Workers | None,
    options: dict[str, Any],
    listener: Any,
) -> Result:
    """Solve the batch whole, or in parts where that is asked for."""
    common = {name: options[name] for name in ("time_limit", "gap", "seed")}
    if cluster is not None:
        from placer.parts import solve_in_parts

        return solve_in_parts(
            batch, options["parts"], cluster, threads=options["workers"], on_progress=listener,
            **common,
        )  # fmt: skip
    from placer.solving import solve

    return solve(
        batch, solver=options["solver"], workers=options["workers"], start=begin,
        on_progress=listener, milp_solver=options["milp_solver"] or DEFAULT_MILP_SOLVER, **common,
    )  # fmt: skip


def _cluster(
    *,
    start: str | None,
    solver: str,
    parts: int | None,
    backend: str | None,
    jobs: int | None,
    scheduler: str | None,
    **_: Any,
) -> Workers | None:
    """Return where parts are to run. Raises UsageError for options that do not go together."""
    from placer.parallel import Workers

    if parts is None:
        if backend or jobs or scheduler:
            raise UsageError("--backend, --jobs and --scheduler say where parts run: give --parts")
        return None
    if solver != "auto" or start is not None:
        raise UsageError("--parts goes with neither --solver nor --start")
    return Workers(backend or "loky", jobs, scheduler)


def _looked_into(result: Result, options: dict[str, Any], listener: Any) -> Result:
    """Return the result with what a second opinion and the calibration say of it as notes."""
    from dataclasses import replace

    if options["second"]:
        from placer.verifying import verify

        common = {name: options[name] for name in ("time_limit", "workers", "seed")}
        seen = verify(result, on_progress=listener, **common)
        result = replace(seen.result, notes=[*seen.result.notes, seen.words])
    if options["protect"] is not None and result.score is not None:
        from placer.protection import chance_of

        chance = chance_of(result.instance, result.placement.assignment(), options["protect"])
        result = replace(result, notes=[*result.notes, chance.words()])
    return result


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
    from placer.files import write_placement
    from placer.placement_json import placement_json
    from placer.report.summary import print_result
    from placer.status import Status

    if output not in (None, "-") and result.status != Status.UNKNOWN:
        write_placement(str(output), result.placement)
    as_json = form == "json" or output == "-"
    if as_json:
        for piece in placement_json(result.placement):
            click.echo(piece, nl=False)
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
