"""Whom the linear master mixes: VMs around a dear one, and neighbourhoods worth opening."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from placer.solvers.columns import Columns
from placer.solvers.linear_bound import LinearBound
from placer.solvers.linear_company import LinearCompany
from placer.solvers.neighbourhood import Neighbourhoods, Ways
from tests.test_rounding import bound_of, many_replicas


def columns(*groups: tuple[int, ...]) -> Columns:
    width = max(map(len, groups))
    padded = [[*group, *[-1] * (width - len(group))] for group in groups]
    return Columns(
        np.zeros(len(groups), np.int32), np.array(padded, np.int32), np.ones(len(groups))
    )


def a_linear_bound() -> LinearBound:
    linear = bound_of(many_replicas(1, times=3))
    assert linear is not None
    return linear


def test_vms_that_are_mixed_with_a_dear_one_come_before_others() -> None:
    """Kinds 0 to 3 are mixed by the linear values, 4 and 5 are by themselves."""
    mixed = columns((0, 2), (1, 3), (0, 1), (2, 3), (4, 5))
    values = np.array([0.5, 0.5, 0.5, 0.5, 1.0])
    company = LinearCompany(replace(a_linear_bound(), columns=mixed, values=values), 6)
    vms = columns((4, 5), (0, 1), (2, 3))
    fault = np.array([0.0, 0.3, 0.0])
    for seed in range(20):
        order = company.order(vms, np.ones(3, int), fault, 4.0, np.random.default_rng(seed))
        assert order.tolist() == [1, 2]


@pytest.mark.parametrize("counts", [1, 2])
def test_as_many_vms_are_chosen_as_hold_the_replicas_asked_for(counts: int) -> None:
    company = LinearCompany(
        replace(a_linear_bound(), columns=columns((0, 1)), values=np.ones(1)), 6
    )
    vms = columns((0, 1), (2, 3), (4, 5))
    rng = np.random.default_rng(0)
    for size, asked in ((1.0, 1), (2.0, 1), (4.0, 2 // counts), (99.0, 3)):
        order = company.order(vms, np.full(3, counts), np.zeros(3), size, rng)
        assert len(order) == asked
        assert len(set(order.tolist())) == asked


def test_neighbourhoods_by_linear_values_free_what_they_hold() -> None:
    run = many_replicas(2, times=3)
    linear = bound_of(run)
    assert linear is not None
    near = Neighbourhoods(run, linear)
    assert run.best is not None
    placed = sum(len(group) * min(count, 2) for (_, group), count in run.best.items())
    for size in (4.0, 12.0, 1000.0):
        hole = near.open("linear", size)
        assert hole.vms <= Counter(run.best)
        members = sum(len(group) * count for (_, group), count in hole.vms.items())
        assert min(size, placed) <= members <= hole.replicas.sum()


def test_a_likelier_way_is_taken_more_often() -> None:
    ways = Ways(["often", "seldom"], np.random.default_rng(0), chance={"often": 10.0})
    taken = [ways.choose() for _ in range(400)]
    assert 320 < taken.count("often") < 400
