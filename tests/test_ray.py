"""Sweeps and parts on a real Ray cluster of several processes, one of which dies on the way."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from random_instances import random_instance

from placer import check, solve, write_instance
from placer.errors import UsageError
from placer.parallel import Workers, as_done
from placer.parts import solve_in_parts
from placer.sweep import plan_from_data, sweep

ray = pytest.importorskip("ray", reason="the extra 'ray' is not installed")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[Any]:
    """Two processors of a cluster that outlives each piece of work."""
    os.environ["RAY_AUTH_MODE"] = "disabled"
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])])
    ray.init(
        num_cpus=2, include_dashboard=False, log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": paths}},
    )  # fmt: skip
    yield
    ray.shutdown()


def test_a_process_that_dies_has_its_work_done_again(tmp_path: Path) -> None:
    def square(number: int) -> int:
        died = tmp_path / "died"
        if number == 3 and not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return number**2

    assert sorted(as_done(square, range(8), Workers("ray", jobs=2))) == [n**2 for n in range(8)]
    assert (tmp_path / "died").exists()


def test_a_sweep_on_ray_has_every_row(tmp_path: Path) -> None:
    for seed in (3, 4):
        write_instance(tmp_path / f"random-{seed}.json", random_instance(seed))
    plan = plan_from_data(
        {"instances": ["random-*.json"], "solvers": ["greedy", "local"], "seeds": [0, 1]}, tmp_path
    )
    rows = sweep(plan, tmp_path / "results.parquet", Workers("ray"))
    assert len(rows) == 8
    assert "error" not in set(rows["status"])


def test_parts_on_ray_give_a_checked_placement() -> None:
    instance = random_instance(17, max_replicas=10, kinds=4, interference="pairwise")
    result = solve_in_parts(instance, 3, Workers("ray"), time_limit=20)
    whole = solve(instance, time_limit=20)
    assert result.status == whole.status
    assert result.score is not None
    assert check(instance, result.placement).ok
    assert result.objective == pytest.approx(whole.objective, abs=1e-6)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nowhere"])
def test_a_cluster_that_is_not_there_is_said_in_one_line(address: str) -> None:
    ray.shutdown()
    with pytest.raises(UsageError, match="no Ray cluster"):
        list(as_done(str, [1], Workers("ray", scheduler=address)))
