"""`placer measure`: runs real models together on this host and records how they slow down."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from placer.cli.options import SecondsType
from placer.errors import InputError, UsageError

if TYPE_CHECKING:
    from placer.measure.dataset import DataSet
    from placer.measure.plan import Plan


@click.command("measure")
@click.argument("source", required=False, type=click.Path())
@click.option("-o", "--output", type=click.Path(), help="Folder of the data set; it is added to.")
@click.option("--models", type=click.Path(), help="Folder of ONNX models for a plan.")
@click.option("--zoo", is_flag=True, help="Measure the built-in list of real architectures.")
@click.option(
    "--only", multiple=True, metavar="MODEL", help="A model to measure; all if not given."
)
@click.option(
    "--vm-type", multiple=True, metavar="SHAPE",
    help="Shape of this host, such as 1-core, 1.5-of-2-core, 2-core-2-threads.",
)  # fmt: skip
@click.option(
    "--design", default=None, metavar="NAME",
    help="random, complete (every group up to --degree), or learn (what teaches most). "
    "[default: learn with --budget, else random]",
)  # fmt: skip
@click.option("--degree", type=click.IntRange(1, 64), help="Largest co-location degree.")
@click.option("--runs", type=click.IntRange(1), help="How many groups a random design has.")
@click.option(
    "--load", "loads", multiple=True, type=click.FloatRange(0, min_open=True),
    help="Open loop at this share of one processor, beside closed loop.",
)  # fmt: skip
@click.option(
    "--rate", "rates", multiple=True, type=click.FloatRange(0, min_open=True),
    help="Open loop at this many requests/s, beside closed loop.",
)  # fmt: skip
@click.option("--repeats", type=click.IntRange(1), help="Solo runs of each model on each VM type.")
@click.option("--passes", type=click.IntRange(1), help="Runs of each group of a fixed design.")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="Length of a run.")
@click.option("--budget", type=SecondsType(), help="Time to spend, such as 90s, 30m or 2h.")
@click.option("--instance", type=click.Path(), help="With learn: an instance to learn for.")
@click.option("--patience", type=SecondsType(), help="Longest wait for a quiet host.")
@click.option("--label", help="Put before the VM types' names, to tell this host from another.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="Seed of every random choice.")
@click.option(
    "--merge", multiple=True, type=click.Path(), metavar="FOLDER",
    help="Add the runs of another data set; nothing is measured.",
)  # fmt: skip
@click.option("--quiet", is_flag=True, help="No progress on standard error.")
def command(
    source: str | None, output: str | None, zoo: bool, merge: tuple[str, ...], quiet: bool,
    **options: Any,
) -> None:  # fmt: skip
    """Run real models together on this host and record how they slow each other down.

    SOURCE is a folder of ONNX models or a plan in TOML. The same command goes on where it was
    stopped, and adds this host's VM types to a data set that another host began.
    """
    from placer.measure.plan import measure

    if output is None:
        raise UsageError("missing -o FOLDER, where the data set is kept")
    if merge:
        return merge_into(output, merge)
    with showing(quiet=quiet) as (say, listener):
        plan = make_plan(source, zoo, options, say)
        try:
            stop_like_interrupt()
            data = measure(plan, output, listener)
        except KeyboardInterrupt:
            from placer.measure.dataset import DataSet

            data = DataSet(output)
            say("interrupted; the same command goes on from here")
    report(data)
    return None


def stop_like_interrupt() -> None:
    """Let a request to end the process end the campaign in order, as Ctrl-C does."""
    import signal

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def make_plan(
    source: str | None, zoo: bool, options: dict[str, Any], say: Callable[[str], None]
) -> Plan:
    """Return the plan: the file's, or the usual one, with the options over it."""
    from dataclasses import replace

    from placer.measure.plan import Plan, read_plan

    plan, from_file = Plan(), source is not None and source.endswith(".toml")
    if from_file:
        plan = read_plan(str(source))
    elif source is not None:
        plan = replace(plan, models=source)
    given = {name: value for name, value in options.items() if value not in (None, ())}
    if "vm_type" in given:
        given["vm_types"] = given.pop("vm_type")
    if "patience" in given:
        given["limits"] = replace(plan.limits, patience=given.pop("patience"))
    if "budget" in given and not from_file:
        given.setdefault("design", "learn")
    try:
        plan = replace(plan, **given)
    except InputError as error:
        raise UsageError(f"--{error.path.replace('_', '-')}: {error.message}") from None
    if zoo:
        from placer.measure.zoo import build_zoo, zoo_folder

        plan = replace(plan, models=str(build_zoo(zoo_folder(), plan.only or None, say)))
    if not plan.models:
        raise UsageError("nothing to measure: give a folder of ONNX models, a plan, or --zoo")
    return plan


def merge_into(output: str, others: tuple[str, ...]) -> None:
    """Add the runs of other data sets to one."""
    from placer.measure.dataset import DataSet

    for other in others:
        if not (Path(other) / "runs.csv").exists():
            raise InputError("has no runs.csv; expected a folder that `placer measure` wrote",
                             source=other)  # fmt: skip
    data = DataSet(output)
    for other in others:
        click.echo(f"{data.merge(DataSet(other))} runs of {other} added.", err=True)
    report(data)


def report(data: DataSet) -> None:
    """Print what the data set holds now."""
    from placer.report.measured import print_data_set

    print_data_set(data)


@contextmanager
def showing(*, quiet: bool) -> Iterator[tuple[Callable[[str], None], Any]]:
    """Give two listeners for text and for the campaign's state."""
    from placer.report.measured import watching

    with watching(quiet=quiet) as listeners:
        yield listeners
