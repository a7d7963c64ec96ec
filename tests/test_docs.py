"""The documents: commands run and end as they say, snippets run, links lead to files."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import ROOT

from placer.checker import Violation
from placer.cli import COMMANDS, main

DOCUMENTS = ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))]
WITH_PYTHON = ["README.md", "docs/library.md"]

INSTALL_QUICKSTART = "python -m pip install . && "
"""What stands before the README's first placer command."""

EXEMPT = [
    "python -m venv .venv && . .venv/bin/activate",
    "python -m pip install -e '.[test]'",
    "python -m pip install '.[test]' && python -m pytest -n 2",
    "python -m pytest -n 2",
    "ruff check . && ruff format --check . && mypy",
    "python benchmarks/figures.py",
    "python benchmarks/gavel_batches.py",
    "python benchmarks/predictor.py",
    "python benchmarks/data_set.py",
    "placer measure --zoo -o measurements --budget 30m",
    "placer measure -o measurements --merge other-host",
    "placer replay placement.json --instance instance.json --zoo -o replay.json",
    "placer refine instance.json --data measurements --zoo -o predictor.json "
    "--placement placement.json",
    "python benchmarks/headline.py --zoo",
]
"""Lines that are not run here: they install, or are the tests, or measure for minutes."""

VARYING = ("stopped by",)
"""Lines of shown output that differ by machine."""

SUMMARY_END = "SLOs "
"""Where several placements may be the best one, only what stands above this line is compared."""


@dataclass(frozen=True)
class Block:
    """A fenced block: language, the file that it names, and its lines."""

    document: str
    language: str
    file: str
    lines: list[str]


@dataclass(frozen=True)
class Command:
    """One command line of a document, the exit status that it states, and the output shown."""

    document: str
    line: str
    status: int
    shown: list[str]

    def __str__(self) -> str:
        return f"{self.document}: {self.line}"


def blocks(document: str) -> list[Block]:
    """Return the fenced blocks of `document`."""
    found: list[Block] = []
    inside: Block | None = None
    for line in (ROOT / document).read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            if inside is None:
                language, _, file = line[3:].strip().partition(" ")
                inside = Block(document, language, file, [])
            else:
                found.append(inside)
                inside = None
        elif inside is not None:
            inside.lines.append(line)
    assert inside is None, f"{document}: a fenced block is not closed"
    return found


def commands(block: Block) -> Iterator[Command]:
    """Yield the lines of a shell block that are commands; a console block shows their output."""
    starts = [
        i
        for i, line in enumerate(block.lines)
        if line.strip() and (block.language == "sh" or line.startswith("$ "))
    ]
    for start, end in zip(starts, [*starts[1:], len(block.lines)], strict=True):
        line, _, remark = block.lines[start].removeprefix("$ ").partition("   # ")
        stated = re.fullmatch(r"exit status (\d+)", remark.strip())
        assert stated or not remark, f"{block.document}: {block.lines[start]}"
        shown = block.lines[start + 1 : end]
        yield Command(block.document, line.strip(), int(stated[1]) if stated else 0, shown)


ALL = [
    command
    for document in DOCUMENTS
    for block in blocks(document)
    if block.language in ("sh", "console")
    for command in commands(block)
]
PLACER = [
    c
    for c in ALL
    if c.line.removeprefix(INSTALL_QUICKSTART).startswith("placer ") and c.line not in EXEMPT
]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the shipped instances, the files that blocks name, and made-up measurements."""
    folder = tmp_path_factory.mktemp("desk")
    shutil.copytree(ROOT / "instances", folder / "instances")
    (folder / "benchmarks").mkdir()
    for plan in (ROOT / "benchmarks").glob("*.toml"):
        shutil.copy(plan, folder / "benchmarks")
    for document in DOCUMENTS:
        for block in blocks(document):
            if block.file:
                (folder / block.file).write_text("\n".join(block.lines) + "\n", encoding="utf-8")
    write_measurements(folder / "measurements")
    return folder


def write_measurements(folder: Path) -> None:
    """Write the small made-up set of the predictor's benchmark, whose models the documents name."""
    folder.mkdir()
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        from predictor import write_synthetic
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
    write_synthetic(folder, runs=60)


def test_commands_are_found_in_every_document() -> None:
    assert {c.document for c in PLACER} >= {"README.md", "docs/formats.md", "docs/errors.md"}
    lines = [c.line.removeprefix(INSTALL_QUICKSTART) for c in ALL]
    used = {shlex.split(line)[1] for line in lines if line.startswith("placer ")}
    assert used >= COMMANDS.keys() - {"schema", "solvers"}


def test_every_line_is_run_or_exempt() -> None:
    assert [str(c) for c in ALL if c not in PLACER and c.line not in EXEMPT] == []


