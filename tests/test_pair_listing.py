"""The compiled listing of a few replicas' groups finds what growth finds, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from placer.solvers.columns import TogetherIndex
from placer.solvers.frontier import Ground
from placer.solvers.pair_listing import list_best
from placer.solvers.refilling import likely_groups
from tests.test_rounding import bound_of, many_replicas

PLENTY = 100_000


def test_the_groups_of_a_few_replicas_are_those_that_growth_finds() -> None:
    compared = 0
    for seed in range(20):
        run = many_replicas(seed, times=2, limits={"slo"} if seed % 2 else None)
        linear = bound_of(run)
        if linear is None or run.objective is None:
            continue
        rng = np.random.default_rng(seed)
        ground = Ground.of(run)
        batch = replace(run.batch, replicas=rng.integers(0, run.batch.replicas + 1))
        prices = replace(linear.guide, together=np.zeros(0))
        window = 0.05 * abs(run.objective)
        found = list_best(run, ground.classes, batch, prices, window, PLENTY)
        if found is None:
            continue
        ground = replace(ground, batch=batch, together=TogetherIndex(batch))
        grown = likely_groups(ground, prices, window, PLENTY)
        reduced = found.cost - prices.worth(found)
        assert (reduced <= window + 1e-6).all()
        here = set(found.states())
        assert len(here) == len(found)
        assert here <= set(grown.states())
        contents = {group for _, group in here}
        near = grown.cost - prices.worth(grown) > window - 1e-6
        for (_, group), close in zip(grown.states(), near.tolist(), strict=True):
            assert group in contents or close
        best = list_best(run, ground.classes, batch, prices, window, 5)
        assert best is not None
        least = np.sort(best.cost - prices.worth(best))
        assert np.allclose(least, np.sort(reduced)[:5])
        compared += 1
    assert compared >= 6
