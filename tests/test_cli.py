"""The command line: results and messages on their streams, exit statuses, nothing half done."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import placer.cli
from placer.cli import COMMANDS, main
from placer.errors import InputError

TINY = {
    "format": "placer/instance",
    "version": 1,
    "name": "tiny",
    "vm_types": [{"name": "small", "capacity": {"vcpu": 2}, "price": 0.1, "count": 2}],
    "models": [{"name": "a", "replicas": 3, "demand": {"vcpu": 1}}],
}


def run(*arguments: str | Path, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(TINY), encoding="utf-8")
    return path


@pytest.fixture
def infeasible(root: Path) -> Path:
    return root / "instances" / "features" / "infeasible.json"


def test_help_is_quick_and_imports_nothing() -> None:
    code = (
        "import sys\n"
        "from placer.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "heavy = {'numpy', 'pydantic', 'ortools', 'xgboost', 'pandas', 'pulp', 'rich', 'scipy'}\n"
        "print('imported', sorted(heavy & sys.modules.keys()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("imported []\n")
    for name, short in COMMANDS.items():
        assert f"  {name} " in done.stdout
        assert short in done.stdout


@pytest.mark.parametrize("name", ["solve", "check", "schema", "solvers"])
def test_every_command_has_help(name: str) -> None:
    result = run(name, "--help")
    assert result.exit_code == 0
    assert f"Usage: placer {name}" in result.stdout


def test_version() -> None:
    assert run("--version").stdout == f"placer {placer.__version__}\n"


def test_unknown_command_offers_the_near_one() -> None:
    result = run("slove")
    assert result.exit_code == 2
    assert "placer: unknown command 'slove' (did you mean 'solve'?)" in result.stderr


def test_no_command_prints_help_and_is_bad_usage() -> None:
    result = run()
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Commands:" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["solve"], "INSTANCE"),
        (["solve", "x", "--gap", "wide"], "--gap"),
        (["solve", "x", "--workers", "0"], "--workers"),
        (["solve", "x", "--seed", "-1"], "--seed"),
        (["solve", "x", "--format", "xml"], "--format"),
        (["solve", "x", "--tme-limit", "3"], "--tme-limit"),
        (["check", "x"], "PLACEMENT"),
        (["schema", "model"], "model"),
    ],
)
def test_bad_usage(arguments: list[str], said: str) -> None:
    result = run(*arguments)
    first, second = result.stderr.splitlines()[:2]
    assert result.exit_code == 2
    assert first.startswith("placer: ")
    assert said in first
    assert second.startswith("Usage: placer")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--solver", "grops"], "did you mean 'groups'"),
        (["--milp-solver", "higs"], "did you mean 'highs'"),
        (["--solver", "milp", "--milp-solver", "nothing"], "expected one of"),
        (["--time-limit", "0"], "time limit"),
        (["--time-limit", "nan"], "time limit"),
        (["--time-limit", "inf"], "time limit"),
        (["--gap", "-1"], "gap"),
        (["-o", "no/such/folder/out.json"], "no folder 'no/such/folder'"),
        (["-o", "/"], "is a folder"),
        (["--start", "-"], "cannot both be standard input"),
    ],
)
def test_options_are_refused_before_solving(tiny: Path, options: list[str], said: str) -> None:
    instance = "-" if "--start" in options else tiny
    result = run("solve", instance, *options)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert said in result.stderr


def test_output_may_not_be_the_instance(tiny: Path) -> None:
    before = tiny.read_text()
    result = run("solve", tiny, "-o", tiny)
    assert result.exit_code == 2
    assert "instance's own file" in result.stderr
    assert tiny.read_text() == before


def test_solve_writes_and_check_agrees(tiny: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    result = run("solve", tiny, "-o", output, "--solver", "groups", "--quiet")
    assert result.exit_code == 0
    assert result.stderr == ""
    assert "tiny: optimal" in result.stdout
    placement = json.loads(output.read_text())
    assert placement["objective"] == pytest.approx(0.2)
    checked = run("check", tiny, output)
    assert checked.exit_code == 0
    assert "keeps every rule" in checked.stdout
    as_json = json.loads(run("check", tiny, output, "--format", "json").stdout)
    assert as_json["ok"]
    assert as_json["terms"]["price"] == pytest.approx(0.2)


def test_json_is_the_placement_files_content(tiny: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    result = run("solve", tiny, "--solver", "groups", "--format", "json", "-o", output)
    assert result.stdout == output.read_text()
    dashed = run("solve", tiny, "--solver", "groups", "-o", "-", "--quiet")
    assert json.loads(dashed.stdout)["vms"] == json.loads(result.stdout)["vms"]


def test_standard_input_everywhere(tiny: Path, tmp_path: Path) -> None:
    text = tiny.read_text()
    solved = run("solve", "-", "--solver", "greedy", "--format", "json", "--quiet", stdin=text)
    assert solved.exit_code == 0
    assert run("check", tiny, "-", stdin=solved.stdout).exit_code == 0
    start = ["--start", "-", "--solver", "greedy", "--quiet", "--format", "json"]
    assert run("solve", tiny, *start, stdin=solved.stdout).exit_code == 0
    assert run("check", "-", "-").exit_code == 2


def test_failed_check_is_status_1(tiny: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    run("solve", tiny, "-o", output, "--solver", "greedy", "--quiet")
    placement = json.loads(output.read_text())
    placement["vms"][0]["models"] *= 3
    placement["objective"] = 7
    output.write_text(json.dumps(placement))
    result = run("check", tiny, output)
    assert result.exit_code == 1
    assert result.stderr == ""
    for code in ("capacity", "too-many-replicas", "figure-differs"):
        assert code in result.stdout
    assert not json.loads(run("check", tiny, output, "--format", "json").stdout)["ok"]


def test_infeasible_is_status_3_with_reasons(infeasible: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    result = run("solve", infeasible, "--solver", "groups", "--quiet", "-o", output)
    assert result.exit_code == 3
    assert "infeasible" in result.stdout
    assert "vm_types[0].count = 2" in result.stderr
    assert json.loads(output.read_text())["status"] == "infeasible"
    as_json = run("solve", infeasible, "--solver", "groups", "--quiet", "--format", "json")
    assert as_json.exit_code == 3
    assert json.loads(as_json.stdout)["status"] == "infeasible"
    assert "vm_types[0].count = 2" in as_json.stderr


def test_no_placement_found_is_status_4_and_writes_nothing(
    infeasible: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.json"
    output.write_text("kept")
    result = run("solve", infeasible, "--solver", "greedy", "--quiet", "-o", output)
    assert result.exit_code == 4
    assert "no placement found" in result.stderr
    assert output.read_text() == "kept"


def test_output_to_a_device_leaves_it_one(tiny: Path) -> None:
    result = run("solve", tiny, "--solver", "greedy", "--quiet", "-o", "/dev/null")
    assert result.exit_code == 0
    assert not Path("/dev/null").is_file()


def test_output_over_a_link_replaces_its_target(tiny: Path, tmp_path: Path) -> None:
    target, link = tmp_path / "target.json", tmp_path / "link.json"
    target.write_text("old")
    link.symlink_to(target)
    assert run("solve", tiny, "--solver", "greedy", "--quiet", "-o", link).exit_code == 0
    assert link.is_symlink()
    assert json.loads(target.read_text())["status"] == "feasible"


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (ValueError("two\nlines"), 1, "placer: unexpected fault: ValueError: two lines (run with"),
        (MemoryError(), 1, "placer: out of memory\n"),
        (RecursionError("deep"), 1, "placer: unexpected fault: RecursionError: deep"),
        (InputError("bad", path="a.b", source="f\n.json"), 2, "placer: f .json: a.b: bad\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_faults_are_one_line(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int, said: str
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr("placer.files.read_instance", fail)
    monkeypatch.delenv("PLACER_DEBUG", raising=False)
    result = run("solve", tiny)
    assert result.exit_code == status
    assert result.stderr.startswith(said)
    assert result.stderr.count("\n") == 1
    monkeypatch.setenv("PLACER_DEBUG", "1")
    if not isinstance(error, KeyboardInterrupt | MemoryError):
        assert "Traceback" in run("solve", tiny).stderr


def test_solvers_lists_all_of_them() -> None:
    from placer.solvers.registry import SOLVERS

    result = run("solvers")
    assert result.exit_code == 0
    for name in (*SOLVERS, "highs"):
        assert name in result.stdout


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as on POSIX")
def test_interrupt_ends_with_the_best_so_far(root: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    instance = root / "instances" / "fleet-300.json"
    command = [sys.executable, "-c", "from placer.cli import main; main()", "solve"]
    command += [str(instance), "-o", str(output), "--solver", "local", "--workers", "1"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and "best 1" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 0, stderr
    assert "interrupt" in stdout
    assert "Traceback" not in stderr
    assert json.loads(output.read_text())["solver"]["stopped_by"] == "interrupt"


@pytest.mark.skipif(os.name != "posix", reason="a pipe that is closed as on POSIX")
def test_closed_pipe_is_quiet(root: Path) -> None:
    command = [sys.executable, "-c", "from placer.cli import main; main()", "schema", "instance"]
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(write)
    assert done.stderr == ""
