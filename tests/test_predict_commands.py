"""The commands train, evaluate and predict, from files to files."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result
from test_predictor import QUICK, write_folder

from placer.cli import evaluate as evaluate_command
from placer.cli import predict as predict_command
from placer.cli import train as train_command
from placer.errors import InputError
from placer.interference import predictor as predictor_module


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("data"), runs=60)


@pytest.fixture(scope="module")
def trained(folder: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predictor_module, "Settings", lambda: QUICK)
        path = folder / "predictor.json"
        result = invoke(train_command.command, str(folder), "-o", str(path), "--workers", "1")
    assert result.stdout == ""
    assert "60 runs" in result.stderr
    return path


def invoke(command: object, *arguments: str, stdin: str | None = None) -> Result:
    result = CliRunner().invoke(command, arguments, input=stdin)  # type: ignore[arg-type]
    if result.exception is not None:
        raise result.exception
    return result


def test_evaluate_says_that_training_rows_are_not_held_out(trained: Path, folder: Path) -> None:
    result = invoke(evaluate_command.command, str(trained), str(folder))
    assert "not held out" in result.stdout
    assert "were in the training data" in result.stderr
    result = invoke(evaluate_command.command, str(trained), str(folder), "--format", "json")
    data = json.loads(result.stdout)
    assert data["in_training"] == data["targets"]
    assert {"data", "by", "value", "targets", "mape", "median_ape", "bias", "coverage"} == set(
        data["rows"][0]
    )


QUERIES = """comment,run,vm_type,model,rate_rps
x,one,c2,bert,
y,two,c4,vgg,
z,one,c2,gpt,
,one,c2,bert,
"""


def test_predict_keeps_order_and_columns(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "queries.csv").write_text(QUERIES)
    result = invoke(predict_command.command, str(trained), str(tmp_path / "queries.csv"))
    table = pd.read_csv(io.StringIO(result.stdout))
    assert list(table) == ["comment", "run", "vm_type", "model", "rate_rps", "slowdown",
                           "slowdown_upper"]  # fmt: skip
    assert table["model"].tolist() == ["bert", "vgg", "gpt", "bert"]
    assert table["slowdown"][1] == table["slowdown_upper"][1] == 1.0
    assert table["slowdown"][0] == table["slowdown"][3] > 1.0
    assert (table["slowdown_upper"] >= table["slowdown"]).all()
    assert invoke(predict_command.command, str(trained), "-", stdin=QUERIES).stdout == result.stdout


def test_predict_notes_extrapolation(trained: Path) -> None:
    many = QUERIES + ",deep,c8,bert,\n" * 5
    result = invoke(predict_command.command, str(trained), "-", stdin=many)
    notes = pd.read_csv(io.StringIO(result.stdout))["note"].fillna("").tolist()
    assert notes[:4] == [""] * 4
    assert all("degree 5 is above" in note for note in notes[4:])


@pytest.mark.parametrize(
    ("line", "part"),
    [
        (",a,c2,bertt,", "standard input: row 6, column model: 'bertt' is not"),
        (",a,c9,bert,", "row 6, column vm_type: 'c9' is not"),
        (",a,c2,bert,-4", "row 6, column rate_rps: found '-4'"),
        (",one,c4,bert,", "more than one VM type"),
    ],
)
def test_predict_refuses_bad_rows(trained: Path, line: str, part: str) -> None:
    with pytest.raises(InputError) as caught:
        invoke(predict_command.command, str(trained), "-", stdin=QUERIES + line + "\n")
    assert part in str(caught.value)


def test_predict_takes_strangers_from_another_folder(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "measurements.csv").write_text(
        "run,vm_type,model,latency_ms_p50\ns,c16,new,9\nt,c16,bert,8\n"
    )
    (tmp_path / "models.csv").write_text("model,family,gflops\nnew,cnn,0.4\nbert,transformer,0.9\n")
    (tmp_path / "vm_types.csv").write_text("vm_type,vcpu\nc16,16\n")
    queries = "run,vm_type,model\nr,c16,new\nr,c16,bert\n"
    result = invoke(
        predict_command.command, str(trained), "-", "--measurements", str(tmp_path), stdin=queries
    )
    table = pd.read_csv(io.StringIO(result.stdout))
    assert (table["slowdown"] > 1.0).all()
    assert table["note"].str.contains("c16").all()


def test_a_failed_training_leaves_the_old_file(trained: Path, tmp_path: Path) -> None:
    before = trained.read_bytes()
    with pytest.raises(InputError):
        invoke(train_command.command, str(tmp_path / "nowhere"), "-o", str(trained))
    assert trained.read_bytes() == before


def test_predict_explains_itself(trained: Path) -> None:
    result = invoke(predict_command.command, str(trained), "-", "--explain", stdin=QUERIES)
    table = pd.read_csv(io.StringIO(result.stdout), keep_default_na=False)
    assert table["explanation"][1] == ""
    assert "demand of " in table["explanation"][0]
    for text, slowdown in zip(table["explanation"], table["slowdown"].astype(float), strict=True):
        product = 1.0
        for part in filter(None, text.split("; ")):
            product *= float(part.rpartition(" x")[2])
        assert product == pytest.approx(slowdown, rel=0.01)
