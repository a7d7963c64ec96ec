"""What a replay found: measured beside predicted, by model, by VM and in total."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from placer.problem import TOLERANCE

FORMAT, VERSION = "placer/replay", 1
QUANTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
COMPLETE, INTERRUPTED, NOT_QUIET = "complete", "interrupt", "not-quiet"


@dataclass(frozen=True)
class ReplayedModel:
    """The replicas of one model on one VM, which are interchangeable.

    `predicted_*` is what the placement says. The rest was measured on this host: `solo_latency_ms`
    alone at the same rate, `latency_ms_p50` the median over runs, `slowdown` their quotient, and
    `latencies_ms` of all requests of all runs. None is what was not measured. `saturated`:
    requests came faster than they were answered, so that latencies grow with the length of a run.
    """

    name: str
    replicas: int
    rate_rps: float | None = None
    slo_ms: float | None = None
    predicted_slowdown: float | None = None
    predicted_over_slo: bool | None = None
    solo_latency_ms: float | None = None
    latency_ms_p50: float | None = None
    saturated: bool = False
    latencies_ms: np.ndarray = field(default_factory=lambda: np.zeros(0), repr=False, compare=False)

    @property
    def slowdown(self) -> float | None:
        """Measured latency over measured solo latency."""
        if self.latency_ms_p50 is None or self.solo_latency_ms is None:
            return None
        return self.latency_ms_p50 / self.solo_latency_ms

    @property
    def over_slo(self) -> bool | None:
        """Whether the median latency exceeds the SLO, which is what a solver asks as well."""
        if self.slo_ms is None or self.latency_ms_p50 is None:
            return None
        return self.latency_ms_p50 > self.slo_ms + TOLERANCE

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        spread = percentiles(self.latencies_ms, np.ones(len(self.latencies_ms)))
        late = None
        if self.slo_ms is not None and len(self.latencies_ms):
            late = float((self.latencies_ms > self.slo_ms).mean())
        return {
            "name": self.name,
            "replicas": self.replicas,
            "rate_rps": self.rate_rps,
            "slo_ms": self.slo_ms,
            "slowdown": {"predicted": self.predicted_slowdown, "measured": self.slowdown},
            "over_slo": {"predicted": self.predicted_over_slo, "measured": self.over_slo},
            "solo_latency_ms": self.solo_latency_ms,
            "latency_ms": {**spread, "p50": self.latency_ms_p50},
            "requests": len(self.latencies_ms),
            "requests_over_slo_share": late,
            "saturated": self.saturated,
        }


@dataclass(frozen=True)
class ReplayedVm:
    """Equal VMs by their names, the shape that played them and how many runs counted."""

    names: tuple[str, ...]
    vm_type: str
    shape: str
    runs: int
    models: tuple[ReplayedModel, ...]

    def slowdowns(self, which: str) -> tuple[float, float] | None:
        """Return mean and worst slowdown, `predicted` or `measured`; None where one is missing."""
        values: list[float] = []
        for model in self.models:
            value = model.slowdown if which == "measured" else model.predicted_slowdown
            if value is None:
                return None
            values += [value] * model.replicas
        return (sum(values) / len(values), max(values)) if values else None

    def misses(self, which: str) -> int:
        """Return how many replicas are over their SLO, `predicted` or `measured`, on one VM."""
        return sum(
            model.replicas
            for model in self.models
            if (model.over_slo if which == "measured" else model.predicted_over_slo)
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "names": list(self.names),
            "vm_type": self.vm_type,
            "shape": self.shape,
            "runs": self.runs,
            "models": [model.to_dict() for model in self.models],
        }


@dataclass(frozen=True)
class Replay:
    """A placement as it ran on one host.

    `objective` holds the instance's objective by predicted and by measured slowdowns and
    `measured_terms` the latter by term; None without an instance, or where a VM was not measured.
    `host` says what it was measured on and how, `started` when (UTC), `stopped_by` whether all of
    it was (`complete`, `interrupt` or `not-quiet`).
    """

    instance: str
    vms: tuple[ReplayedVm, ...]
    closed_loop: bool
    price: float | None = None
    objective: dict[str, float | None] = field(default_factory=dict)
    measured_terms: dict[str, float] | None = None
    host: dict[str, Any] = field(default_factory=dict)
    started: str = ""
    seconds: float = 0.0
    runs_kept: int = 0
    runs_thrown: dict[str, int] = field(default_factory=dict)
    stopped_by: str = COMPLETE
    notes: tuple[str, ...] = ()

    def counted(self) -> Iterator[tuple[ReplayedVm, ReplayedModel, int]]:
        """Yield every model of every VM with the number of replicas that it stands for."""
        for vm in self.vms:
            for model in vm.models:
                yield vm, model, len(vm.names) * model.replicas

    def latencies(self, name: str | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return latency (ms), weight and SLO (ms, NaN for none) of all requests, or of a model's.

        A request weighs as much as there are equal VMs, shared among the runs of one of them.
        """
        parts = [
            (
                model.latencies_ms,
                np.full(len(model.latencies_ms), len(vm.names) / max(vm.runs, 1)),
                np.full(len(model.latencies_ms), np.nan if model.slo_ms is None else model.slo_ms),
            )
            for vm, model, _ in self.counted()
            if name in (None, model.name)
        ]
        if not parts:
            return np.zeros(0), np.zeros(0), np.zeros(0)
        values, weights, limits = (np.concatenate(part) for part in zip(*parts, strict=True))
        return values, weights, limits

    def totals(self) -> dict[str, Any]:
        """Return the totals over all replicas; slowdowns over those predicted and measured."""
        models = list(self.counted())
        done = [vm for vm in self.vms if vm.runs]
        values, weights, limits = self.latencies()
        return {
            "vms": sum(len(vm.names) for vm in self.vms),
            "different_vms": len(self.vms),
            "vms_replayed": sum(len(vm.names) for vm in done),
            "replicas": sum(count for _, _, count in models),
            "price": self.price,
            **self._slowdowns(),
            "slos": sum(count for _, model, count in models if model.slo_ms is not None),
            "slos_missed": {
                "predicted": sum(count for _, m, count in models if m.predicted_over_slo),
                "measured": sum(count for _, m, count in models if m.over_slo),
            },
            "saturated_replicas": sum(count for _, m, count in models if m.saturated),
            "requests": len(values),
            "requests_over_slo_share": late_share(values, weights, limits),
            "latency_ms": percentiles(values, weights),
            "objective": self.objective or {"predicted": None, "measured": None},
            "measured_terms": self.measured_terms,
        }

    def _slowdowns(self) -> dict[str, Any]:
        both = [
            (model.predicted_slowdown, model.slowdown, count)
            for _, model, count in self.counted()
            if model.predicted_slowdown is not None and model.slowdown is not None
        ]
        alone = [(m.slowdown, count) for _, m, count in self.counted() if m.slowdown is not None]
        predicted, measured, number = (np.array([row[at] for row in both]) for at in range(3))
        if not both:  # nothing was predicted, so the measured side stands alone
            measured, number = (np.array([row[at] for row in alone]) for at in range(2))
        count = float(number.sum())
        sides = {"predicted": predicted, "measured": measured}
        whole = {
            side: float((number * (values - 1.0)).sum()) if len(values) else None
            for side, values in sides.items()
        }
        before, after = whole["predicted"], whole["measured"]
        error = None
        if both:
            error = float(100.0 * (number * np.abs(predicted / measured - 1.0)).sum() / count)
        return {
            "replicas_compared": int(count) if both else 0,
            "mean_slowdown": {
                side: None if total is None else 1.0 + total / count
                for side, total in whole.items()
            },
            "worst_slowdown": {
                side: float(values.max()) if len(values) else None for side, values in sides.items()
            },
            "degradation": whole,
            "degradation_ratio": after / before if after is not None and before else None,
            "mean_absolute_error_percent": error,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the replay's JSON object; every figure under `measured` was measured on `host`."""
        from placer._version import __version__

        return {
            "format": FORMAT,
            "version": VERSION,
            "instance": self.instance,
            "kind": "measured",
            "placer": __version__,
            "started": self.started,
            "seconds": round(self.seconds, 1),
            "stopped_by": self.stopped_by,
            "closed_loop": self.closed_loop,
            "host": self.host,
            "runs": {"kept": self.runs_kept, "thrown_away": self.runs_thrown},
            "totals": self.totals(),
            "vms": [vm.to_dict() for vm in self.vms],
            "notes": list(self.notes),
        }


def percentiles(values: np.ndarray, weights: np.ndarray) -> dict[str, float | None]:
    """Return p50, p95 and p99 of weighted values, None where there are none."""
    if not len(values):
        return dict.fromkeys(QUANTILES)
    order = np.argsort(values)
    share = np.cumsum(weights[order])
    places = {name: np.searchsorted(share, q * share[-1]) for name, q in QUANTILES.items()}
    last = len(values) - 1
    return {name: float(values[order[min(int(at), last)]]) for name, at in places.items()}


def late_share(values: np.ndarray, weights: np.ndarray, limits: np.ndarray) -> float | None:
    """Return the weighted share of the requests with an SLO that took longer than it."""
    bound = ~np.isnan(limits)
    if not bound.any():
        return None
    late = values[bound] > limits[bound]
    return float(weights[bound][late].sum() / weights[bound].sum())
