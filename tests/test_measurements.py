"""Reading measurement folders: slowdowns, and every way in which a folder can be wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from placer.errors import InputError
from placer.interference.measurements import read_measurements

HEADER = "run,vm_type,model,rate_rps,latency_ms_p50,cpu_util"
ROWS = [
    "s1,c2,a,,10,0.5",
    "s2,c2,a,,12,",
    "s3,c2,a,,11,0.7",
    "s4,c2,b,5,20,0.2",
    "s5,c2,b,,40,0.9",
    "g1,c2,a,,22,",
    "g1,c2,b,5,30,",
    "g2,c2,a,,33,",
    "g2,c2,a,,33,",
    "g2,c2,b,,,",
]
MODELS = "model,family,batch\na,resnet,1\nb,bert,"
VM_TYPES = "vm_type,vcpu\nc2,2"


def write(
    folder: Path,
    rows: list[str] | None = None,
    header: str = HEADER,
    models: str = MODELS,
    vm_types: str = VM_TYPES,
) -> Path:
    text = "\n".join([header, *(ROWS if rows is None else rows)])
    (folder / "measurements.csv").write_text(text + "\n")
    (folder / "models.csv").write_text(models + "\n")
    (folder / "vm_types.csv").write_text(vm_types + "\n")
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_measurements(folder)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_slowdown_is_over_the_median_solo_latency_at_the_same_rate(tmp_path: Path) -> None:
    data = read_measurements(write(tmp_path))
    rows = data.rows.set_index(["run", "model"])
    assert rows.loc[("g1", "a"), "slowdown"].item() == pytest.approx(22 / 11)
    assert rows.loc[("g1", "b"), "slowdown"].item() == pytest.approx(30 / 20)
    assert set(rows.loc["g2", "degree"]) == {3}
    profile = data.solo[(data.solo["model"] == "a")].iloc[0]
    assert profile["cpu_util"] == pytest.approx(0.6)
    assert np.isnan(profile["memory_mib"])


def test_replicas_of_one_model_count_once_and_unmeasured_rows_not_at_all(tmp_path: Path) -> None:
    targets = read_measurements(write(tmp_path)).targets()
    assert targets.groupby("run").size().to_dict() == {"g1": 2, "g2": 1}


def test_features_are_numbers_or_text_with_gaps(tmp_path: Path) -> None:
    data = read_measurements(write(tmp_path))
    assert data.models["family"].tolist() == ["resnet", "bert"]
    assert data.models.loc["a", "batch"] == 1.0
    assert np.isnan(data.models.loc["b", "batch"])
    assert data.vm_types.loc["c2", "vcpu"] == 2.0


def test_parquet_reads_as_csv_does(tmp_path: Path) -> None:
    folder = write(tmp_path)
    expected = read_measurements(folder).rows
    pd.read_csv(folder / "measurements.csv").to_parquet(folder / "measurements.parquet")
    (folder / "measurements.csv").unlink()
    pd.testing.assert_frame_equal(read_measurements(folder).rows, expected, check_dtype=False)


def test_equal_configurations_are_recognised_whatever_the_order(tmp_path: Path) -> None:
    rows = [*ROWS[:7], "g3,c2,b,5,31,", "g3,c2,a,,21,"]
    data = read_measurements(write(tmp_path, rows)).rows.set_index("run")
    assert set(data.loc[["g1", "g3"], "configuration"]) == {"c2: a + b@5"}


@pytest.mark.parametrize(
    ("row", "parts"),
    [
        ("g9,c2,a,,0,", ["row 12, column latency_ms_p50", "'0'", "greater than 0"]),
        ("g9,c2,a,,-3,", ["row 12, column latency_ms_p50", "'-3'"]),
        ("g9,c2,a,,inf,", ["row 12, column latency_ms_p50", "'inf'", "finite"]),
        ("g9,c2,a,,nan,", ["row 12, column latency_ms_p50", "'nan'"]),
        ("g9,c2,a,fast,5,", ["row 12, column rate_rps", "'fast'"]),
        ("g9,c2,a,0,5,", ["row 12, column rate_rps"]),
        ("g9,c2,aa,,5,", ["row 12, column model", "'aa' is not in models.csv", "did you mean 'a'"]),
        ("g9,c22,a,,5,", ["row 12, column vm_type", "'c22'", "did you mean 'c2'"]),
        (",c2,a,,5,", ["row 12, column run", "is empty"]),
        ("g9,c2,a,,5,-1", ["row 12, column cpu_util", "0 or more"]),
    ],
)  # fmt: skip
def test_a_bad_cell_is_named(tmp_path: Path, row: str, parts: list[str]) -> None:
    text = refusal(write(tmp_path, [*ROWS, row]))
    assert "measurements.csv: " in text
    for part in parts:
        assert part in text


def test_a_group_without_a_solo_reference_is_refused(tmp_path: Path) -> None:
    text = refusal(write(tmp_path, [*ROWS, "g9,c2,a,7,12,", "g9,c2,b,,50,"]))
    assert "row 12: model 'a' has no solo run on 'c2' at rate_rps 7" in text


def test_a_run_on_two_vm_types_is_refused(tmp_path: Path) -> None:
    rows = [*ROWS, "g9,c2,a,,12,", "g9,c4,a,,12,"]
    text = refusal(write(tmp_path, rows, vm_types="vm_type,vcpu\nc2,2\nc4,4"))
    assert "'g9' has rows on more than one VM type" in text


def test_missing_and_misspelled_columns(tmp_path: Path) -> None:
    assert "column 'run' is missing" in refusal(write(tmp_path, header=HEADER.replace("run", "x")))
    text = refusal(write(tmp_path, header=HEADER.replace("latency_ms_p50", "latency_p50_ms")))
    assert "'latency_ms_p50' is missing" in text
    assert "is it spelled 'latency_p50_ms'" in text
    text = refusal(write(tmp_path, header=HEADER.replace("cpu_util", "cpu_utl")))
    assert "unknown column 'cpu_utl' (did you mean 'cpu_util'?)" in text


def test_extra_columns_are_left_alone(tmp_path: Path) -> None:
    rows = [row + ",x" for row in ROWS]
    assert len(read_measurements(write(tmp_path, rows, HEADER + ",comment")).rows) == len(ROWS)


def test_a_name_listed_twice_and_missing_files(tmp_path: Path) -> None:
    text = refusal(write(tmp_path, models=MODELS + "\na,vgg,2"))
    assert "models.csv: row 4, column model: 'a' is listed twice" in text
    (tmp_path / "models.csv").unlink()
    assert "models.csv: there is no such file" in refusal(tmp_path)
    assert "does not exist" in refusal(tmp_path / "nowhere")


def test_an_empty_or_broken_table_is_refused(tmp_path: Path) -> None:
    assert "has no rows" in refusal(write(tmp_path, []))
    (tmp_path / "measurements.csv").write_text("")
    assert "cannot be read as a table" in refusal(tmp_path)
    (tmp_path / "measurements.csv").write_bytes(b"\xff\xfe\x00\x81run,vm")
    assert "cannot be read as a table" in refusal(tmp_path)


def test_a_code_that_reads_as_a_huge_number_is_a_name(tmp_path: Path) -> None:
    data = read_measurements(write(tmp_path, vm_types="vm_type,host\nc2,075e48"))
    assert data.vm_types.loc["c2", "host"] == "075e48"
