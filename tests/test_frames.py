"""Instances from pandas tables and back, and placements as tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from placer.errors import InputError
from placer.files import read_instance
from placer.frames import instance_from_frames, instance_to_frames, placement_frames
from placer.placement import Placement, UnplacedModel
from placer.problem import Instance
from placer.solving import solve


def vm_types() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "name": ["small", "large"],
            "price": [0.1, np.nan],
            "count": [3, np.nan],
            "max_models": pd.array([None, 4], dtype="Int64"),
            "capacity.vcpu": np.array([2, 8], dtype=np.int32),
            "capacity.memory_gib": [4.0, 16.0],
        }
    )


def models() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "name": ["resnet", "bert"],
            "replicas": np.array([2, 1]),
            "demand.vcpu": [0.5, 1.0],
            "demand.memory_gib": [np.nan, 1.0],
            "demand_on.large.vcpu": [0.4, np.nan],
            "cost_on.large": [0.01, np.nan],
            "slo_ms": [60, np.nan],
            "solo_latency_ms.small": [20.0, 30.0],
            "solo_latency_ms.large": [12.0, 18.0],
            "vm_types": ["small, large", None],
        }
    )


def pairs() -> pd.DataFrame:
    rows = [(t, c, s) for t, c, s in zip("aabb", "abab", (1.2, 1.3, 1.1, 1.0), strict=True)]
    frame = pd.DataFrame(rows, columns=["target", "co_runner", "slowdown"])
    return frame.replace({"a": "resnet", "b": "bert"})


def test_cells_that_are_not_given_are_left_out() -> None:
    instance = instance_from_frames(vm_types(), models(), pairs(), name="frames")
    small, large = instance.vm_types
    assert (small.count, small.max_models, small.price) == (3, None, 0.1)
    assert (large.count, large.max_models, large.price) == (None, 4, 0.0)
    resnet, bert = instance.models
    assert resnet.demand == {"vcpu": 0.5}
    assert resnet.demand_on == {"large": {"vcpu": 0.4}}
    assert resnet.cost_on == {"large": 0.01}
    assert resnet.vm_types == ["small", "large"]
    assert bert.vm_types is None
    assert bert.slo_ms is None
    assert bert.demand == {"vcpu": 1.0, "memory_gib": 1.0}
    assert bert.solo_latency_ms == {"small": 30.0, "large": 18.0}
    assert instance.interference.kind == "pairwise"
    assert instance.interference.pair("small", "resnet", "bert") == 1.3


def test_other_fields_join_the_tables() -> None:
    instance = instance_from_frames(
        vm_types(),
        models(),
        pairs(),
        interference={"combine": "product"},
        objective={"latency": 1.0},
        rules={"max_vms": 3},
    )
    assert instance.interference.kind == "pairwise"
    assert instance.interference.combine == "product"
    assert instance.objective.latency == 1.0
    assert instance.rules.max_vms == 3


@pytest.mark.parametrize("names", [["resnet", "bert"], "resnet, bert"])
def test_groups(names: object) -> None:
    table = pd.DataFrame({"vm_type": ["small"], "models": [names], "slowdown": [[1.2, 1.1]]})
    instance = instance_from_frames(vm_types(), models(), table)
    assert instance.interference.kind == "groups"
    assert instance.interference.entries_for("small")[0].slowdown == [1.2, 1.1]


def test_lists_of_numpy() -> None:
    table = pd.DataFrame({"models": [np.array(["bert"])], "slowdown": [np.array([1.5])]})
    instance = instance_from_frames(vm_types(), models(), table)
    assert instance.interference.kind == "groups"
    assert instance.interference.entries_for("large")[0].models == ["bert"]


def without(frame: pd.DataFrame, **cells: Any) -> pd.DataFrame:
    return frame.assign(**cells)


@pytest.mark.parametrize(
    ("types", "kinds", "table", "said"),
    [
        (without(vm_types(), price=[-1, 0]), models(), None, "vm_types[0].price"),
        (without(vm_types(), count=[1.5, 2]), models(), None, "vm_types[0].count"),
        (without(vm_types(), prize=[1, 2]), models(), None, "did you mean 'price'"),
        (vm_types().drop(columns="name"), models(), None, "vm_types[0].name"),
        (without(vm_types(), name=["a", "a"]), models(), None, "vm_types[1].name"),
        (vm_types(), without(models(), replicas=["2", "1"]), None, "models[0].replicas"),
        (vm_types(), without(models(), weight=[True, False]), None, "models[0].weight"),
        (vm_types(), without(models(), weight=[1, np.inf]), None, "models[1].weight"),
        (vm_types(), without(models(), solo_latency_ms=[1, 2]), None, "solo_latency_ms"),
        (vm_types(), without(models(), demand=[1, 2]), None, "unknown column 'demand'"),
        (vm_types(), without(models(), **{"demand_on.tiny.vcpu": [1, 2]}), None, "demand_on.tiny"),
        (vm_types(), models().iloc[:0], None, "models"),
        (vm_types(), models(), pairs().drop(columns="target"), "expected vm_type, target"),
        (vm_types(), models(), pairs().iloc[:2], "no slowdown of 'bert'"),
        (vm_types(), models(), pd.concat([pairs(), pairs()]), "slowdown[4]"),
        (
            vm_types(),
            models(),
            without(pairs(), slowdown=[1, np.nan, 1, 1]),
            "slowdown[1].slowdown",
        ),
        (vm_types(), models(), without(pairs(), slowdown=[0, 1, 1, 1]), "above 0"),
        (vm_types(), models(), without(pairs(), vm_type="tiny"), "unknown VM type 'tiny'"),
    ],
)
def test_bad_tables_are_refused_with_their_place(
    types: pd.DataFrame, kinds: pd.DataFrame, table: pd.DataFrame | None, said: str
) -> None:
    with pytest.raises(InputError) as refusal:
        instance_from_frames(types, kinds, table)
    assert said in str(refusal.value)


def rest_of(instance: Instance) -> dict[str, Any]:
    """Return the instance's fields that no table holds."""
    data = instance.to_dict()
    fields = {k: v for k, v in data.items() if k not in ("vm_types", "models")}
    if "interference" in fields:
        fields["interference"] = {
            k: v for k, v in fields["interference"].items() if k != "slowdown"
        }
    return fields


