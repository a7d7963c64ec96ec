"""`placer solvers`: what --solver and --milp-solver may name."""

from __future__ import annotations

import click


@click.command("solvers")
def command() -> None:
    """List the solvers by name, and the MILP solvers that PuLP finds on this machine."""
    from placer.report.solver_table import print_solvers

    print_solvers()
