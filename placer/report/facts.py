"""What a placement comes to: VMs, price, slowdowns and SLOs, counted once for equal VMs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from placer.problem import Instance
from placer.repeated import Repeated
from placer.scoring import ReplicaScore, VmScore


@dataclass(frozen=True)
class SharedVm:
    """Equal VMs: the number of the first, how many there are, and what one of them holds."""

    first: int
    count: int
    scored: VmScore


@dataclass(frozen=True)
class Facts:
    """Figures of one placement.

    price: summed over the VMs, not weighted by the objective. worst, tightest: the replica with
    the highest slowdown and that with the least SLO margin, each with its VM type.
    """

    vms: dict[str, int]
    price: float
    replicas: int
    mean_slowdown: float | None
    worst: tuple[ReplicaScore, str] | None
    with_slo: int
    misses: int
    tightest: tuple[ReplicaScore, str] | None


def slo_margin(replica: ReplicaScore) -> float | None:
    """Return (slo - latency) / slo of a replica by the latency its SLO is checked with."""
    if replica.slo_ms is None or replica.latency_upper_ms is None:
        return None
    return (replica.slo_ms - replica.latency_upper_ms) / replica.slo_ms


def shared_vms(vms: Repeated[VmScore | None]) -> list[SharedVm]:
    """Return the distinct VMs with their counts, in order; those that have no score are left out.

    Equal VMs are told by identity, as `score` makes one object for each group.
    """
    first: dict[int, tuple[int, VmScore]] = {}
    counts: Counter[int] = Counter()
    for vm, places in vms.runs():
        if vm is not None:
            first.setdefault(id(vm), (places.start, vm))
            counts[id(vm)] += len(places)
    return [SharedVm(index, counts[key], vm) for key, (index, vm) in first.items()]


def facts_of(instance: Instance, vms: list[SharedVm]) -> Facts:
    """Return the figures of the placement that `vms` make up."""
    by_type: Counter[str] = Counter()
    replicas = with_slo = misses = 0
    slowdowns = 0.0
    worst: tuple[ReplicaScore, str] | None = None
    tightest: tuple[ReplicaScore, str] | None = None
    least = float("inf")
    for vm in vms:
        by_type[vm.scored.vm_type] += vm.count
        for replica in vm.scored.replicas:
            replicas += vm.count
            slowdowns += vm.count * replica.slowdown
            if worst is None or replica.slowdown > worst[0].slowdown:
                worst = replica, vm.scored.vm_type
            margin = slo_margin(replica)
            if margin is not None:
                with_slo += vm.count
                misses += vm.count * replica.over_slo
                if margin < least:
                    least, tightest = margin, (replica, vm.scored.vm_type)
    prices = {v.name: v.price for v in instance.vm_types}
    return Facts(
        vms={v.name: by_type[v.name] for v in instance.vm_types if by_type[v.name]},
        price=sum(prices[name] * count for name, count in by_type.items()),
        replicas=replicas,
        mean_slowdown=slowdowns / replicas if replicas else None,
        worst=worst,
        with_slo=with_slo,
        misses=misses,
        tightest=tightest,
    )
