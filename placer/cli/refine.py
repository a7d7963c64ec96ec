"""`placer refine`: solve, measure what the placement uses, learn from it, solve again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from placer.cli.options import SecondsType, format_option
from placer.cli.replay import pick_models, read_shapes
from placer.cli.solve import refuse_output
from placer.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from placer.measure.refine import Refined
    from placer.measure.shapes import Shape
    from placer.problem import Instance

EXIT_STATUS = {"not-quiet": 1, "infeasible": 3, "unknown": 4}


@click.command("refine")
@click.argument("instance", type=click.Path())
@click.option("--data", required=True, type=click.Path(), help="Data set's folder; it is added to.")
@click.option("--models", type=click.Path(), help="Folder of ONNX models, NAME.onnx for each.")
@click.option("--zoo", is_flag=True, help="Take the models from the built-in list.")
@click.option(
    "--vm-type", "vm_types", multiple=True, metavar="NAME=SHAPE",
    help="The shape of this host that plays a VM type, such as c2=2-core.",
)  # fmt: skip
@click.option("-o", "--output", type=click.Path(), help="File to write the predictor to.")
@click.option("--placement", type=click.Path(), help="File to write the best placement to.")
@click.option(
    "--rounds", type=click.IntRange(1), default=5, show_default=True, help="Rounds at the most."
)
@click.option(
    "--tolerance", type=click.FloatRange(0), default=0.05, show_default=True,
    help="Stop where predicted and measured degradation are this close (a share).",
)  # fmt: skip
@click.option("--budget", type=SecondsType(), help="Time to spend, such as 30m or 2h.")
@click.option("--time-limit", type=click.FloatRange(0, min_open=True), help="Seconds of a solve.")
@click.option(
    "--repeats", type=click.IntRange(1), default=2, show_default=True, help="Runs of a new group."
)
@click.option(
    "--seconds", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True,
    help="Length of a run.",
)  # fmt: skip
@click.option("--patience", type=SecondsType(), help="Longest wait for a quiet host.")
@click.option(
    "--seed", type=click.IntRange(0, 2**31 - 1), default=0, help="Seed of every random choice."
)
@format_option("form", "Print tables, or the result as JSON.")
@click.option("--quiet", is_flag=True, help="No progress on standard error.")
def command(
    instance: str, data: str, models: str | None, zoo: bool, vm_types: tuple[str, ...],
    output: str | None, placement: str | None, form: str, quiet: bool, **options: Any,
) -> None:  # fmt: skip
    """Place INSTANCE, measure the groups that the placement uses, and learn from them.

    Goes round until predicted and measured degradation agree, and keeps the placement that is
    best as measured. What was measured stays in the data set; the same command goes on from it.
    """
    for file in (output, placement):
        if file is not None:
            refuse_output(file, instance)
    if output is not None and output == placement:
        raise UsageError(f"-o and --placement are both {output}, expected two files")
    from placer.files import read_instance
    from placer.measure.jobs import vm_type_shapes
    from placer.report.measured import watching
    from placer.report.refined import round_line

    batch = read_instance(instance)
    with watching(quiet=quiet) as (say, listener):
        try:
            shapes = vm_type_shapes(batch, read_shapes(vm_types, [v.name for v in batch.vm_types]))
            names = [model.name for model in batch.models if model.replicas]
            found = pick_models(models, zoo, names, say)
            result = run(
                batch, data, found, shapes, options, listener, lambda one: say(round_line(one))
            )
        except InputError as error:
            raise (error if error.source is not None else error.within(instance)) from None
    write(result, output, placement, form)
    click.get_current_context().exit(exit_status(result))


def run(
    batch: Instance, data: str, models: Mapping[str, Any], shapes: Mapping[str, Shape],
    options: Mapping[str, Any], listener: Any, on_round: Any,
) -> Refined:  # fmt: skip
    """Refine with the options of the command line."""
    from placer.measure.guard import Limits
    from placer.measure.jobs import require_models
    from placer.measure.laboratory import HostLaboratory
    from placer.measure.refine import refine
    from placer.measure.runner import Window

    require_models(batch, models)
    models = {model.name: models[model.name] for model in batch.models if model.replicas}
    deadline = None
    if options["budget"] is not None:
        deadline = time.monotonic() + options["budget"]
    seconds, patience = options["seconds"], options["patience"]
    laboratory = HostLaboratory(
        data, models, shapes, repeats=options["repeats"],
        window=Window(seconds, longest=4.0 * seconds),
        limits=Limits() if patience is None else Limits(patience=patience),
        seed=options["seed"], deadline=deadline, on_progress=listener,
    )  # fmt: skip
    return refine(
        batch, laboratory, rounds=options["rounds"], tolerance=options["tolerance"],
        time_limit=options["time_limit"], deadline=deadline, seed=options["seed"],
        on_round=on_round,
    )  # fmt: skip


def write(result: Refined, output: str | None, placement: str | None, form: str) -> None:
    """Write predictor and placement where there are any, and print the rounds."""
    from placer.files import to_json, write_placement
    from placer.report.refined import print_refined

    if output is not None and result.predictor is not None:
        result.predictor.save(output)
    if placement is not None and result.placement is not None:
        write_placement(placement, result.placement)
    if form == "json":
        click.echo(to_json(result.to_dict()), nl=False)
    else:
        print_refined(result)
    for line in result.explanation:
        click.echo(line, err=True)


def exit_status(result: Refined) -> int:
    """Return the exit status: that of the last solve where there is no placement at all."""
    if result.placement is None:
        return EXIT_STATUS.get(result.stopped_by, 4)
    return EXIT_STATUS["not-quiet"] if result.stopped_by == "not-quiet" else 0
