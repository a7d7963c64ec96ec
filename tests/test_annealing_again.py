"""Placements that cooled are warmed a little and cool again, ever fewer of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from test_annealing import TOLERANCE, crowded, run_of, two_of

from placer.solvers import annealing
from placer.solvers.annealing import Annealing
from placer.solvers.annealing_types import State


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(annealing, "CHUNKS", 4)
    monkeypatch.setattr(annealing, "ROUNDS", 4)
    monkeypatch.setattr(annealing, "MOVES", 20_000)


def test_a_search_goes_on_from_the_best_of_the_one_before() -> None:
    run = run_of(crowded(5))
    search = Annealing(run)
    search.improve(np.inf)
    first = min(map(annealing.cost_of, search._placements))
    assert first == pytest.approx(run.objective)
    search.improve(np.inf)
    assert min(map(annealing.cost_of, search._placements)) <= first + TOLERANCE


def test_the_worst_are_given_up_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = 2 * annealing.PLACEMENTS
    monkeypatch.setattr(annealing, "ROUNDS", rounds)
    monkeypatch.setattr(annealing, "STALE", rounds)
    search = Annealing(run_of(crowded(5)))
    costs = []

    def cool_again(*_: object) -> None:
        costs.append(sorted(map(annealing.cost_of, search._placements)))

    search._cool_again = cool_again  # type: ignore[method-assign]
    search.improve(np.inf)
    assert len(costs) == rounds
    assert len(costs[0]) == annealing.PLACEMENTS
    assert len(costs[-1]) == annealing.LEAST
    for more, fewer in pairwise(costs):
        assert len(more) - 1 <= len(fewer) <= len(more)
        assert fewer == more[: len(fewer)]


def test_what_cooled_again_takes_the_place_of_its_own_only_where_it_is_better() -> None:
    run = run_of(crowded(5), workers=4)
    search = Annealing(run)
    with ThreadPoolExecutor(1) as pool:
        search._renew(pool, 1.0, np.inf)
        search._placements = search._placements[:3]
        search._first = 3
        before = list(search._placements)
        for number, state in enumerate(before):
            state.now[2] = 10.0 * number
        moved = []

        def found(_: object, __: object, states: list[State], chunks: int) -> None:
            assert chunks == 5 * len(states)
            moved.extend(states)
            for state, cost in zip(states, (1.0, 9.0, 20.0, -1.0), strict=True):
                state.now[2] = cost

        search._search = found  # type: ignore[method-assign]
        search._cool_again(pool, 1.0, 5)
    assert search._placements == [moved[3], moved[1], before[2]]
    assert search._vain == 0


def test_placements_that_lead_to_nothing_better_make_room_for_new_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(annealing, "ROUNDS", 30 * annealing.STALE)
    search = Annealing(run_of(crowded(5)))
    renewed: list[list[State]] = []
    renew = search._renew

    def noted(*given: object) -> None:
        renewed.append(list(search._placements))
        renew(*given)  # type: ignore[arg-type]
        assert all(any(x is y for y in search._placements) for x in renewed[-1][:5])
        assert len(search._placements) == annealing.PLACEMENTS

    def in_vain(*_: object) -> None:
        search._vain += len(search._placements)

    search._renew = noted  # type: ignore[method-assign]
    search._cool_again = in_vain  # type: ignore[method-assign]
    search.improve(np.inf)
    assert len(renewed) > 1
    assert renewed[0] == []
    for old in renewed[1:]:
        assert annealing.LEAST <= len(old) <= annealing.PLACEMENTS


def test_the_longer_nothing_better_is_found_the_cooler_some_begin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, (state, _) = two_of(crowded(3))
    search = Annealing(run_of(crowded(3)))
    search._first = annealing.PLACEMENTS
    begun: list[float] = []

    def noted(layout: object, scale: float, hot: float, cold: float, *_: object) -> None:
        assert cold <= hot
        begun.append(hot)

    monkeypatch.setattr(annealing, "anneal", noted)
    lowest = []
    for vain in (0, 1, 2, 9):
        search._vain = vain * search._first
        begun.clear()
        for seed in range(200):
            search._cool(1.0, 1, state, seed)
        assert max(begun) <= annealing.WARM[1]
        lowest.append(min(begun))
    assert lowest[0] >= annealing.WARM[0]
    least = [1.0, 1.0, annealing.CALMER, annealing.CALMEST]
    for calm, found in zip(least, lowest, strict=True):
        assert calm * annealing.WARM[0] <= found <= 1.2 * calm * annealing.WARM[1]


def test_searches_with_much_time_come_one_after_another_and_the_last_has_the_best_of_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(annealing, "MOST_SEARCHES", 4)
    monkeypatch.setattr(annealing, "ENOUGH", 1)
    search = Annealing(run_of(crowded(5)))
    begun, renew = [], search._renew

    def noted(*given: object) -> None:
        begun.append(list(search._placements))
        renew(*given)  # type: ignore[arg-type]

    def in_vain(*_: object) -> None:
        ends.append(min(search._placements, key=annealing.cost_of))
        search._vain = annealing.STALE * search._first
        if len(ends) > 3:
            search._run.should_stop = lambda: True  # type: ignore[method-assign]

    ends: list[State] = []
    search._renew = noted  # type: ignore[method-assign]
    search._cool_again = in_vain  # type: ignore[method-assign]
    search.improve(60.0)
    assert len(ends) == 4
    assert begun[:3] == [[], [], []]
    assert all(any(x is y for y in begun[3]) for x in ends[:3])
    assert len(begun[3]) == 3
    assert search._ends == []
    assert any(x is ends[3] for x in search._placements)


def test_a_search_with_little_time_is_not_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(annealing, "ENOUGH", 10**9)
    search = Annealing(run_of(crowded(5)))
    begun, renew = [], search._renew

    def noted(*given: object) -> None:
        begun.append(given)
        renew(*given)  # type: ignore[arg-type]

    search._renew = noted  # type: ignore[method-assign]
    search._cool_again = lambda *_: None  # type: ignore[method-assign]
    search.improve(0.3)
    assert len(begun) == 1
    assert search._ends == []


def test_what_another_search_found_takes_the_place_of_the_worst(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(annealing, "ROUNDS", 1)
    run = run_of(crowded(5))
    greedy, first = run.best, run.objective
    assert greedy is not None
    assert first is not None
    search = Annealing(run)
    search._cool_again = lambda *_: None  # type: ignore[method-assign]
    search.improve(np.inf)
    before = list(search._placements)
    assert max(map(annealing.cost_of, before)) < first
    search.adopt(greedy)
    search.improve(np.inf)
    assert all(x is y for x, y in zip(search._placements, before, strict=True))
    for number, state in enumerate(before):
        state.now[2] += first + number
    search.adopt(greedy)
    search.improve(np.inf)
    assert annealing.cost_of(search._placements[0]) == first
    assert all(x is y for x, y in zip(search._placements[1:], before[:-1], strict=True))


@pytest.mark.parametrize(("workers", "number"), [(2, annealing.PLACEMENTS), (8, 16)])
def test_a_search_with_a_clock_begins_with_more_where_workers_are_many(
    workers: int, number: int
) -> None:
    Annealing(run_of(crowded(5))).improve(np.inf)  # compiles
    run = run_of(crowded(5), workers=workers)
    before = run.objective
    search = Annealing(run)
    search.improve(1.0)
    assert before is not None
    assert run.objective is not None
    assert run.objective <= before
    assert search._first == number
    assert annealing.LEAST <= len(search._placements) <= number


def test_what_new_placements_find_while_hot_counts_only_where_they_come_no_further(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def costs_from(start: float, share: float) -> list[float]:
        """Return what new ones cost that began at a placement said to cost `start`."""
        monkeypatch.setattr(annealing, "FORGETTING", share)
        search = Annealing(run_of(crowded(5)))
        first = search._layout.state(1.0)
        first.now[2] = start
        search._layout.state = lambda _: first  # type: ignore[method-assign]
        original = search._search

        def found(pool: object, move: object, states: list[State], chunks: int) -> None:
            original(pool, move, states, chunks)  # type: ignore[arg-type]
            for state in states:
                state.now[2] = min(state.now[2], 5.0 if cooled else 2.0)
            cooled.append(True)

        cooled: list[bool] = []
        search._search = found  # type: ignore[method-assign]
        monkeypatch.setattr(search._layout, "offer", lambda _: None)
        with ThreadPoolExecutor(1) as pool:
            search._renew(pool, 1.0, np.inf)
        return [annealing.cost_of(state) for state in search._placements]

    monkeypatch.setattr(annealing, "anneal", lambda *_: None)
    assert costs_from(9.0, share=0.1) == [5.0] * annealing.PLACEMENTS
    assert costs_from(1.0, share=0.1) == [2.0] * annealing.PLACEMENTS
    assert costs_from(9.0, share=2.0) == [2.0] * annealing.PLACEMENTS
