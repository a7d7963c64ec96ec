"""What a person sees: the summary, its tables, and progress."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from placer.checker import check
from placer.files import read_instance
from placer.placement import Placement, SolverRecord
from placer.problem import Instance
from placer.report.comparison import compare
from placer.report.facts import facts_of, shared_vms, slo_margin
from placer.report.progress import Latest, describe, plain_lines
from placer.report.summary import print_result, status_words
from placer.report.text import number, percent
from placer.report.vm_table import load_of
from placer.result import Result
from placer.scoring import score
from placer.solvers.run import Progress
from placer.solving import solve
from placer.status import Status


def instance(models: list[dict[str, Any]], **fields: Any) -> Instance:
    vm_types = fields.pop("vm_types", [{"name": "s", "capacity": {"vcpu": 2}, "price": 0.5}])
    return Instance.from_dict({"vm_types": vm_types, "models": models, **fields})


PAIR = {
    "interference": {"kind": "pairwise", "default": 1.5},
    "vm_types": [{"name": "s", "capacity": {"vcpu": 2}, "price": 0.5, "max_models": 2}],
}


def printed(result: Result, capsys: pytest.CaptureFixture[str]) -> str:
    print_result(result)
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (None, "-"),
        (0.0, "0 %"),
        (1e-6, "0.0001 %"),
        (2.34e-6, "0.00023 %"),
        (0.0012, "0.12 %"),
        (0.034, "3.4 %"),
        (1.5, "150 %"),
        (-0.091, "-9.1 %"),
    ],
)
def test_percent(share: float | None, text: str) -> None:
    assert percent(share) == text


def test_number() -> None:
    assert [number(v) for v in (None, 3.0, 0.1 + 0.2, 123456.789, -2)] == [
        "-",
        "3",
        "0.3",
        "123457",
        "-2",
    ]


def test_facts_count_each_replica_of_equal_vms() -> None:
    batch = instance([{"name": "a", "replicas": 5, "solo_latency_ms": 10, "slo_ms": 20}], **PAIR)
    scored = score(batch, [("s", ["a", "a"]), ("s", ["a"]), ("s", ["a", "a"])])
    vms = shared_vms(scored.vms)
    assert [(vm.first, vm.count) for vm in vms] == [(0, 2), (1, 1)]
    facts = facts_of(batch, vms)
    assert facts.vms == {"s": 3}
    assert facts.price == pytest.approx(1.5)
    assert facts.replicas == facts.with_slo == 5
    assert facts.mean_slowdown == pytest.approx((4 * 1.5 + 1) / 5)
    assert facts.worst is not None
    assert facts.worst[0].slowdown == 1.5
    assert facts.tightest is not None
    assert slo_margin(facts.tightest[0]) == pytest.approx(0.25)
    assert facts.misses == 0


def test_load_is_a_share_of_capacity() -> None:
    batch = instance([{"name": "a", "replicas": 2, "demand": {"vcpu": 0.5}}])
    (vm,) = shared_vms(score(batch, [("s", ["a", "a"])]).vms)
    assert load_of(batch, vm) == {"vcpu": 0.5}


def test_summary_has_what_was_promised(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = solve(read_instance(root / "instances" / "synthetic-23.json"), solver="groups")
    text = printed(result, capsys)
    for words in (
        "synthetic-23: optimal, proved",
        "Slowdowns are synthetic",
        "objective",
        "= price",
        "+ degradation",
        "gap 0 %",
        "proof after",
        "least margin",
        "mean / worst",
        "least-loaded",
        "first-fit",
        "memory_gib",
    ):
        assert words in text, words
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_no_cost_is_cropped_on_a_narrow_page(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = solve(read_instance(root / "instances" / "quickstart.json"), solver="greedy")
    lines = [line.rstrip() for line in printed(result, capsys).splitlines()]
    assert max(map(len, lines)) <= 80
    assert result.score is not None
    for vm in shared_vms(result.score.vms):
        assert any(line.endswith(f" {number(vm.scored.cost, 4)}") for line in lines)


def test_equal_vms_share_a_row_and_rows_are_few(capsys: pytest.CaptureFixture[str]) -> None:
    models = [{"name": f"m{i}", "replicas": 3, "demand": {"vcpu": 2 - i / 99}} for i in range(60)]
    text = printed(solve(instance(models), solver="greedy"), capsys)
    assert text.count("+ 2 equal") == 40
    assert "... and 60 VMs more" in text


def test_unplaced_are_counted_with_their_reason(capsys: pytest.CaptureFixture[str]) -> None:
    batch = instance(
        [{"name": "a", "replicas": 3, "demand": {"vcpu": 5}}, {"name": "b"}],
        objective={"unplaced": {"penalty": 2}},
    )
    text = printed(solve(batch, solver="greedy"), capsys)
    assert "not placed  3 replicas" in text
    assert re.search(r"a +3 +on 's': needs 5 vcpu, it has 2", text)


def test_names_are_never_markup(capsys: pytest.CaptureFixture[str]) -> None:
    batch = instance([{"name": "[bold]a[/bold]"}, {"name": ":smile:"}, {"name": "é 模型"}])
    text = printed(solve(batch, solver="greedy"), capsys)
    for name in ("[bold]a[/bold]", ":smile:", "é 模型"):
        assert name in text


def test_notes_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    result = solve(instance([{"name": "a"}]), solver="greedy")
    noted = Result(result.instance, result.placement, result.score, notes=["far from the data"])
    assert "note: far from the data" in printed(noted, capsys)


def test_without_a_placement(capsys: pytest.CaptureFixture[str]) -> None:
    batch = instance([{"name": "a"}])
    record = SolverRecord(name="greedy", seconds=0.1, seed=0, workers=1, stopped_by="time")
    for status, words in [
        (Status.UNKNOWN, "no placement found"),
        (Status.INFEASIBLE, "proved that no placement"),
    ]:
        placement = Placement(status=status, vms=[], solver=record)
        assert words in printed(Result(batch, placement, None), capsys)


def test_status_words() -> None:
    batch = instance([{"name": "a"}])

    def words(**fields: Any) -> str:
        return status_words(Result(batch, Placement(vms=[], **fields), None))

    assert words(status="optimal", gap=0.0) == "optimal, proved"
    assert words(status="optimal", gap=1e-6) == "optimal, proved within 0.0001 %"
    assert words(status="feasible", gap=0.02) == "feasible, proved within 2.0 % of the optimum"
    assert words(status="feasible") == "feasible, no proven bound"


def test_comparison_says_what_is_not_allowed() -> None:
    slo = {"solo_latency_ms": 10, "slo_ms": 12}
    for policy in compare(instance([{"name": "a", "replicas": 2, **slo}], **PAIR)):
        assert policy.breaks == "breaks 2 SLOs"
        assert policy.facts is not None
        assert policy.facts.misses == 2
    groups = instance([{"name": "a", "replicas": 2}], interference={"kind": "groups"})
    for policy in compare(groups):
        assert policy.breaks == "forms a group that is not listed"
        assert policy.objective is None
    few = [{"name": "s", "capacity": {"vcpu": 2}, "count": 1}]
    full = instance([{"name": "a", "replicas": 3, "demand": {"vcpu": 1}}], vm_types=few)
    for policy in compare(full):
        assert policy.breaks == "leaves 1 unplaced"


def test_comparison_is_scored_like_any_placement() -> None:
    batch = instance([{"name": "a", "replicas": 4}], **PAIR)
    for policy in compare(batch):
        assert policy.vms == 2
        assert policy.objective == pytest.approx(2 * 0.5 + 4 * 0.5)
        assert policy.breaks == ""


def test_a_huge_batch_is_told_how_to_be_compared(capsys: pytest.CaptureFixture[str]) -> None:
    batch = instance([{"name": "a", "replicas": 300_000, "demand": {"vcpu": 1}}])
    text = printed(solve(batch), capsys)
    assert "+ 149999 equal" in text
    assert "`--solver least-loaded`" in text
    assert "dearer" not in text


def test_a_large_batch_is_reported_quickly(capsys: pytest.CaptureFixture[str]) -> None:
    models = [{"name": f"m{i}", "replicas": 5000, "demand": {"vcpu": 0.5}} for i in range(20)]
    batch = instance(models)
    scored = score(batch, [("s", [f"m{i}"] * 4) for i in range(20) for _ in range(1250)])
    vms = [
        {"name": f"s-{i}", "vm_type": "s", "models": [{"name": f"m{i // 1250}"}] * 4}
        for i in range(25_000)
    ]
    placement = Placement.from_dict({"vms": vms, "objective": scored.objective})
    begin = time.monotonic()
    text = printed(Result(batch, placement, scored), capsys)
    assert time.monotonic() - begin < 15
    assert text.count("+ 1249 equal") == 20


def test_check_report_lists_violations_up_to_a_limit(capsys: pytest.CaptureFixture[str]) -> None:
    from placer.report.check_table import print_check

    batch = instance([{"name": "a", "replicas": 1, "demand": {"vcpu": 3}}])
    vms = [{"name": "x", "vm_type": "s", "models": [{"name": "a"}]}] * 60
    placement = Placement.from_dict({"vms": vms})
    print_check(batch, placement, check(batch, placement))
    text = capsys.readouterr().out
    assert "121 violations" in text
    assert "... and 71 more; in all 60 repeated-vm, 60 capacity, 1 too-many-replicas" in text


def test_describe() -> None:
    line = describe(Progress(1.5, 1.25, 1 / 6, 3.2, "columns"))
    assert " ".join(line.split()) == "3.2 s best 1.5 bound 1.25 gap 16.7 % columns"
    assert "best -  bound -  gap -" in describe(Progress(None, None, None, 0.0, "start"))


def test_the_clock_goes_on_between_two_reports() -> None:
    latest = Latest()
    latest(Progress(None, None, None, 100.0, "columns"))
    time.sleep(0.15)
    assert float(latest.line().split()[0]) > 100.0


def test_plain_lines_are_few_but_show_each_phase() -> None:
    stream = io.StringIO()
    with plain_lines(stream, every=0.4) as listener:
        for phase in ("greedy", "columns"):
            for step in range(50):
                listener(Progress(float(step), None, None, 0.1, phase))
        time.sleep(0.7)  # what was held back comes without another report
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert [line.rsplit("  ", 1)[1] for line in lines] == ["greedy", "columns", "columns"]
    assert "best 49" in lines[-1]


LIVE = """
import sys, time
from placer.report.progress import watching
from placer.solvers.run import Progress
with watching() as listener:
    listener(Progress(2.0, 1.0, 0.5, 0.0, "columns"))
    time.sleep(1.2)
    if sys.argv[1:]:
        raise KeyboardInterrupt
"""


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
@pytest.mark.parametrize("arguments", [[], ["interrupt"]])
def test_live_line_moves_and_leaves_the_terminal_clean(arguments: list[str]) -> None:
    import pty

    master, slave = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    command = [sys.executable, "-c", LIVE, *arguments]
    with subprocess.Popen(command, stderr=slave, env=env) as process:
        os.close(slave)
        seen = b""
        while True:
            try:
                part = os.read(master, 4096)
            except OSError:
                break
            if not part:
                break
            seen += part
        process.wait(timeout=20)
    os.close(master)
    text = seen.decode()
    assert len(set(re.findall(r"(\d+\.\d) s  best 2", text))) >= 4
    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l")


def test_progress_is_on_standard_error_and_quiet_is_quiet(root: Path) -> None:
    instance_file = root / "instances" / "features" / "apart.json"
    command = [sys.executable, "-c", "from placer.cli import main; main()", "solve"]
    command += [str(instance_file), "--solver", "groups", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["status"] == "optimal"
    assert "gap" in done.stderr
    quiet = subprocess.run([*command, "--quiet"], capture_output=True, text=True, check=True)
    assert quiet.stderr == ""
