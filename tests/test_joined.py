"""Several folders of measurements are trained on as one."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from placer.cli import main
from placer.errors import InputError
from placer.interference.joined import read_folders


def write(folder: Path, latency: float, size: float = 1.0) -> Path:
    """Write a folder of one pair of models, `latency` ms alone and twice that together."""
    folder.mkdir()
    rows = ["run,vm_type,model,latency_ms_p50"]
    for number, model in enumerate("ab"):
        rows.append(f"{number},v,{model},{latency}")
    rows += [f"2,v,a,{2 * latency}", f"2,v,b,{2 * latency}"]
    (folder / "measurements.csv").write_text("\n".join(rows) + "\n")
    (folder / "models.csv").write_text(f"model,size\na,{size}\nb,2\n")
    (folder / "vm_types.csv").write_text("vm_type,vcpu\nv,2\n")
    return folder


def test_each_folder_keeps_its_own_references(tmp_path: Path) -> None:
    both = read_folders([write(tmp_path / "one", 1.0), write(tmp_path / "two", 3.0)])
    assert both.targets()["slowdown"].tolist() == [2.0] * 4
    assert both.targets()["run"].nunique() == 2
    assert both.solo["latency_ms_p50"].tolist() == [2.0, 2.0]
    assert both.solo["rate_rps"].isna().all()
    assert list(both.models.index) == ["a", "b"]


def test_folders_that_disagree_are_refused(tmp_path: Path) -> None:
    folders = [write(tmp_path / "one", 1.0), write(tmp_path / "two", 1.0, size=5.0)]
    with pytest.raises(InputError, match=r"has size '5\.0' here"):
        read_folders(folders)


def test_the_command_takes_several(tmp_path: Path) -> None:
    folders = [str(write(tmp_path / name, 1.0)) for name in ("one", "two")]
    output = tmp_path / "predictor.json"
    said = CliRunner().invoke(main, ["train", *folders, "-o", str(output)], prog_name="placer")
    assert said.exit_code == 0, said.stderr
    assert "4 slowdowns from 2 runs" in said.stderr
