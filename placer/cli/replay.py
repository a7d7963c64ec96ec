"""`placer replay`: runs the VMs of a placement for real and compares with what was predicted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from placer.cli.options import SecondsType, format_option
from placer.cli.solve import refuse_output
from placer.errors import InputError, UsageError, near_name

if TYPE_CHECKING:
    from placer.measure.onnx_models import OnnxModel
    from placer.measure.replayed import Replay
    from placer.measure.shapes import Shape


@click.command("replay")
@click.argument("placement", type=click.Path())
@click.option(
    "--instance", type=click.Path(), help="The placement's instance: rates, SLOs, the objective."
)
@click.option("--models", type=click.Path(), help="Folder of ONNX models, NAME.onnx for each.")
@click.option("--zoo", is_flag=True, help="Take the models from the built-in list.")
@click.option(
    "--vm-type", "vm_types", multiple=True, metavar="NAME=SHAPE",
    help="The shape of this host that plays a VM type, such as c2=2-core.",
)  # fmt: skip
@click.option("-o", "--output", type=click.Path(), help="File to write the replay to, as JSON.")
@click.option(
    "--seconds", type=click.FloatRange(0, min_open=True), default=2.0, show_default=True,
    help="Length of a run.",
)  # fmt: skip
@click.option(
    "--repeats", type=click.IntRange(1), default=3, show_default=True, help="Runs of each VM."
)
@click.option("--every", is_flag=True, help="Run equal VMs each, not once for all of them.")
@click.option("--patience", type=SecondsType(), help="Longest wait for a quiet host.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, help="Order and arrivals.")
@format_option("form", "Print tables, or the replay as JSON.")
@click.option("--quiet", is_flag=True, help="No progress on standard error.")
def command(
    placement: str, instance: str | None, models: str | None, zoo: bool, vm_types: tuple[str, ...],
    output: str | None, seconds: float, patience: float | None, form: str, quiet: bool,
    **options: Any,
) -> None:  # fmt: skip
    """Run every VM of PLACEMENT on this host, one after another, and report what was measured.

    Equal VMs are run once and count for all of them. Each model also runs alone, so that
    slowdowns are of this host. Ctrl-C ends it with what was replayed.
    """
    if instance == placement == "-":
        raise UsageError("PLACEMENT and --instance cannot both be standard input")
    if output not in (None, "-"):
        refuse_output(str(output), instance or "-")
        refuse_same(str(output), placement)
    from placer.files import read_instance, read_placement
    from placer.measure.guard import Limits
    from placer.measure.replay import replay
    from placer.measure.runner import Window
    from placer.report.measured import watching

    stated = read_placement(placement)
    batch = None if instance is None else read_instance(instance)
    shapes = read_shapes(vm_types, {vm.vm_type for vm in stated.vms})
    names = {model.name for vm in stated.vms for model in vm.models}
    with watching(quiet=quiet) as (say, listener), said_of(placement, instance):
        result = replay(
            stated,
            pick_models(models, zoo, names, say),
            shapes=shapes,
            instance=batch,
            window=Window(seconds, longest=4.0 * seconds),
            limits=Limits() if patience is None else Limits(patience=patience),
            on_progress=listener,
            **options,
        )
    click.get_current_context().exit(write(result, output, form))


def refuse_same(output: str, placement: str) -> None:
    """Raise UsageError where the output is the placement's own file."""
    both = Path(output).exists() and Path(placement).exists()
    if both and Path(output).samefile(placement):
        raise UsageError(f"-o {output}: is the placement's own file, expected another")


def pick_models(
    folder: str | None, zoo: bool, names: Iterable[str], say: Callable[[str], None]
) -> Mapping[str, OnnxModel]:
    """Return the ONNX models of these names, built where they are of the zoo and not there yet.

    Raises UsageError where neither a folder nor the zoo is given.
    """
    from placer.measure.jobs import find_models

    wanted = sorted(set(names))
    if zoo:
        from placer.measure.zoo import build_zoo, zoo_folder

        folder = str(build_zoo(folder or zoo_folder(), wanted, say))
    if folder is None:
        raise UsageError("no models: give --models FOLDER, a folder of ONNX files, or --zoo")
    return find_models(folder, wanted)


def read_shapes(texts: Iterable[str], known: Iterable[str]) -> dict[str, Shape]:
    """Return the shapes of `NAME=SHAPE` texts by VM type. Raises UsageError."""
    from placer.measure.shapes import Shape

    names = sorted(known)
    found: dict[str, Shape] = {}
    for text in texts:
        name, _, shape = text.rpartition("=")
        if not name:
            raise UsageError(f"--vm-type {text}: expected NAME=SHAPE, such as c2=2-core")
        if name not in names:
            raise UsageError(
                f"--vm-type {text}: there is no VM type {name!r}{near_name(name, names)}; "
                f"expected one of {', '.join(names)}"
            )
        found[name] = Shape.parse(shape)
    return found


@contextmanager
def said_of(placement: str, instance: str | None) -> Iterator[None]:
    """Name the file in an InputError that has none: a VM's place is one in the placement."""
    try:
        yield
    except InputError as error:
        if error.source is not None:
            raise
        file = placement if error.path.startswith("vms") or instance is None else instance
        raise error.within("standard input" if file == "-" else file) from None


def write(result: Replay, output: str | None, form: str) -> int:
    """Print a replay and write its file; return the exit status, 1 where the host was not quiet."""
    from placer.files import to_json, write_text
    from placer.measure.replayed import NOT_QUIET
    from placer.report.replayed import print_replay

    if output not in (None, "-"):
        write_text(str(output), to_json(result.to_dict()))
    if form == "json" or output == "-":
        click.echo(to_json(result.to_dict()), nl=False)
    else:
        print_replay(result)
    if result.stopped_by == NOT_QUIET:
        click.echo(f"placer: {result.notes[0]}; only a part was replayed", err=True)
        return 1
    return 0
