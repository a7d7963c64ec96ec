"""Single arrivals and departures over a fleet that lasts, in memory and in a file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from random_instances import random_instance

from placer.checker import check
from placer.cli import main
from placer.errors import InputError
from placer.files import read_placement, write_instance
from placer.fleet_file import durable_fleet
from placer.online import OnlinePlacer
from placer.problem import Instance
from placer.scoring import score


def catalogue(**fields: Any) -> Instance:
    """Return two models, of which `noisy` slows everybody, over two types of VM."""
    data = {
        "format": "placer/instance",
        "version": 1,
        "name": "catalogue",
        "vm_types": [
            {"name": "c2", "capacity": {"vcpu": 2}, "price": 0.1, "count": 2},
            {"name": "c4", "capacity": {"vcpu": 4}, "price": 0.3, "count": 1},
        ],
        "models": [
            {"name": "quiet", "replicas": 0, "demand": {"vcpu": 0.5}},
            {"name": "noisy", "replicas": 1, "demand": {"vcpu": 1}},
        ],
        "interference": {
            "kind": "pairwise",
            "slowdown": {
                "*": {
                    "quiet": {"quiet": 1.02, "noisy": 1.5},
                    "noisy": {"quiet": 1.05, "noisy": 1.9},
                }
            },
        },
    }
    return Instance.from_dict(data | fields)


def files(tmp_path: Path, instance: Instance | None = None) -> tuple[str, str]:
    """Return the names of a catalogue's file and of a fleet's file that is not there yet."""
    path = tmp_path / "catalogue.json"
    write_instance(path, instance or catalogue())
    return str(path), str(tmp_path / "fleet.json")


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_an_arrival_goes_where_the_objective_grows_least() -> None:
    placer = OnlinePlacer(catalogue())
    first, second, third = (placer.place(name) for name in ("quiet", "noisy", "quiet"))
    assert (first.vm, first.opened, first.growth) == ("c2-0", True, pytest.approx(0.1))
    assert (second.vm, second.opened) == ("c2-1", True)
    assert (third.vm, third.opened, third.growth) == ("c2-0", False, pytest.approx(0.04))
    assert [(s.before, s.after) for s in third.slowdowns] == [
        (1.0, pytest.approx(1.02)),
        (None, pytest.approx(1.02)),
    ]


@pytest.mark.parametrize("seed", range(80))
def test_growth_is_what_scoring_says_and_the_check_passes(seed: int) -> None:
    instance = random_instance(seed)
    rules = instance.rules.model_copy(update={"together": []})
    instance = instance.model_copy(update={"rules": rules})
    placer = OnlinePlacer(instance)
    before = placer.placement().objective
    placed = []
    for model in [m for m in instance.models for _ in range(m.replicas)]:
        decision = placer.place(model.name)
        placement = placer.placement()
        assert check(placer.as_instance(), placement).violations == []
        assert before is not None
        assert placement.objective is not None
        if decision.placed:
            placed.append(model.name)
            assert placement.objective - before == pytest.approx(decision.growth, abs=1e-9)
        else:
            assert decision.reason
            assert placement.objective == pytest.approx(before)
        before = placement.objective
    assert placer.as_instance().total_replicas == len(placed)
    scored = score(placer.as_instance(), placer.placement().assignment())
    assert before == pytest.approx(scored.objective)


@pytest.mark.parametrize("seed", range(40))
def test_what_came_can_go(seed: int) -> None:
    instance = random_instance(seed, interference="pairwise")
    placer = OnlinePlacer(instance)
    names = [m.name for m in instance.models for _ in range(m.replicas)]
    came = [name for name in names if placer.place(name).placed]
    for name in reversed(came):
        departure = placer.remove(name)
        if not departure.removed:
            assert departure.reason
            return
        placement = placer.placement()
        codes = {v.code for v in check(placer.as_instance(), placement).violations}
        assert codes <= {"together"}
    assert placer.placement().vms == []


def test_listed_models_gather_on_one_vm() -> None:
    placer = OnlinePlacer(catalogue(rules={"together": [["quiet", "noisy"]]}))
    assert placer.place("noisy").vm == "c2-0"
    assert placer.place("quiet").vm == "c2-0"
    assert placer.place("noisy").vm == "c2-1"
    assert check(placer.as_instance(), placer.placement()).ok


def test_a_refusal_says_why() -> None:
    placer = OnlinePlacer(catalogue(rules={"max_vms": 1}))
    assert placer.place("noisy").placed
    assert placer.place("noisy").placed
    assert placer.place("noisy").reason == (
        "1 VM in use: too little vcpu is left; a new 'c2': rules.max_vms is reached; "
        "a new 'c4': rules.max_vms is reached"
    )


def test_unknown_names_are_refused() -> None:
    placer = OnlinePlacer(catalogue())
    with pytest.raises(InputError, match=r"unknown model 'quit' \(did you mean 'quiet'\?\)"):
        placer.place("quit")
    with pytest.raises(InputError, match="no replica of model 'quiet' is on the fleet"):
        placer.remove("quiet")
    placer.place("quiet")
    with pytest.raises(InputError, match="unknown VM 'c9-0'"):
        placer.remove("quiet", "c9-0")


def test_a_fleet_that_breaks_its_catalogue_is_refused() -> None:
    placer = OnlinePlacer(catalogue())
    for _ in range(3):
        placer.place("noisy")
    fleet = placer.placement()
    fewer = catalogue(vm_types=[{"name": "c2", "capacity": {"vcpu": 2}, "count": 1}])
    with pytest.raises(InputError, match="unknown VM type 'c4'"):
        OnlinePlacer(fewer, fleet)
    with pytest.raises(InputError, match="the catalogue's name"):
        OnlinePlacer(catalogue(name="other"), fleet)


def test_names_of_vms_and_fields_of_others_last(tmp_path: Path) -> None:
    instance, path = catalogue(), tmp_path / "fleet.json"
    with durable_fleet(instance, path) as placer:
        for _ in range(3):
            placer.place("noisy")
    data = json.loads(path.read_text())
    data["vms"][1]["rack"] = 7
    path.write_text(json.dumps(data))
    with durable_fleet(instance, path) as placer:
        placer.remove("noisy", "c2-0")
        placer.place("quiet")
    vms = {vm.name: vm for vm in read_placement(path).vms}
    assert vms["c2-1"].model_extra == {"rack": 7}


def test_the_fleet_is_as_it_was_after_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "fleet.json"
    with durable_fleet(catalogue(), path) as placer:
        placer.place("quiet")
    before = path.read_bytes()
    with pytest.raises(InputError), durable_fleet(catalogue(), path) as placer:
        placer.place(("quiet", "nobody")[len(placer.placement().vms)])
    assert path.read_bytes() == before


def test_place_and_remove_on_the_command_line(tmp_path: Path) -> None:
    instance, fleet = files(tmp_path)
    placed = call("place", instance, fleet, "quiet", "--count", "2", "--format", "json")
    assert placed.exit_code == 0
    data = json.loads(placed.stdout)
    assert [d["vm"] for d in data["decisions"]] == ["c2-0", "c2-0"]
    assert data["objective"] == pytest.approx(read_placement(fleet).objective)
    removed = call("remove", instance, fleet, "quiet")
    assert removed.exit_code == 0
    assert "quiet left c2-0" in removed.stdout
    assert len(read_placement(fleet).vms[0].models) == 1


def test_exit_status_4_where_nothing_fits_and_2_for_bad_input(tmp_path: Path) -> None:
    instance, fleet = files(tmp_path)
    assert call("place", instance, fleet, "noisy", "--count", "6").exit_code == 0
    before = Path(fleet).read_bytes()
    refused = call("place", instance, fleet, "noisy", "--count", "3")
    assert refused.exit_code == 4
    assert refused.stdout == ""
    assert "after 2 of 3" in refused.stderr
    assert Path(fleet).read_bytes() == before
    assert call("place", instance, fleet, "nobody").exit_code == 2
    assert call("place", instance, fleet, "noisy", "--count", "0").exit_code == 2
    assert call("remove", instance, str(tmp_path / "none.json"), "noisy").exit_code == 2
    assert call("place", instance, "-", "noisy").exit_code == 2


def test_arrivals_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    instance, fleet = files(tmp_path)
    program = [sys.executable, "-c", "from placer.cli import main; main()"]
    calls = [
        subprocess.Popen([*program, "place", instance, fleet, "quiet"], stdout=subprocess.DEVNULL)
        for _ in range(6)
    ]
    assert [process.wait(timeout=120) for process in calls] == [0] * 6
    assert sum(len(vm.models) for vm in read_placement(fleet).vms) == 6
