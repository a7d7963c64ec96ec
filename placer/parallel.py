"""Many pieces of work at once through joblib: on this machine, or on a cluster of Dask or Ray."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from placer.errors import UsageError, near_name

BACKENDS = ("loky", "threading", "dask", "ray")

Item = TypeVar("Item")
Done = TypeVar("Done")


@dataclass(frozen=True)
class Workers:
    """Where work runs: a joblib backend, how many pieces at once (None: as many as there are
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
    elif workers.backend == "ray":
        _start_ray(workers)
        with joblib.parallel_config("ray"):
            yield workers.jobs or -1
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


def _start_ray(workers: Workers) -> None:
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError:
        raise UsageError("--backend ray: needs the package 'ray' (placer's extra 'ray')") from None
    try:
        ray.init(address=workers.scheduler, ignore_reinit_error=True, log_to_driver=False)
    except ConnectionError as error:
        raise UsageError(f"--scheduler {workers.scheduler}: no Ray cluster: {error}") from None
    register_ray()
