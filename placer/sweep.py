"""Benchmark sweeps: instances x solvers x options x seeds, each cell once, in parallel, resumable.

A cell that is done goes to a journal beside the results at once, and the results file (Parquet,
one row a cell) is written from it, so that a sweep that was stopped goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

from placer._version import __version__
from placer.errors import InputError, UsageError, near_name
from placer.files import read_instance, read_toml
from placer.parallel import Workers, as_done
from placer.solvers.registry import SOLVERS, get_solver
from placer.sweep_cell import run_apart

if TYPE_CHECKING:
    import pandas as pd

OPTIONS = {
    "time_limit": (int, float),
    "gap": (int, float),
    "workers": (int,),
    "milp_solver": (str,),
}
"""What a variant of the options may say, as `placer.solve` takes it."""

WRITE_EVERY = 15.0
"""Seconds between two writings of the results file while cells are coming in."""


@dataclass(frozen=True)
class SweepPlan:
    """What to run: instance files, solvers, named variants of options, seeds.

    trace: whether rows tell how objective and bound went.
    """

    instances: tuple[str, ...]
    solvers: tuple[str, ...] = ("auto",)
    variants: dict[str, dict[str, Any]] = field(default_factory=lambda: {"default": {}})
    seeds: tuple[int, ...] = (0,)
    trace: bool = False


@dataclass(frozen=True)
class SweepState:
    """How far a sweep has come; `seconds_left` is None until it can be told."""

    done: int
    total: int
    known: int
    errors: int
    seconds: float
    seconds_left: float | None
    text: str


def read_sweep_plan(file: str | Path) -> SweepPlan:
    """Read a plan from TOML; paths in it are relative to the file. Raises InputError."""
    source = str(file)
    try:
        return plan_from_data(read_toml(file), Path(file).parent)
    except InputError as error:
        raise error.within(source) from None


def plan_from_data(data: dict[str, Any], folder: Path) -> SweepPlan:
    """Build a plan from plain data; instances are patterns relative to `folder`.

    `time_limit`, `gap`, `workers` and `milp_solver` at the top hold for every variant;
    `[variants.NAME]` tables overrule them. Raises InputError.
    """
    known = ("instances", "solvers", "seeds", "variants", "trace", *OPTIONS)
    for name in data:
        if name not in known:
            raise InputError(f"unknown field{near_name(name, known)}", path=name)
    common = _options({name: data[name] for name in OPTIONS if name in data}, "")
    variants = data.get("variants", {"default": {}})
    if not isinstance(variants, dict) or not variants:
        raise InputError("expected tables, such as [variants.short]", path="variants")
    given = {
        name: {**common, **_options(value, f"variants.{name}.")} for name, value in variants.items()
    }
    solvers = _list(data.get("solvers", ["auto"]), str, "solvers")
    for position, name in enumerate(solvers):
        if name not in SOLVERS:
            raise InputError(
                f"found {name!r}{near_name(name, SOLVERS)}, expected one of {', '.join(SOLVERS)}",
                path=f"solvers[{position}]",
            )
    seeds = _list(data.get("seeds", [0]), int, "seeds")
    files: dict[str, None] = {}
    for position, pattern in enumerate(_list(data.get("instances", []), str, "instances")):
        found = sorted(glob(str(folder / pattern), recursive=True))
        if not found:
            raise InputError(
                f"found {pattern!r}, which matches no file", path=f"instances[{position}]"
            )
        files.update(dict.fromkeys(found))
    if not files or not solvers or not seeds:
        raise InputError("expected one or more", path="seeds" if files and solvers else (
            "solvers" if files else "instances"))  # fmt: skip
    trace = data.get("trace", False)
    if not isinstance(trace, bool):
        raise InputError(f"found {trace!r}, expected true or false", path="trace")
    return SweepPlan(tuple(files), tuple(solvers), given, tuple(seeds), trace)


def _list(value: Any, kind: type, path: str) -> list[Any]:
    words = {str: "a list of texts", int: "a list of whole numbers"}
    right = isinstance(value, list) and all(
        isinstance(one, kind) and not isinstance(one, bool) for one in value
    )
    if not right:
        raise InputError(f"found {value!r}, expected {words[kind]}", path=path)
    return list(value)


def _options(value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"found {value!r}, expected a table", path=path.rstrip("."))
    for name, one in value.items():
        if name not in OPTIONS:
            raise InputError(f"unknown field{near_name(name, OPTIONS)}", path=path + name)
        if isinstance(one, bool) or not isinstance(one, OPTIONS[name]):
            expected = "a text" if OPTIONS[name] == (str,) else "a number"
            raise InputError(f"found {one!r}, expected {expected}", path=path + name)
        if not isinstance(one, str) and (one < 0 or (one == 0 and name != "gap")):
            raise InputError(f"found {one!r}, expected above 0", path=path + name)
    return value


def cells_of(plan: SweepPlan) -> list[dict[str, Any]]:
    """Return the plan's cells, each with all that running it needs. Raises InputError."""
    cells = []
    for solver in plan.solvers:
        get_solver(solver)
    for file in plan.instances:
        instance = read_instance(file)
        content = instance.to_dict()
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        for solver in plan.solvers:
            for label, variant in plan.variants.items():
                for seed in plan.seeds:
                    options = {"gap": 1e-6, "workers": 1, **variant, "seed": seed}
                    facts = [digest, solver, options, __version__, *["trace"] * plan.trace]
                    told = json.dumps(facts, sort_keys=True)
                    cells.append(
                        {
                            "key": hashlib.sha256(told.encode()).hexdigest()[:20],
                            "name": instance.name or Path(file).stem,
                            "file": str(Path(file).resolve()),
                            "instance": content,
                            "solver": solver,
                            "label": label,
                            "options": options,
                            "trace": plan.trace,
                        }
                    )
    return cells