def test_placer_commands_end_as_documented(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One test, in the documents' order, since commands use the files of those before them."""
    monkeypatch.chdir(desk)
    monkeypatch.setenv("COLUMNS", "80")
    faults = [fault for document in DOCUMENTS for fault in run_document(document, desk)]
    assert not faults, "\n".join(faults)


def run_document(document: str, desk: Path) -> Iterator[str]:
    """Run the commands of `document` in order and yield what differs from what it says."""
    (desk / "fleet.json").unlink(missing_ok=True)
    train_if_missing(desk / "predictor.json")
    for command in [c for c in PLACER if c.document == document]:
        arguments = shlex.split(command.line.removeprefix(INSTALL_QUICKSTART))[1:]
        assert not {"|", ">", "<", "&&", ";"} & set(arguments), command
        result = CliRunner().invoke(main, arguments, prog_name="placer")
        if result.exit_code != command.status:
            yield f"{command}: exit status {result.exit_code}: {result.output[-300:]}"
        said = {tidy(line) for line in (result.stdout + result.stderr).splitlines()}
        yield from (f"{command}: not printed: {line}" for line in stable(command) - said)


def train_if_missing(path: Path) -> None:
    """Write the predictor that documents name, for those that do not train it themselves."""
    if not path.exists():
        assert CliRunner().invoke(main, ["train", "measurements", "-o", str(path)]).exit_code == 0


def stable(command: Command) -> set[str]:
    """Return the lines shown that every machine prints."""
    lines = command.shown
    end = next((i for i, line in enumerate(lines) if line.startswith(SUMMARY_END)), len(lines))
    return {tidy(line) for line in lines[:end] if line.strip() and not line.startswith(VARYING)}


def tidy(line: str) -> str:
    return " ".join(line.split())


@pytest.mark.parametrize("document", WITH_PYTHON)
def test_python_snippets_run(document: str, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk)
    snippets = [block for block in blocks(document) if block.language == "python"]
    assert snippets
    names: dict[str, object] = {"__name__": "snippets"}
    for number, block in enumerate(snippets, 1):
        exec(compile("\n".join(block.lines), f"{document} snippet {number}", "exec"), names)


def test_the_test_command_stands_once_in_the_readme() -> None:
    """`.ci/run` takes it from there."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert lines.count("python -m pip install '.[test]' && python -m pytest -n 2") == 1


def test_every_violation_code_is_documented() -> None:
    source = (ROOT / "placer" / "checker.py").read_text(encoding="utf-8")
    calls = re.findall(rf'(?:{Violation.__name__}\(\s*|yield )"([a-z-]+)"', source)
    table = re.findall(
        r"^\| `([a-z-]+)` \|", (ROOT / "docs/formats.md").read_text(encoding="utf-8"), re.M
    )
    assert set(calls) <= set(table)
    assert len(set(calls)) >= 15


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_to_files(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        path, _, anchor = target.partition("#")
        if "://" in path:
            continue
        file = ROOT / Path(document).parent / path if path else ROOT / document
        assert file.is_file(), target
        if anchor:
            heads = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.M)
            assert anchor in {head.lower().replace(" ", "-") for head in heads}, target


@pytest.mark.parametrize("document", DOCUMENTS)
def test_lines_are_not_long(document: str) -> None:
    fenced, long = False, []
    for line in (ROOT / document).read_text(encoding="utf-8").splitlines():
        fenced ^= line.startswith("```")
        if len(line) > 100 and not fenced and not line.startswith("|"):
            long.append(line)
    assert not long


# Spelt in halves, so that this file does not name them itself.
HOSTS = ["pypi." + "org", "python" + "hosted", "anaconda" + ".org", "npm" + "js"]
WORDS = ["ses" + "sion", "hel" + "per", "sub" + "agent"]
ALLOWED = ['scope="ses' + 'sion"', "ses" + "sion.intra_op", "a hel" + "per gone that kept an SLO"]
"""pytest's own word, an option of ONNX Runtime, and a co-runner that helps."""

TEXT = {".py", ".md", ".toml", ".json", ".csv", ".txt", ".yml", ".yaml", ".sh", ".html", ".cfg", ""}
SKIPPED = {"build", "dist", "results", "__pycache__"}


def shipped() -> Iterator[Path]:
    """Yield the text files of the repository, `.ci/run` with them."""
    yield ROOT / ".ci" / "run"
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        hidden = any(p in SKIPPED or p.startswith(".") or p.endswith(".egg-info") for p in parts)
        if path.is_file() and path.suffix in TEXT and not hidden:
            yield path


def test_no_shipped_text_names_a_package_host_or_how_it_was_made() -> None:
    found = []
    for path in shipped():
        text = path.read_text(encoding="utf-8", errors="replace").lower()
        for allowed in ALLOWED:
            text = text.replace(allowed.lower(), "")
        found += [f"{path.relative_to(ROOT)}: {host}" for host in HOSTS if host in text]
        found += [
            f"{path.relative_to(ROOT)}: {word}"
            for word in WORDS
            if re.search(rf"\b{word}s?\b", text)
        ]
    assert not found
