"""Which groups a campaign measures: every multiset, or a random spread over degrees and rates."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations_with_replacement

import numpy as np

from placer.measure.dataset import Group
from placer.measure.shapes import Shape

SERIES = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0)
ALL_CLOSED, ALL_OPEN = 0.6, 0.25  # shares of random groups; the rest mixes both
FULL = 0.8  # an open-loop replica gets no more load than this share of what it can count on


def solo(shapes: Sequence[Shape], models: Sequence[str], label: str = "") -> list[Group]:
    """Return the closed-loop solo group of each model on each shape."""
    return [Group.closed(label + shape.name, [m]) for shape in shapes for m in models]


def complete(
    shapes: Sequence[Shape], models: Sequence[str], degree: int, label: str = ""
) -> list[Group]:
    """Return every multiset of 2 to `degree` models on each shape, closed loop."""
    return [
        Group.closed(label + shape.name, group)
        for shape in shapes
        for size in range(2, degree + 1)
        for group in combinations_with_replacement(sorted(models), size)
    ]


def round_rate(rate: float) -> float:
    """Return a rate rounded to 1, 1.5, 2, 3, 4, 5, 7 times a power of ten."""
    scale = 10.0 ** math.floor(math.log10(rate))
    return min((scale * step for step in SERIES), key=lambda value: abs(math.log(value / rate)))


def rates_of(latency_ms: Mapping[str, float], loads: Sequence[float]) -> dict[str, list[float]]:
    """Return for each model the requests/s that make each of the offered `loads`.

    A load is a share of one processor, rate x solo latency.
    """
    return {
        model: list(dict.fromkeys(round_rate(1000.0 * load / solo_ms) for load in loads))
        for model, solo_ms in latency_ms.items()
    }


def random_groups(
    shapes: Sequence[Shape],
    models: Sequence[str],
    degrees: Mapping[int, float],
    rates: Mapping[str, Sequence[float]],
    latency_ms: Mapping[str, float],
    seed: int,
    label: str = "",
) -> Iterator[Group]:
    """Yield different random groups without end (until all were tried 50 times in vain).

    `degrees` weighs the co-location degrees; `rates` are the open-loop rates of each model (none:
    closed loop alone) and `latency_ms` its solo latency, by which overloaded groups are left out.
    """
    random = np.random.default_rng(seed)
    sizes = list(degrees)
    weight = np.array([degrees[size] for size in sizes], dtype=float)
    seen: set[object] = set()
    failed = 0
    while failed < 50:
        shape = shapes[int(random.integers(len(shapes)))]
        size = int(random.choice(sizes, p=weight / weight.sum()))
        chosen = [str(m) for m in random.choice(list(models), size)]
        form = random.random()
        loops: list[float | None] = []
        for model in chosen:
            open_loop = bool(rates.get(model)) and (
                form >= ALL_CLOSED and (form < ALL_CLOSED + ALL_OPEN or random.random() < 0.5)
            )
            loops.append(float(random.choice(list(rates[model]))) if open_loop else None)
        group = Group(label + shape.name, tuple(chosen), tuple(loops))
        if group.key in seen or overloaded(shape, group, latency_ms):
            failed += 1
            continue
        failed = 0
        seen.add(group.key)
        yield group


def overloaded(shape: Shape, group: Group, latency_ms: Mapping[str, float]) -> bool:
    """Say whether an open-loop replica's queue would grow without end.

    A replica can count on an equal share of the processors, and on what slower ones leave.
    """
    asked = sorted(
        1.0 if rate is None else min(rate * latency_ms[model] / 1000.0, 1.0)
        for model, rate in zip(group.models, group.rates, strict=True)
    )
    left, waiting = shape.vcpu, len(asked)
    share = 0.0
    for load in asked:
        share = left / waiting
        if load <= share:
            left -= load
            waiting -= 1
    fair = min(share, 1.0)
    return any(
        rate is not None and rate * latency_ms[model] / 1000.0 > FULL * fair
        for model, rate in zip(group.models, group.rates, strict=True)
    )


def solos_needed(groups: Sequence[Group]) -> list[Group]:
    """Return the solo groups that give the slowdowns of `groups` their references."""
    needed = {
        (group.vm_type, model, rate)
        for group in groups
        for model, rate in zip(group.models, group.rates, strict=True)
    }
    return [
        Group(vm, (model,), (rate,))
        for vm, model, rate in sorted(needed, key=lambda n: (n[0], n[1], n[2] or 0.0))
    ]
