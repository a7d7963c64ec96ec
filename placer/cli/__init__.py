"""The command line: one module for each command, imported when that command is asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import Any

import click

from placer._version import __version__
from placer.errors import PlacerError, near_name

COMMANDS = {
    "solve": "Place a batch of models on VMs, with a proven bound.",
    "check": "Recompute a placement from its instance and list all violations.",
    "place": "Place one arriving replica, over state kept in a file.",
    "remove": "Remove one replica from the state kept in a file.",
    "measure": "Run real models together on this host and record their slowdown.",
    "replay": "Run a placement for real and compare with what it predicted.",
    "refine": "Solve, measure what the placement uses, learn, and solve again.",
    "train": "Fit the unified predictor to measurements.",
    "evaluate": "Show a predictor's error by degree and VM type.",
    "predict": "Print predicted slowdowns of given groups.",
    "sweep": "Run instances x solvers x options x seeds, resumable, in parallel.",
    "schema": "Print the JSON Schema of a file format.",
    "solvers": "List solvers, and the MILP solvers that PuLP finds here.",
}
"""Commands and their short help, so that `placer --help` imports none of their modules."""

INTERRUPTED = 130


class LazyGroup(click.Group):
    """A group that imports a command's module when it runs, and says each failure in one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"placer.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(
                f"unknown command {args[0]!r}{near_name(args[0], COMMANDS)}, expected one of "
                + ", ".join(COMMANDS)
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command that `args` name and exit with its status, 0 to 4 or 130."""
        run = partial(
            super().main,
            args=args,
            prog_name=prog_name or "placer",
            complete_var=complete_var,
            standalone_mode=False,
            windows_expand_args=windows_expand_args,
            **extra,
        )
        return sys.exit(_status(run)) if standalone_mode else run()


def _status(run: Callable[[], object]) -> int:
    """Return the exit status of `run`, after one line on standard error where it failed."""
    try:
        status = run()
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except click.ClickException as error:
        _say(error.format_message())
        context = getattr(error, "ctx", None)
        if context is not None:
            click.echo(context.get_usage(), err=True)
        return 2
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        # Nobody reads on; Python would complain again when it flushes standard output at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except PlacerError as error:
        _say(str(error))
        _traceback()
        return error.exit_status
    except MemoryError:
        _say("out of memory")
        return 1
    except Exception as error:
        text = f": {error}" if str(error) else ""
        hint = "" if _debugging() else " (run with PLACER_DEBUG=1 for the traceback)"
        _say(f"unexpected fault: {type(error).__name__}{text}{hint}")
        _traceback()
        return 1


def _say(text: str) -> None:
    """Print `text` as one line on standard error, whatever characters a name brought into it."""
    line = " ".join(text.split())
    click.echo(
        "placer: " + "".join(c if c.isprintable() else repr(c)[1:-1] for c in line), err=True
    )


def _debugging() -> bool:
    return os.environ.get("PLACER_DEBUG", "") not in ("", "0")


def _traceback() -> None:
    if _debugging():
        import traceback

        traceback.print_exc()


@click.group(
    "placer",
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="placer", message="%(prog)s %(version)s")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Place inference models on VMs: cheapest, least interference, SLOs kept, a proven bound.

    A file named - is standard input or output. Exit status: 0 done; 1 a check failed or a fault;
    2 bad usage or input; 3 proven infeasible; 4 no placement found in the time given.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(2)