def test_there_and_back(root: Path) -> None:
    for path in sorted(
        [*(root / "instances").glob("*.json"), *(root / "instances" / "features").glob("*.json")]
    ):
        instance = read_instance(path)
        tables = instance_to_frames(instance)
        slowdown = tables["slowdown"] if len(tables["slowdown"]) else None
        again = instance_from_frames(
            tables["vm_types"], tables["models"], slowdown, **rest_of(instance)
        )
        assert again.to_dict() == instance.to_dict(), path


def test_placement_tables(root: Path) -> None:
    instance = read_instance(root / "instances" / "features" / "unplaced-penalty.json")
    result = solve(instance, solver="greedy")
    tables = result.to_frames()
    assert list(tables) == ["vms", "replicas", "unplaced"]
    assert len(tables["vms"]) == len(result.placement.vms)
    assert tables["vms"]["replicas"].sum() == len(tables["replicas"])
    assert len(tables["replicas"]) + len(tables["unplaced"]) == instance.total_replicas
    assert tables["replicas"]["slowdown"].dtype == float


def test_placement_without_anything() -> None:
    empty = placement_frames(Placement(vms=[]))
    assert [len(table) for table in empty.values()] == [0, 0, 0]
    left = placement_frames(Placement(vms=[], unplaced=["a", UnplacedModel(name="b", reason="r")]))
    assert left["unplaced"]["model"].tolist() == ["a", "b"]
