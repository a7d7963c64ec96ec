"""Placements of many equal VMs, kept once: the same content, check and file as VM by VM."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from placer.checker import check
from placer.errors import InputError
from placer.files import read_placement, to_json, write_placement
from placer.placement import EqualVms, PlacedModel, Placement
from placer.placement_json import placement_json
from placer.problem import Instance
from placer.repeated import Repeated
from placer.scoring import score
from placer.solving import solve

MANY = 20_000_000
ODD = 'a "quoted" \\ \u2028 \x85 line'
"""A name with line ends that JSON does not escape."""


def batch(replicas: int, **fields: Any) -> Instance:
    model = {"name": ODD, "demand": {"vcpu": 1}, "solo_latency_ms": 10}
    other = {"name": "b", "replicas": replicas // 2, "demand": {"vcpu": 1}}
    return Instance.from_dict(
        {
            "vm_types": [
                {"name": "s", "capacity": {"vcpu": 2}, "price": 0.5},
                {"name": 's "2"', "capacity": {"vcpu": 4}, "price": 0.7, "count": 2},
            ],
            "models": [{**model, "replicas": replicas}, other],
            "interference": {"kind": "pairwise", "default": 1.2},
            **fields,
        }
    )


def one_by_one(placement: Placement) -> Placement:
    """Return the placement as a file gives it back: every VM an object of its own."""
    return Placement.from_dict(json.loads("".join(placement_json(placement))))


def test_repeated_is_the_sequence_it_stands_for() -> None:
    plain = ["a", "a", "b", "a", "c", "c", "c"]
    short = Repeated.of(plain)
    assert list(short) == plain
    assert short == plain
    assert [short[i] for i in range(-7, 7)] == plain * 2
    assert short[1:6:2] == plain[1:6:2]
    assert [(entry, list(places)) for entry, places in short.runs()] == [
        ("a", [0, 1]), ("b", [2]), ("a", [3]), ("c", [4, 5, 6]),
    ]  # fmt: skip
    assert short != plain[:-1]
    assert short != [*plain[:-1], "b"]
    with pytest.raises(IndexError):
        short[7]
    assert list(Repeated(["a", "b"], [0, 2])) == ["b", "b"]
    assert len(Repeated([], [])) == 0


def test_equal_vms_are_numbered_by_type() -> None:
    one, two = [PlacedModel(name="a")], [PlacedModel(name="a"), PlacedModel(name="b")]
    vms = EqualVms([("s", one), ("t", two), ("s", two)], [2, 1, 2])
    assert [vm.name for vm in vms] == ["s-0", "s-1", "t-0", "s-2", "s-3"]
    assert [vm.name for vm in vms] == [vms[i].name for i in range(5)]
    assert [len(vm.models) for vm in vms] == [1, 1, 2, 2, 2]


def test_the_file_is_the_same_as_one_of_single_vms() -> None:
    placement = solve(batch(13)).placement
    assert isinstance(placement.vms, EqualVms)
    text = "".join(placement_json(placement))
    assert text == to_json(placement.to_dict())
    again = one_by_one(placement)
    assert again.vms == placement.vms
    assert "".join(placement_json(again)) == text
    assert check(batch(13), again).ok


def test_a_file_without_vms_or_with_more_fields_is_kept(tmp_path: Path) -> None:
    empty = solve(batch(0)).placement
    assert "".join(placement_json(empty)) == to_json(empty.to_dict())
    data = solve(batch(3)).placement.to_dict()
    data["vms"][0]["rack"] = {"vms": []}
    data["vms"][0]["models"][0]["vms"] = []
    data["owner"] = 'me\n "vms": []'
    placement = Placement.from_dict(data)
    write_placement(tmp_path / "p.json", placement)
    assert read_placement(tmp_path / "p.json") == placement
    assert json.loads((tmp_path / "p.json").read_text(encoding="utf-8")) == data


@pytest.mark.parametrize(
    ("fields", "codes"),
    [
        ({"rules": {"apart": [["b", "b"]]}}, {"apart"}),
        ({"rules": {"max_vms": 1}}, {"max-vms"}),
        ({"interference": {"kind": "groups", "slowdown": {}}}, {"group-not-listed"}),
        ({"interference": {"kind": "pairwise", "default": 1.3}}, {"figure-differs"}),
    ],
)
def test_violations_are_those_of_single_vms(fields: dict[str, Any], codes: set[str]) -> None:
    placement = solve(batch(12)).placement
    stricter = batch(12, **fields)
    report = check(stricter, placement)
    assert report.violations == check(stricter, one_by_one(placement)).violations
    assert {violation.code for violation in report.violations} == codes
    fewer = batch(10)
    report = check(fewer, placement)
    assert {violation.code for violation in report.violations} == {"too-many-replicas"}
    assert report.violations == check(fewer, one_by_one(placement)).violations


def test_capacity_is_looked_at_in_every_equal_vm() -> None:
    full = [PlacedModel(name="b")] * 3
    placement = Placement.model_construct(vms=EqualVms([("s", full)], [4]))
    paths = [v.path for v in check(batch(24), placement).violations if v.code == "capacity"]
    assert paths == [f"vms[{i}]" for i in range(4)]


def test_more_replicas_than_can_be_counted_are_refused() -> None:
    with pytest.raises(InputError, match=r"found 3,000,000,000 replicas in all, expected"):
        solve(batch(1_000_000_000, models=[{"name": n, "replicas": 10**9} for n in "abc"]))


def test_equal_vms_of_many_replicas_are_kept_once() -> None:
    instance = batch(MANY)
    placement = solve(instance, time_limit=5).placement
    assert len(placement.vms) > MANY // 4
    assert check(instance, placement).ok
    last = placement.vms[-1]
    of_type = sum(len(at) for vm, at in placement.equal_vms() if vm.vm_type == last.vm_type)
    assert last.name == f"{last.vm_type}-{of_type - 1}"
    assert len(list(score(instance, placement.assignment()).vms.runs())) < 20