def sweep(
    plan: SweepPlan,
    output: str | Path,
    workers: Workers | None = None,
    *,
    retry_errors: bool = False,
    again: bool = False,
    on_progress: Callable[[SweepState], None] | None = None,
) -> pd.DataFrame:
    """Run the plan's cells that `output` does not hold yet, and return the rows of all of them.

    `output` is a Parquet file; what it holds of other plans stays in it. A cell is one instance,
    solver, variant, seed and version of placer; with `again` all are run anew. Raises InputError
    and UsageError.
    """
    target = Path(output)
    if target.suffix != ".parquet" or not target.parent.is_dir():
        raise UsageError(f"-o {output}: expected a file that ends in .parquet, in a folder")
    cells = cells_of(plan)
    store = _Store(target)
    known = {
        key
        for key, row in store.rows.items()
        if not (again or (retry_errors and row.get("status") == "error"))
    }
    todo = [cell for cell in cells if cell["key"] not in known]
    began = time.monotonic()
    errors = 0
    try:
        for done, row in enumerate(as_done(run_apart, todo, workers or Workers()), start=1):
            store.add(row)
            errors += row["status"] == "error"
            if on_progress is not None:
                seconds = time.monotonic() - began
                left = seconds / done * (len(todo) - done)
                text = f"{row['instance']}, {row['solver']}: {row['status']}"
                on_progress(
                    SweepState(done, len(todo), len(cells) - len(todo), errors, seconds, left, text)
                )
    finally:
        store.write()
    return store.frame([cell["key"] for cell in cells])


class _Store:
    """The results file and its journal."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._journal = target.with_suffix(".journal")
        self._written = time.monotonic()
        self.rows: dict[str, dict[str, Any]] = {}
        if target.exists():
            self._read(target)
        if self._journal.exists():
            for line in self._journal.read_text(encoding="utf-8").splitlines():
                try:
                    row = json.loads(line)
                except json.JSONDecodeError:
                    continue  # the line that was being written when the sweep was ended
                self.rows[row["cell"]] = row

    def _read(self, target: Path) -> None:
        import pandas as pd

        try:
            frame = pd.read_parquet(target)
            rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
            self.rows = {str(row["cell"]): {str(k): v for k, v in row.items()} for row in rows}
        except (OSError, ValueError, KeyError) as error:
            raise InputError(
                f"is no results file of a sweep: {error}", source=str(target)
            ) from None

    def add(self, row: dict[str, Any]) -> None:
        """Keep a row: in the journal at once, in the results file now and then."""
        self.rows[row["cell"]] = row
        with self._journal.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
        if time.monotonic() - self._written > WRITE_EVERY:
            self.write()

    def write(self) -> None:
        """Write the results file whole, beside it first, and end the journal."""
        if self.rows:
            beside = self._target.with_name(f".{self._target.name}.part")
            self.frame(list(self.rows)).to_parquet(beside)
            beside.replace(self._target)
        self._journal.unlink(missing_ok=True)
        self._written = time.monotonic()

    def frame(self, keys: Sequence[str]) -> pd.DataFrame:
        """Return the rows of `keys` that there are, in that order."""
        import pandas as pd

        return pd.DataFrame([self.rows[key] for key in dict.fromkeys(keys) if key in self.rows])
