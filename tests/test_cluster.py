"""Sweeps and parts on a real Dask cluster of several processes, one of them killed on the way."""

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
from placer.parallel import Workers
from placer.parts import solve_in_parts
from placer.sweep import SweepState, plan_from_data, sweep

distributed = pytest.importorskip("distributed", reason="the extra 'dask' is not installed")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A scheduler and three worker processes."""
    with distributed.LocalCluster(
        n_workers=3, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        yield cluster


def kill_one(address: str) -> int:
    """Kill one worker process of the cluster, as a machine that fails would end it."""
    with distributed.Client(address) as client:
        pids = client.run(os.getpid)
        victim = next(iter(pids.values()))
        os.kill(victim, signal.SIGKILL)
    return int(victim)


def test_a_sweep_outlives_a_worker(cluster: Any, tmp_path: Path) -> None:
    for seed in (3, 4, 6):
        write_instance(tmp_path / f"random-{seed}.json", random_instance(seed))
    plan = plan_from_data(
        {"instances": ["random-*.json"], "solvers": ["greedy", "local"], "seeds": [0, 1, 2]},
        tmp_path,
    )
    killed: list[int] = []

    def watch(state: SweepState) -> None:
        if not killed:
            killed.append(kill_one(cluster.scheduler_address))

    workers = Workers("dask", scheduler=cluster.scheduler_address)
    rows = sweep(plan, tmp_path / "results.parquet", workers, on_progress=watch)
    assert killed
    assert len(rows) == 18
    assert "error" not in set(rows["status"])


def test_parts_on_a_cluster_give_a_checked_placement(cluster: Any) -> None:
    instance = random_instance(17, max_replicas=10, kinds=4, interference="pairwise")
    workers = Workers("dask", scheduler=cluster.scheduler_address)
    result = solve_in_parts(instance, 3, workers, time_limit=20)
    whole = solve(instance, time_limit=20)
    assert result.status == whole.status
    assert result.score is not None
    assert check(instance, result.placement).ok
    assert result.objective == pytest.approx(whole.objective, abs=1e-6)


def test_a_scheduler_that_is_not_there_is_said_in_one_line() -> None:
    workers = Workers("dask", scheduler="tcp://127.0.0.1:1")
    with pytest.raises(UsageError, match="no Dask scheduler"):
        solve_in_parts(random_instance(8, max_replicas=6), 2, workers)
