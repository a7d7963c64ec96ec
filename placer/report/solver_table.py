"""The solvers there are, as tables."""

from __future__ import annotations

from placer.report.text import console, table
from placer.solvers.registry import SOLVERS


def print_solvers() -> None:
    """Print each solver with its summary, and the MILP solvers that PuLP finds here."""
    out = console()
    result = table("--solver", "proves", "what it is")
    for name, entry in SOLVERS.items():
        result.add_row(name, "yes" if entry.exact else "no", entry.summary)
    out.print(result)
    found = table("--milp-solver", "name in PuLP")
    for name, alias in milp_solvers().items():
        found.add_row(alias, name)
    out.print()
    out.print(found)


def milp_solvers() -> dict[str, str]:
    """Return the MILP solvers that PuLP finds here, by PuLP's name, with the name to give."""
    import warnings

    import pulp

    from placer.solvers.backend_pulp import ALIASES

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        available = dict.fromkeys(pulp.listSolvers(onlyAvailable=True))
    short = {name: alias for alias, ways in ALIASES.items() for name in ways}
    return {name: short.get(name, name) for name in available}
