"""Instance and placement files that must be refused, and the path each message must name."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

Change = Callable[[dict[str, Any]], None]

INSTANCE: dict[str, Any] = {
    "format": "placer/instance",
    "version": 1,
    "name": "base",
    "vm_types": [
        {"name": "small", "capacity": {"vcpu": 2, "memory_gib": 4}, "price": 0.1, "count": 3},
        {"name": "large", "capacity": {"vcpu": 8, "memory_gib": 16}, "price": 0.4, "max_models": 4},
    ],
    "models": [
        {
            "name": "resnet",
            "replicas": 2,
            "demand": {"vcpu": 0.5},
            "demand_on": {"large": {"vcpu": 0.4}},
            "cost_on": {"large": 0.01},
            "weight": 1,
            "rate_rps": 5,
            "solo_latency_ms": {"small": 20, "large": 12},
            "slo_ms": 60,
            "vm_types": ["small", "large"],
            "features": {"params": 25.0, "kind": "cnn"},
        },
        {"name": "bert", "demand": {"vcpu": 1, "memory_gib": 1}, "solo_latency_ms": 30.0},
    ],
    "interference": {
        "kind": "pairwise",
        "combine": "sum",
        "slowdown": {
            "*": {"resnet": {"resnet": 1.2, "bert": 1.3}, "bert": {"resnet": 1.1, "bert": 1.0}}
        },
    },
    "objective": {
        "price": 1.0,
        "degradation": 1.0,
        "latency": 0.0,
        "slo": "forbid",
        "unplaced": {"penalty": 5},
    },
    "rules": {
        "apart": [["resnet", "bert"]],
        "together": [["resnet", "resnet"]],
        "max_vms": 9,
        "max_price": 100,
    },
}

PLACEMENT: dict[str, Any] = {
    "format": "placer/placement",
    "version": 1,
    "instance": "base",
    "status": "feasible",
    "objective": 1.0,
    "bound": 0.5,
    "gap": 0.5,
    "terms": {"price": 0.6, "degradation": 0.4, "latency": 0.0, "slo": 0.0, "unplaced": 0.0},
    "vms": [
        {
            "name": "small-0",
            "vm_type": "small",
            "models": [
                {"name": "resnet", "slowdown": 1.2, "latency_ms": 24.0, "slo_ms": 60},
                {"name": "resnet", "slowdown": 1.2, "latency_ms": 24.0, "slo_ms": 60},
            ],
        }
    ],
    "unplaced": [{"name": "bert", "reason": "too dear"}],
    "solver": {"name": "groups", "version": "0.1.0", "seconds": 0.1, "seed": 0, "workers": 1},
}

ABSENT = object()


def put(data: dict[str, Any], path: str, value: object) -> None:
    """Set the value at `path`, keys parted by slashes, or take it away where it is ABSENT."""
    *before, last = [int(part) if part.isdigit() else part for part in path.split("/")]
    place: Any = data
    for key in before:
        place = place[key]
    if value is ABSENT:
        del place[last]
    elif isinstance(place, list) and last == len(place):
        place.append(value)
    else:
        place[last] = value


def changed(base: dict[str, Any], *changes: tuple[str, object]) -> str:
    """Return `base` as JSON text after `changes`."""
    data = copy.deepcopy(base)
    for path, value in changes:
        put(data, path, copy.deepcopy(value) if value is not ABSENT else ABSENT)
    return json.dumps(data)


NUMBERS = [  # fields that hold a number not below 0, and how a message names them
    ("vm_types/0/capacity/vcpu", "vm_types[0].capacity.vcpu"),
    ("vm_types/0/price", "vm_types[0].price"),
    ("models/0/demand/vcpu", "models[0].demand.vcpu"),
    ("models/0/demand_on/large/vcpu", "models[0].demand_on.large.vcpu"),
    ("models/0/cost_on/large", "models[0].cost_on.large"),
    ("models/0/weight", "models[0].weight"),
    ("models/0/rate_rps", "models[0].rate_rps"),
    ("objective/price", "objective.price"),
    ("objective/degradation", "objective.degradation"),
    ("objective/latency", "objective.latency"),
    ("objective/unplaced/penalty", "objective.unplaced.penalty"),
    ("rules/max_price", "rules.max_price"),
]
POSITIVES = [
    ("models/0/solo_latency_ms/small", "models[0].solo_latency_ms.small"),
    ("models/1/solo_latency_ms", "models[1].solo_latency_ms"),
    ("models/0/slo_ms", "models[0].slo_ms"),
    (
        "interference/slowdown/*/bert/resnet",
        'interference.slowdown["*"].bert.resnet',
    ),
    ("interference/default", "interference.default"),
]
COUNTS = [
    ("vm_types/0/count", "vm_types[0].count"),
    ("vm_types/1/max_models", "vm_types[1].max_models"),
    ("models/0/replicas", "models[0].replicas"),
    ("rules/max_vms", "rules.max_vms"),
]
TEXTS = [
    ("vm_types/0/name", "vm_types[0].name"),
    ("models/0/name", "models[0].name"),
    ("models/0/vm_types/0", "models[0].vm_types[0]"),
    ("rules/apart/0/0", "rules.apart[0][0]"),
    ("rules/together/0/0", "rules.together[0][0]"),
]
OBJECTS = [
    ("vm_types/0", "vm_types[0]"),
    ("vm_types/0/capacity", "vm_types[0].capacity"),
    ("models/0", "models[0]"),
    ("models/0/demand", "models[0].demand"),
    ("models/0/demand_on", "models[0].demand_on"),
    ("models/0/demand_on/large", "models[0].demand_on.large"),
    ("models/0/cost_on", "models[0].cost_on"),
    ("models/0/features", "models[0].features"),
    ("interference", "interference"),
    ("interference/slowdown", "interference.slowdown"),
    ("interference/slowdown/*", 'interference.slowdown["*"]'),
    ("interference/slowdown/*/bert", 'interference.slowdown["*"].bert'),
    ("objective", "objective"),
    ("rules", "rules"),
]
LISTS = [
    ("vm_types", "vm_types"),
    ("models", "models"),
    ("models/0/vm_types", "models[0].vm_types"),
    ("rules/apart", "rules.apart"),
    ("rules/apart/0", "rules.apart[0]"),
    ("rules/together/0", "rules.together[0]"),
]
UNKNOWN_FIELDS = [
    ("extra", "extra"),
    ("vm_types/0/prize", "vm_types[0].prize"),
    ("models/0/replica", "models[0].replica"),
    ("interference/slow", "interference.slow"),
    ("objective/cost", "objective.cost"),
    ("rules/appart", "rules.appart"),
    ("objective/unplaced/penalties", "objective.unplaced.penalties"),
]
GROUPS: dict[str, Any] = {
    "kind": "groups",
    "slowdown": {"small": [{"models": ["resnet", "bert"], "slowdown": [1.2, 1.1]}]},
}


def _typed() -> dict[str, tuple[str, str]]:
    """Return files with one wrongly typed or wrongly valued field each."""
    cases: dict[str, tuple[str, str]] = {}

    def add(label: str, places: list[tuple[str, str]], *values: object) -> None:
        for path, named in places:
            for value in values:
                text = changed(INSTANCE, (path, value))
                cases[f"{named} {label} {json.dumps(value)[:20]}"] = text, named

    add("number", NUMBERS, -1, True, "1", [1], 1e999)
    add("positive", POSITIVES, 0, -2.5, False, "fast", [])
    add("count", COUNTS, -1, 1.5, True, "3", {}, 10**400)
    add("text", TEXTS, 3, None, True, ["x"], "")
    add("object", OBJECTS, 3, "x", [], None, True)
    add("list", LISTS, 3, "x", {}, False)
    add("unknown", UNKNOWN_FIELDS, 1)
    return cases


def _named() -> dict[str, tuple[str, str]]:
    """Return files in which names or fields do not agree with each other."""

    def case(named: str, *changes: tuple[str, object]) -> tuple[str, str]:
        return changed(INSTANCE, *changes), named

    groups = ("interference", GROUPS)
    entry = "interference/slowdown/small/0"
    return {
        "no format": case("format", ("format", ABSENT)),
        "no version": case("version", ("version", ABSENT)),
        "another format": case("format", ("format", "placer/placement")),
        "format of no text": case("format", ("format", 3)),
        "later version": case("later version", ("version", 2)),
        "version of text": case("version", ("version", "1")),
        "version true": case("version", ("version", True)),
        "version null": case("version", ("version", None)),
        "huge version": case("version", ("version", 10**400)),
        "no vm types": case("vm_types", ("vm_types", [])),
        "vm types missing": case("vm_types", ("vm_types", ABSENT)),
        "no models": case("models", ("models", [])),
        "models missing": case("models", ("models", ABSENT)),
        "vm type without name": case("vm_types[0].name", ("vm_types/0/name", ABSENT)),
        "vm type without capacity": case("vm_types[0].capacity", ("vm_types/0/capacity", ABSENT)),
        "model without name": case("models[0].name", ("models/0/name", ABSENT)),
        "vm type twice": case("vm_types[1].name", ("vm_types/1/name", "small")),
        "model twice": case("models[1].name", ("models/1/name", "resnet")),
        "demand_on of no type": case("did you mean", ("models/0/demand_on/larg", {"vcpu": 1})),
        "cost_on of no type": case("models[0].cost_on.smal", ("models/0/cost_on/smal", 1)),
        "latency of no type": case("did you mean", ("models/0/solo_latency_ms/lrge", 1)),
        "allowed type unknown": case("models[0].vm_types[1]", ("models/0/vm_types/1", "largee")),
        "allowed type twice": case("models[0].vm_types[1]", ("models/0/vm_types/1", "small")),
        "unknown resource": case("models[1].demand.gpu", ("models/1/demand/gpu", 1)),
        "resource misspelt": case("did you mean 'vcpu'", ("models/1/demand/vcpus", 1)),
        "resource on one type": case(
            "models[0].demand_on.large.gpu", ("models/0/demand_on/large/gpu", 1)
        ),
        "latency missing for slo": case(
            "models[1].solo_latency_ms",
            ("models/1/solo_latency_ms", ABSENT),
            ("models/1/slo_ms", 50),
        ),
        "latency missing on a type": case(
            "models[0].solo_latency_ms", ("models/0/solo_latency_ms/large", ABSENT)
        ),
        "latency missing for the term": case(
            "models[1].solo_latency_ms",
            ("models/1/solo_latency_ms", ABSENT),
            ("objective/latency", 1),
        ),
        "apart unknown": case("rules.apart[0][1]", ("rules/apart/0/1", "brt")),
        "together unknown": case("rules.together[0][0]", ("rules/together/0/0", "resne")),
        "pair of unknown type": case(
            "interference.slowdown.tiny", ("interference/slowdown/tiny", {})
        ),
        "pair of unknown target": case("did you mean 'bert'", ("interference/slowdown/*/brt", {})),
        "pair of unknown co-runner": case(
            'interference.slowdown["*"].bert.x', ("interference/slowdown/*/bert/x", 1.1)
        ),
        "pair missing": case(
            "interference.slowdown", ("interference/slowdown/*/bert/resnet", ABSENT)
        ),
        "kind unknown": case("interference.kind", ("interference/kind", "pairwize")),
        "kind of no text": case("interference", ("interference/kind", 3)),
        "kind null": case("interference.kind", ("interference/kind", None)),
        "kind of a list": case("interference.kind", ("interference/kind", [])),
        "kind true": case("interference.kind", ("interference/kind", True)),
        "surrogate in a description": case("description", ("description", "\ud800")),
        "surrogate in a feature": case("models[0].features", ("models/0/features/kind", "\udfff")),
        "surrogate in a feature's name": case(
            "models[0].features", ("models/0/features/\ud800", 1)
        ),
        "kind missing": case("interference", ("interference/kind", ABSENT)),
        "combine unknown": case("interference.combine", ("interference/combine", "max")),
        "slo word unknown": case("objective.slo", ("objective/slo", "forbidden")),
        "slo number": case("objective.slo", ("objective/slo", 3)),
        "slo true": case("objective.slo", ("objective/slo", True)),
        "slo without penalty": case("objective.slo.penalty", ("objective/slo", {})),
        "feature of a list": case("models[0].features.params", ("models/0/features/params", [1])),
        "feature true": case("models[0].features.params", ("models/0/features/params", True)),
        "name of a number": case("name", ("name", 3)),
        "description of a list": case("description", ("description", [])),
        "group of unknown model": case(
            "interference.slowdown.small[0].models[1]", groups, (f"{entry}/models/1", "brt")
        ),
        "group on unknown type": case(
            "interference.slowdown.tiny", groups, ("interference/slowdown/tiny", [])
        ),
        "group too short": case(
            "interference.slowdown.small[0].slowdown", groups, (f"{entry}/slowdown", [1.2])
        ),
        "group of none": case(
            "interference.slowdown.small[0].models",
            groups,
            (f"{entry}/models", []),
            (f"{entry}/slowdown", []),
        ),
        "group slowdown 0": case(
            "interference.slowdown.small[0].slowdown[0]", groups, (f"{entry}/slowdown/0", 0)
        ),
        "group slowdown text": case(
            "interference.slowdown.small[0].slowdown[0]", groups, (f"{entry}/slowdown/0", "1")
        ),
        "group differs within": case(
            "interference.slowdown.small[0].slowdown[1]",
            groups,
            (f"{entry}/models", ["bert", "bert"]),
        ),
        "group twice": case(
            "interference.slowdown.small[1]",
            groups,
            ("interference/slowdown/small/1", {"models": ["bert", "resnet"], "slowdown": [1, 1]}),
        ),
        "group field unknown": case(
            "interference.slowdown.small[0].slow", groups, (f"{entry}/slow", 1)
        ),
        "group without models": case(
            "interference.slowdown.small[0].models", groups, (f"{entry}/models", ABSENT)
        ),
        "missing word unknown": case(
            "interference.missing", groups, ("interference/missing", "allow")
        ),
        "fallback missing": case(
            "interference.pairwise", groups, ("interference/missing", "pairwise")
        ),
        "fallback incomplete": case(
            "interference.pairwise.slowdown",
            groups,
            ("interference/missing", "pairwise"),
            ("interference/pairwise", {}),
        ),
        "quantile of 1": case(
            "interference.slo_quantile", ("interference", {"kind": "predictor", "slo_quantile": 1})
        ),
        "predictor of a number": case(
            "interference.predictor", ("interference", {"kind": "predictor", "predictor": 3})
        ),
        "predictor not there": case(
            "interference.predictor",
            ("interference", {"kind": "predictor", "predictor": "no.json"}),
        ),
    }


def _texts() -> dict[str, tuple[bytes, str]]:
    """Return files that are no JSON object at all, as bytes."""
    good = json.dumps(INSTANCE)

    def swapped(old: str, new: str) -> bytes:
        assert old in good
        return good.replace(old, new, 1).encode()

    return {
        "empty": (b"", "line 1 column 1"),
        "blank": (b" \n ", "line"),
        "truncated": (good[:-40].encode(), "line 1"),
        "truncated in a text": (good[:30].encode(), "line 1"),
        "no JSON": (b"models: []", "line 1"),
        "two values": ((good + good).encode(), "line 1"),
        "comment": (b"// hi\n" + good.encode(), "line 1"),
        "single quotes": (good.replace('"', "'").encode(), "line 1"),
        "trailing comma": (good[:-1].encode() + b",}", "line 1"),
        "a list": (b"[]", "expected a JSON object"),
        "a number": (b"3", "expected a JSON object"),
        "null": (b"null", "expected a JSON object"),
        "a text": (b'"x"', "expected a JSON object"),
        "empty object": (b"{}", "format"),
        "deep lists": (b"[" * 100_000, "nested too deeply"),
        "deep objects": (b'{"a":' * 100_000, "nested too deeply"),
        "deep and closed": (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
        "deep inside": (swapped('"base"', "[" * 100_000 + "]" * 100_000), "nested too deeply"),
        "deep but parsed": (swapped('"base"', "[" * 900 + "]" * 900), "name"),
        "NaN": (swapped("0.1", "NaN"), "NaN"),
        "Infinity": (swapped("0.1", "Infinity"), "Infinity"),
        "minus Infinity": (swapped("0.1", "-Infinity"), "Infinity"),
        "1e400": (swapped("0.1", "1e400"), "vm_types[0].price"),
        "minus 1e400": (swapped("0.1", "-1e400"), "vm_types[0].price"),
        "5000 digits": (swapped("0.1", "9" * 5000), "finite"),
        "400 digits": (swapped("0.1", "9" * 400), "vm_types[0].price"),
        "repeated at the top": (swapped('"version": 1', '"version": 1, "version": 1'), "version"),
        "repeated price": (
            swapped('"price": 0.1', '"price": 0.1, "price": 0.1'),
            "vm_types[0].price",
        ),
        "repeated resource": (
            swapped('"vcpu": 2', '"vcpu": 2, "vcpu": 2'),
            "vm_types[0].capacity.vcpu",
        ),
        "UTF-16": (good.encode("utf-16"), "UTF-8"),
        "Latin-1": (swapped('"base"', '"café"').decode().encode("latin-1"), "UTF-8"),
        "binary": (bytes(range(256)), "UTF-8"),
        "null bytes": (b"\0" * 100, "line 1"),
        "zip": (b"PK\x03\x04\xff\xfe", "UTF-8"),
        "lone surrogate in a name": (swapped('"resnet"', '"\\ud800"'), "models[0].name"),
        "lone surrogate in a key": (swapped('"vcpu": 2', '"\\ud800": 2'), "vm_types[0].capacity"),
        "control character": (swapped('"base"', '"a\x01b"'), "line 1"),
    }


def bad_instances() -> dict[str, tuple[bytes, str]]:
    """Return by label the bytes of each bad instance file and what its message must contain."""
    written = {
        label: (text.encode(), named) for label, (text, named) in {**_typed(), **_named()}.items()
    }
    return {**_texts(), **written}


def bad_placements() -> dict[str, tuple[bytes, str]]:
    """Return by label the bytes of each bad placement file and what its message must contain."""

    def case(named: str, *changes: tuple[str, object]) -> tuple[bytes, str]:
        return changed(PLACEMENT, *changes).encode(), named

    good = json.dumps(PLACEMENT)
    figures = [
        ("objective", "objective"),
        ("bound", "bound"),
        ("gap", "gap"),
        ("terms/price", "terms.price"),
        ("vms/0/models/0/slowdown", "vms[0].models[0].slowdown"),
        ("vms/0/models/0/latency_ms", "vms[0].models[0].latency_ms"),
        ("vms/0/models/0/slo_ms", "vms[0].models[0].slo_ms"),
        ("solver/seconds", "solver.seconds"),
    ]
    cases = {
        f"{named} {json.dumps(value)[:20]}": case(named, (path, value))
        for path, named in figures
        for value in ("1.5", True, [1.0], 10**400)
    }
    return {
        **cases,
        "empty": (b"", "line 1"),
        "truncated": (good[:-30].encode(), "line 1"),
        "a list": (b"[]", "expected a JSON object"),
        "deep": (b"[" * 100_000, "nested too deeply"),
        "NaN": (good.replace("0.5", "NaN", 1).encode(), "NaN"),
        "repeated field": (
            good.replace('"bound": 0.5', '"bound": 0.5, "bound": 0.5').encode(),
            "bound",
        ),
        "an instance": (json.dumps(INSTANCE).encode(), "format"),
        "later version": case("later version", ("version", 7)),
        "version true": case("version", ("version", True)),
        "no format": case("format", ("format", ABSENT)),
        "status unknown": case("status", ("status", "best")),
        "status of a number": case("status", ("status", 1)),
        "no vms": case("vms", ("vms", ABSENT)),
        "vms of an object": case("vms", ("vms", {})),
        "vm of a text": case("vms[0]", ("vms/0", "small-0")),
        "vm without type": case("vms[0].vm_type", ("vms/0/vm_type", ABSENT)),
        "vm without name": case("vms[0].name", ("vms/0/name", ABSENT)),
        "vm name of a number": case("vms[0].name", ("vms/0/name", 3)),
        "vm without models": case("vms[0].models", ("vms/0/models", ABSENT)),
        "model of a text": case("vms[0].models[0]", ("vms/0/models/0", "resnet")),
        "model without name": case("vms[0].models[0].name", ("vms/0/models/0/name", ABSENT)),
        "model name of a number": case("vms[0].models[0].name", ("vms/0/models/0/name", 4)),
        "unplaced of an object": case("unplaced", ("unplaced", {})),
        "unplaced of a number": case("unplaced[0]: found 3", ("unplaced/0", 3)),
        "unplaced without name": case("unplaced[0]", ("unplaced/0", {"reason": "x"})),
        "terms of a list": case("terms", ("terms", [])),
        "solver of a text": case("solver", ("solver", "groups")),
        "solver without name": case("solver.name", ("solver/name", ABSENT)),
        "seed of a text": case("solver.seed", ("solver/seed", "x")),
    }
