"""What is measured next: where predictors disagree, what placements use, and nothing twice."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from placer.errors import InputError
from placer.interference.measurements import Measurements, read_measurements
from placer.measure import choose as choosing
from placer.measure.choose import DOUBT, PLACEMENT, RANDOM, SPREAD, Choice, choose, learn
from placer.measure.committee import Bootstrapped, groups_of
from placer.measure.dataset import DataSet, Group
from placer.measure.design import complete, solo
from placer.measure.plan import Plan
from placer.measure.runner import Window
from placer.measure.shapes import Shape

MODELS = ("a", "b", "c", "d", "e")
WEIGHT = dict(zip(MODELS, (0.2, 0.4, 0.6, 0.8, 1.0), strict=True))
SHAPES = [Shape(1), Shape(2)]
VMS = [shape.name for shape in SHAPES]


class MadeUp:
    """A campaign that computes latencies in place of measuring them, for as many runs as asked."""

    def __init__(self, folder: Path, most: int | None = None) -> None:
        self.data = DataSet(folder)
        self.models = dict.fromkeys(MODELS)
        self.shapes = {shape.name: shape for shape in SHAPES}
        self.window = Window()
        self.deadline = None
        self.said: list[str] = []
        self.most = most
        self.data.describe("models.csv", "model", {m: {"gflops": WEIGHT[m]} for m in MODELS})
        self.data.describe("vm_types.csv", "vm_type", {s.name: {"vcpu": s.vcpu} for s in SHAPES})
        self.measure(solo(SHAPES, MODELS))

    def out_of_time(self) -> bool:
        return self.most is not None and len(self.data.runs) >= self.most

    def measure(self, groups: Iterable[Group], repeats: int = 1) -> None:
        for group in groups:
            for _ in range(repeats - self.data.done[group.key]):
                if not self.out_of_time():
                    self.run(group)

    def run(self, group: Group) -> None:
        run = self.data.next_run("made-up")
        total = sum(WEIGHT[model] for model in group.models)
        crowd = max(total / self.shapes[group.vm_type].vcpu / 0.8, 1.0)
        rows = [
            {"run": run, "vm_type": group.vm_type, "model": model, "rate_rps": rate,
             "latency_ms_p50": 10.0 * WEIGHT[model] * (crowd if len(group.models) > 1 else 1.0)}
            for model, rate in zip(group.models, group.rates, strict=True)
        ]  # fmt: skip
        facts = {"run": run, "host": "made-up", "vm_type": group.vm_type, "kept": "yes"}
        facts |= {"degree": len(group.models), "models": group.text(), "reason": ""}
        self.data.add(facts, rows)

    def _say(self, done: int | None, total: int | None, text: str) -> None:
        self.said.append(text)


class Disagreeing:
    """A committee that disagrees about every member of the groups that hold one model."""

    def __init__(self, about: str) -> None:
        self.about = about

    def slowdowns(self, groups: Sequence[Group]) -> np.ndarray:
        width = max(len(group.models) for group in groups)
        spread = np.array([[2.0 if self.about in g.models else 0.01] * width for g in groups])
        return 3.0 + spread * np.linspace(-1, 1, 4)[:, None, None]


@pytest.fixture
def known(tmp_path: Path) -> Measurements:
    campaign = MadeUp(tmp_path / "known")
    campaign.measure(complete(SHAPES[:1], MODELS, 2)[::3])
    return read_measurements(campaign.data.folder)


def keys(choices: Sequence[Choice]) -> list[object]:
    return [choice.group.key for choice in choices]


def test_groups_are_preferred_where_the_committee_disagrees(known: Measurements) -> None:
    candidates = complete(SHAPES, MODELS, 3)
    chosen = choose(known, candidates, 20, committee=Disagreeing("b"), seed=1)
    reasons = Counter(choice.reason for choice in chosen)
    assert reasons == {DOUBT: 16, RANDOM: 4}  # a fifth
    doubtful = [choice for choice in chosen if choice.reason == DOUBT]
    about = [choice for choice in doubtful if "b" in choice.group.models]
    assert len(about) >= 12  # of the candidates it is 40 %
    assert all(choice.disagreement > 0.1 for choice in about)


def test_a_batch_does_not_ask_the_same_question_twice(known: Measurements) -> None:
    class AboutAll(Disagreeing):
        def slowdowns(self, groups: Sequence[Group]) -> np.ndarray:
            width = max(len(group.models) for group in groups)
            return np.broadcast_to(np.array([1.5, 2.5])[:, None, None], (2, len(groups), width))

    candidates = complete(SHAPES, MODELS, 3)
    chosen = choose(known, candidates, 15, committee=AboutAll("a"), seed=0)
    asked = [choice.group for choice in chosen if choice.reason == DOUBT]
    assert {group.vm_type for group in asked} == set(VMS)
    assert {len(group.models) for group in asked} == {2, 3}
    assert {model for group in asked for model in group.models} == set(MODELS)
    assert len({tuple(sorted(group.models)) for group in asked}) >= len(asked) - 1


def test_nothing_is_chosen_twice_and_nothing_that_is_known(known: Measurements) -> None:
    candidates = complete(SHAPES, MODELS, 2)
    turned = [replace(group, models=group.models[::-1]) for group in candidates]
    chosen = choose(known, [*candidates, *turned], 1000, wanted=turned[:4], seed=0)
    assert len(set(keys(chosen))) == len(chosen)
    measured = {group.key for group in groups_of(known).values()}
    for_placements = {choice.group.key for choice in chosen if choice.reason == PLACEMENT}
    assert for_placements == {group.key for group in turned[:4]} - measured
    assert set(keys(chosen)) == {group.key for group in candidates} - measured


def test_the_choice_is_the_same_for_a_seed(known: Measurements) -> None:
    candidates = complete(SHAPES, MODELS, 3)

    def chosen(seed: int) -> list[object]:
        committee = Bootstrapped.train(known, seed, members=2)
        return keys(choose(known, candidates, 10, committee=committee, seed=seed))

    assert chosen(3) == chosen(3)
    assert chosen(3) != chosen(4)


def test_with_few_runs_the_choice_spreads_over_models_and_vm_types(tmp_path: Path) -> None:
    nothing = read_measurements(MadeUp(tmp_path / "set").data.folder)
    chosen = choose(nothing, complete(SHAPES, MODELS, 3), 12, seed=0)
    assert {choice.reason for choice in chosen} == {SPREAD}
    for vm in VMS:
        here = [choice.group.models for choice in chosen if choice.group.vm_type == vm]
        assert {model for models in here for model in models} == set(MODELS)
    assert choose(nothing, [], 5) == []


def test_quick_groups_are_preferred_to_slow_ones(known: Measurements) -> None:
    candidates = complete(SHAPES[1:], MODELS, 2)
    seconds = {group.key: 100.0 if "e" in group.models else 1.0 for group in candidates}
    chosen = choose(known, candidates, 5, committee=Disagreeing("none"), seconds=seconds)
    assert not any("e" in one.group.models for one in chosen if one.reason == DOUBT)


def write_instance(folder: Path, **changes: Any) -> str:
    instance = {
        "format": "placer/instance",
        "version": 1,
        "vm_types": [{"name": vm, "capacity": {}, "price": 1, "max_models": 4} for vm in VMS],
        "models": [{"name": "a", "replicas": 4}, {"name": "b", "replicas": 2, "rate_rps": 100 / 7}],
        "objective": {"degradation": 0.1},
    }
    file = folder / "instance.json"
    file.write_text(json.dumps(instance | changes))
    return str(file)


def test_learning_measures_what_placements_use(tmp_path: Path) -> None:
    campaign = MadeUp(tmp_path / "set")
    plan = Plan(design="learn", degree=3, runs=44, instance=write_instance(tmp_path))
    learn(plan, campaign, SHAPES)  # type: ignore[arg-type]
    found = read_measurements(campaign.data.folder)
    groups = list(groups_of(found).values())
    assert len(groups) >= plan.runs
    assert len({group.key for group in groups}) == len(groups)
    # four replicas share a VM in no other plan of this degree, nor has any other this rate
    used = [group for group in groups if 14.2857 in group.rates or len(group.models) > 3]
    assert used
    assert all(set(group.models) <= {"a", "b"} for group in used)
    assert any("placements of the instance" in text for text in campaign.said)
    assert any("predictors disagree" in text for text in campaign.said)


def test_learning_ends_where_every_group_was_tried(tmp_path: Path) -> None:
    campaign = MadeUp(tmp_path / "set")
    learn(Plan(design="learn", degree=2, runs=500), campaign, SHAPES)  # type: ignore[arg-type]
    pairs = {group.key for group in complete(SHAPES, MODELS, 2)}
    assert {group.key for group in groups_of(read_measurements(campaign.data.folder)).values()}
    assert len(campaign.data.done.keys() & pairs) >= 0.9 * len(pairs)


def test_learning_stops_when_time_is_over_and_goes_on_later(tmp_path: Path) -> None:
    solos = len(SHAPES) * len(MODELS)
    plan = Plan(design="learn", degree=3, runs=10)
    stopped = MadeUp(tmp_path / "set", most=solos + 4)
    stopped.deadline = 0.0  # type: ignore[assignment]
    learn(plan, stopped, SHAPES)  # type: ignore[arg-type]
    assert len(stopped.data.runs) == solos + 4
    later = MadeUp(tmp_path / "set")
    learn(plan, later, SHAPES)  # type: ignore[arg-type]
    assert len(groups_of(read_measurements(later.data.folder))) >= plan.runs
    assert set(later.data.done.values()) == {1}


def test_an_instance_of_other_models_is_refused(tmp_path: Path) -> None:
    file = write_instance(tmp_path, models=[{"name": "elsewhere"}])
    plan = Plan(design="learn", instance=file)
    with pytest.raises(InputError, match=r"models: found elsewhere; expected at least one"):
        learn(plan, MadeUp(tmp_path / "set"), SHAPES)  # type: ignore[arg-type]


def test_an_instance_that_cannot_be_solved_yet_stops_nothing(tmp_path: Path) -> None:
    models = [{"name": "a"}, {"name": "strange", "replicas": 3}]
    plan = Plan(design="learn", degree=3, runs=34, instance=write_instance(tmp_path, models=models))
    campaign = MadeUp(tmp_path / "set")
    learn(plan, campaign, SHAPES)  # type: ignore[arg-type]
    assert any("cannot be solved yet" in text and "strange" in text for text in campaign.said)
    assert len(groups_of(read_measurements(campaign.data.folder))) >= plan.runs


def test_later_batches_pay_for_the_time_of_choosing(tmp_path: Path) -> None:
    campaign = MadeUp(tmp_path / "set")
    campaign.measure(complete(SHAPES, MODELS, 2))
    learner = choosing.Learner(Plan(), campaign, SHAPES)  # type: ignore[arg-type]
    learner._thought, learner._per_run = 6.0, 1.0
    assert learner.batch_size() >= 6.0 / 0.15 * 0.85
    learner._thought = 1e9
    assert learner.batch_size() == choosing.LARGEST_BATCH


def test_all_candidates_have_members_that_count_once() -> None:
    from placer.measure.doubt import targets

    groups = [Group.closed("1-core", g) for g in combinations_with_replacement("ab", 3)]
    assert targets(groups).sum(axis=1).tolist() == [1, 2, 2, 1]
