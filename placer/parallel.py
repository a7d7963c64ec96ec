"""Many pieces of work at once: on this machine or a Dask cluster through joblib, or on Ray."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from placer.errors import UsageError, near_name

BACKENDS = ("loky", "threading", "dask", "ray")
KNOCK_SECONDS = 15.0

Item = TypeVar("Item")
Done = TypeVar("Done")


@dataclass(frozen=True)
class Workers:
    """Where work runs: one of BACKENDS, how many pieces at once (None: as many as there are
    processors, or as the cluster takes), and the scheduler's address for a cluster."""

    backend: str = "loky"
    jobs: int | None = None
    scheduler: str | None = None

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise UsageError(
                f"--backend: found {self.backend!r}{near_name(self.backend, BACKENDS)}, expected "
                f"one of {', '.join(BACKENDS)}"
            )
        if self.scheduler is not None and self.backend not in ("dask", "ray"):
            raise UsageError(f"--scheduler: is for dask and ray, not for {self.backend}")
        if self.jobs is not None and self.jobs < 1:
            raise UsageError(f"--jobs: found {self.jobs}, expected a whole number above 0")


def processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def as_done(
    work: Callable[[Item], Done], items: Sequence[Item], workers: Workers
) -> Iterator[Done]:
    """Yield what `work` returns for each of `items`, in the order in which they are done.

    Raises UsageError where the backend's package is lacking or its cluster cannot be reached.
    """
    import joblib

    if not items:
        return
    if workers.backend == "ray":
        yield from _as_done_on_ray(work, items, workers)
        return
    with _backend(workers) as jobs:
        yield from joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)(
            joblib.delayed(work)(item) for item in items
        )


@contextmanager
def _backend(workers: Workers) -> Iterator[int]:
    """Set joblib's backend, and give how many pieces of work may run at once."""
    import joblib

    if workers.backend == "dask":
        with _dask(workers) as client, joblib.parallel_config("dask"):
            threads = sum(client.nthreads().values())
            yield workers.jobs or max(1, threads)
    else:
        with joblib.parallel_config(workers.backend):
            yield workers.jobs or processors()


@contextmanager
def _dask(workers: Workers) -> Iterator[Any]:
    try:
        from distributed import Client
    except ImportError:
        raise UsageError(
            "--backend dask: needs the package 'distributed' (placer's extra 'dask')"
        ) from None
    try:
        if workers.scheduler is None:
            client = Client(n_workers=workers.jobs, threads_per_worker=1)
        else:
            client = Client(workers.scheduler, timeout="15s")
    except (OSError, TimeoutError, ValueError) as error:
        raise UsageError(f"--scheduler {workers.scheduler}: no Dask scheduler: {error}") from None
    with client:
        yield client


def _as_done_on_ray(
    work: Callable[[Item], Done], items: Sequence[Item], workers: Workers
) -> Iterator[Done]:
    """Yield results as Ray's tasks end: its joblib backend gives none before the last is done.

    Ray repeats a task whose process dies.
    """
    with _ray(workers) as ray:
        task = ray.remote(lambda item: work(item))
        most = workers.jobs or max(1, int(ray.cluster_resources().get("CPU", 1)))
        waiting = list(reversed(items))
        running: list[Any] = []
        while waiting or running:
            while waiting and len(running) < most:
                running.append(task.remote(waiting.pop()))
            done, running = ray.wait(running)
            yield from ray.get(done)


@contextmanager
def _ray(workers: Workers) -> Iterator[Any]:
    """Connect to a Ray cluster, or start one here that ends with the work."""
    try:
        import ray
    except ImportError:
        raise UsageError("--backend ray: needs the package 'ray' (placer's extra 'ray')") from None
    if ray.is_initialized():
        yield ray
        return
    address = workers.scheduler
    try:
        if address is not None:
            _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(f"--scheduler {address}: no Ray cluster: {error}") from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raise OSError or ValueError where nothing listens at `address`: Ray asks for minutes."""
    place = urlsplit(address if "://" in address else f"//{address}")
    if not place.hostname or not place.port:
        raise ValueError("expected HOST:PORT")
    socket.create_connection((place.hostname, place.port), KNOCK_SECONDS).close()
