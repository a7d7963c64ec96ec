"""Parts solved in parallel, a second opinion, and protection by calibrated bounds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from brute_force import brute_force
from click.testing import CliRunner
from random_instances import random_instance

from placer import Instance, check, read_instance, solve, write_instance
from placer.cli import main
from placer.errors import ConsistencyError, UsageError
from placer.parallel import Workers
from placer.parts import solve_in_parts, split
from placer.protection import chance_of, protected
from placer.result import Result
from placer.verifying import contradicts, verify


@pytest.mark.parametrize("seed", range(25))
def test_parts_joined_are_checked_and_their_bound_is_one_of_the_whole(seed: int) -> None:
    instance = random_instance(seed, max_replicas=6)
    found = brute_force(instance)
    result = solve_in_parts(instance, 2, Workers("threading", 1), time_limit=20)
    if found is None:
        assert result.status == "infeasible"
        return
    assert result.objective is not None
    assert check(instance, result.placement).ok
    assert result.objective >= found[0] - 1e-6
    assert result.bound is not None
    assert result.bound <= found[0] + 1e-6


def test_parts_are_balanced_and_lose_nothing() -> None:
    instance = random_instance(5, max_replicas=12, kinds=4, interference="pairwise")
    pieces = [Instance.from_dict(part.instance) for part in split(instance, 3, 0, {})]
    for model in instance.models:
        shares = [m.replicas for piece in pieces for m in piece.models if m.name == model.name]
        assert sum(shares) == model.replicas
    for vm_type in instance.vm_types:
        counts = [piece.vm_type(vm_type.name).count for piece in pieces]
        if vm_type.count is None:
            assert set(counts) == {None}
        else:
            assert sum(c or 0 for c in counts) == vm_type.count
    totals = [piece.total_replicas for piece in pieces]
    assert max(totals) - min(totals) <= 1 or any(instance.rules.together)


@pytest.mark.parametrize("seed", range(12))
def test_a_second_formulation_agrees(seed: int) -> None:
    instance = random_instance(seed)
    seen = verify(solve(instance, time_limit=20), time_limit=20)
    assert seen.words.startswith(("verified", "no contradiction"))
    found = brute_force(instance)
    if found is not None:
        assert seen.result.objective == pytest.approx(found[0], abs=1e-6)


def test_a_contradiction_is_an_error_with_the_instance_saved(tmp_path: Path) -> None:
    instance = random_instance(3)
    right = solve(instance)
    assert right.objective is not None
    wrong = right.placement.model_copy(update={"bound": right.objective * 2 + 1.0})
    result = Result(instance, wrong, right.score)
    assert "proved that none costs less" in contradicts(result, right)
    with pytest.raises(ConsistencyError) as caught:
        verify(result, time_limit=20, folder=tmp_path)
    (file,) = tmp_path.glob("placer-disagreement-*.json")
    assert str(file) in str(caught.value)
    saved = json.loads(file.read_text())
    assert Instance.from_dict(saved["instance"]).name == instance.name
    assert len(saved["placements"]) == 2


def quickstart(root: Path, **changes: Any) -> Instance:
    data = read_instance(root / "instances" / "quickstart.json").to_dict()
    return Instance.from_dict({**data, **changes})


def test_protection_holds_slos_at_its_level_and_says_what_that_means(root: Path) -> None:
    instance = quickstart(root)
    robust = protected(instance, 0.9)
    result = solve(robust, time_limit=20, gap=0.01)
    assert result.score is not None
    assert check(robust, result.placement).ok
    chance = chance_of(robust, result.placement.assignment(), 0.9)
    assert chance.replicas + chance.alone == sum(
        m.replicas for m in instance.models if m.slo_ms is not None
    )
    assert chance.expected_misses <= 0.1 * chance.replicas + 1e-9
    assert 0.0 <= chance.all_kept <= 1.0
    assert "at least 90 %" in chance.words()
    assert result.objective is not None
    plain = solve(instance, time_limit=20, gap=0.01)
    assert plain.bound is not None
    assert result.objective >= plain.bound - 1e-9


def test_protection_needs_a_predictor_and_a_level() -> None:
    with pytest.raises(UsageError, match="expected a predictor"):
        protected(random_instance(1, interference="pairwise"), 0.9)
    with pytest.raises(UsageError, match="expected from"):
        protected(random_instance(1), 95.0)


def test_the_command_takes_all_three(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "instance.json"
    write_instance(file, random_instance(8, interference="pairwise"))
    run = CliRunner().invoke(main, ["solve", str(file), "--verify", "--parts", "2", "--quiet",
                                    "--backend", "threading", "--time-limit", "20"])  # fmt: skip
    assert run.exit_code in (0, 3), run.stderr
    assert "verified: " in run.stdout
    shown = str(root / "instances" / "quickstart.json")
    out = str(tmp_path / "placement.json")
    run = CliRunner().invoke(main, ["solve", shown, "--protect", "0.9", "--gap", "0.01", "-o", out])
    assert run.exit_code == 0, run.stderr
    assert "late replicas are expected" in " ".join(run.stdout.split())
    assert CliRunner().invoke(main, ["check", shown, out, "--protect", "0.9"]).exit_code == 0
    for wrong in (["--jobs", "2"], ["--parts", "2", "--solver", "greedy"]):
        assert CliRunner().invoke(main, ["solve", str(file), *wrong]).exit_code == 2
