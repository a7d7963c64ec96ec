"""The direction of flow, the size of files and functions, and what shipped text may not say."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "placer"
LINES_IN_FILE = 400
LINES_IN_FUNCTION = 45

LAYERS = [
    ["_version", "errors", "status"],
    ["validation", "parallel", "repeated"],
    ["problem", "consistency"],
    ["interference"],
    ["solvers.batch", "solvers.group_costs", "solvers.integer_program", "solvers.run"],
    ["solvers"],
    ["placement", "frames"],
    ["scoring", "checker"],
    ["result", "explain", "placement_json", "files", "schema"],
    ["solving", "measure", "connect"],
    ["decisions", "parts", "verifying", "protection"],
    ["online", "fleet_file"],
    ["simulate", "sweep", "sweep_cell", "sweep_summary", "frontier"],
    ["report"],
    ["cli"],
]
"""Each module imports from its own layer and those before it, never from one after it."""

REGISTRIES = ["pypi." + "org", "python" + "hosted", "npm" + "js", "anaconda" + ".org"]
REGISTRIES += ["crates" + ".io", "proxy.golang" + ".org", "index" + "-url"]
TEXT = {".py", ".md", ".toml", ".json", ".csv", ".txt", ".yml", ".yaml", ".sh", ".html", ".cfg"}
UNSHIPPED = {".git", ".ci", "build", "dist", "results", "__pycache__"}


def modules() -> dict[str, Path]:
    """Return the package's files by their dotted names below `placer`."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            found[name] = path
    return found


MODULES = modules()


@cache
def imports(name: str) -> frozenset[str]:
    """Return the modules of the package that `name` imports, inside functions too.

    What is imported for type checkers alone does not count.
    """
    path = MODULES[name]
    found = set()
    for node in walk_at_run_time(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = absolute(name, path, node)
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    inside = {target.removeprefix("placer.") for target in found if target.startswith("placer.")}
    return frozenset(inside & MODULES.keys())


def absolute(name: str, path: Path, node: ast.ImportFrom) -> str:
    """Return the dotted name of the module that a `from` names."""
    if not node.level:
        return node.module or ""
    parts = ["placer", *name.split("."), *(["__init__"] if path.name == "__init__.py" else [])]
    return ".".join([*parts[: -node.level], *([node.module] if node.module else [])])


def outside_imports(name: str) -> set[str]:
    """Return the top-level names of all that `name` imports."""
    found = set()
    for node in walk_at_run_time(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def walk_at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes below `node`, but for the bodies of `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            continue
        yield child
        yield from walk_at_run_time(child)


def within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def layer(name: str) -> int | None:
    """Return the layer of the longest prefix of `name` that has one."""
    matches = [
        (len(prefix), rank)
        for rank, prefixes in enumerate(LAYERS)
        for prefix in prefixes
        if within(name, prefix)
    ]
    return max(matches)[1] if matches else None


def reached_from(name: str) -> set[str]:
    """Return all modules that importing and using `name` may import, over any number of steps."""
    reached: set[str] = set()
    waiting = [name]
    while waiting:
        for target in imports(waiting.pop()):
            if target not in reached:
                reached.add(target)
                waiting.append(target)
    return reached


@pytest.mark.parametrize("name", MODULES)
def test_nothing_imports_from_its_right(name: str) -> None:
    own = layer(name)
    assert own is not None, f"say in LAYERS where placer.{name} belongs"
    wrong = sorted(target for target in imports(name) if (layer(target) or 0) > own)
    assert not wrong, f"placer.{name} imports {wrong}"


@pytest.mark.parametrize("name", [name for name in MODULES if within(name, "solvers")])
def test_solvers_see_numbers_and_no_predictor(name: str) -> None:
    allowed = ("interference.tables",)
    targets = {target for target in imports(name) if within(target, "interference")}
    assert targets <= {"interference", *allowed}
    assert "xgboost" not in outside_imports(name)


@pytest.mark.parametrize("name", ["checker", "scoring", "interference.plain"])
def test_the_check_shares_no_code_with_solvers(name: str) -> None:
    shared = [target for target in reached_from(name) if within(target, "solvers")]
    assert not shared
    assert "interference.tables" not in reached_from(name)


def test_files_are_short() -> None:
    long = {
        name: lines
        for name, path in MODULES.items()
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > LINES_IN_FILE
    }
    assert not long


def test_functions_are_short() -> None:
    long = {
        f"{name}:{node.name}": lines
        for name, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > LINES_IN_FUNCTION
    }
    assert not long


def shipped_texts() -> Iterator[Path]:
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        hidden = any(part in UNSHIPPED or part.startswith(".") for part in parts)
        if path.is_file() and path.suffix in TEXT and not hidden:
            yield path


def test_no_shipped_text_names_a_package_registry() -> None:
    naming = [
        str(path.relative_to(ROOT))
        for path in shipped_texts()
        if any(host in path.read_text(encoding="utf-8", errors="replace") for host in REGISTRIES)
    ]
    assert not naming
