from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from sw_ops import doctor
from sw_ops.bench import candidates as bench
from sw_ops.cli import app


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.output


def test_doctor_says_that_everything_works() -> None:
    code, output = run("doctor", "--json")
    found = json.loads(output)
    assert code == 0
    assert found["healthy"]
    assert found["native"]["built"]
    served = {(entry["device"], entry["dtype"]): entry["backend"] for entry in found["serving"]}
    assert served["cpu", "float32"] == "native"
    assert found["versions"]["torch"] == torch.__version__


@pytest.mark.parametrize(
    "operator",
    ["stripe_conv2d_fused", "depthwise_conv2d", "pointwise_mlp", "global_response_norm", "nearest_distances"],
)
def test_doctor_notices_a_wrong_kernel(operator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = getattr(doctor, operator)
    monkeypatch.setattr(doctor, operator, lambda *arguments: right(*arguments) * 1.01)
    code, output = run("doctor")
    assert code == 1
    assert "WRONG" in output


def test_doctor_notices_a_missing_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.backend, "_C", None)
    monkeypatch.setattr(doctor.backend, "native_missing", "no compiler was found")
    code, output = run("doctor")
    assert code == 1
    assert "no compiler was found" in output


def test_accuracy_prints_the_errors_that_are_documented() -> None:
    found = json.loads(CliRunner().invoke(app, ["accuracy", "--json"]).output)
    random, whole, zeros, bad = found.values()
    assert random["fast"] < 1e-6
    assert random["exact"] < 1e-6
    for exact in (whole, zeros):
        assert exact["exact"] == exact["PyTorch"] == 0
    assert bad["exact"] == bad["PyTorch"] == 3 * 51
    table = CliRunner().invoke(app, ["accuracy"])
    assert table.exit_code == 0
    assert "exact" in table.output


def test_bench_measures_every_contender_and_compares_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "TINY_STAGES", (bench.Shape(4, 6, 13),))
    file = tmp_path / "a.json"
    code, output = run("bench", "--batch", "1", "--repeats", "1", "--json", str(file))
    assert code == 0, output
    found = json.loads(file.read_text())
    contenders = {row["contender"] for row in found["rows"]}
    assert {"fused", "dense 13x13", "dense kernel of the same reach, by FFT", "published algorithm"} <= contenders
    assert found["of_dense"]["dense 13x13"] == pytest.approx(1)

    code, output = run("bench", "--compare", str(file), str(file))
    assert code == 0
    assert "1.00" in output

    code, output = run("bench", "--json", str(file))
    assert code == 2
    assert output == f"sw-ops: --json: {file} exists; want the name of a new file\n"


def test_bench_of_training_measures_steps_beside_a_step_of_dense(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "TINY_STAGES", (bench.Shape(4, 6, 13),))
    file = tmp_path / "a.json"
    code, output = run("bench", "--train", "--batch", "1", "--repeats", "1", "--json", str(file))
    assert code == 0, output
    found = json.loads(file.read_text())["of_dense"]
    assert set(found) == {name + " + backward" for name in ("three maps", "dense 13x13", "depthwise_conv2d 13x13")}
    assert found["dense 13x13 + backward"] == pytest.approx(1)


def test_multiply_adds_counts_taps_inside_the_map() -> None:
    shape = bench.Shape(channels=2, size=5, kernel_size=7, small_kernel=3)  # stripes of 9 taps, the fourth in place
    inside = 0
    for r in range(5):
        for q in range(5):
            inside += sum(0 <= r + a - 1 < 5 and 0 <= q + m - 3 < 5 for a in range(3) for m in range(9))
    assert bench.multiply_adds(shape) == 2 * 2 * inside


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bench", "--dtype", "int8"], "--dtype: got int8, want float32, bfloat16 or float16"),
        (["bench", "--device", "tpu"], "--device: got tpu, want cpu"),
        (["bench", "--compare", "nothing.json", "nothing.json"], "--compare: nothing.json is not a file that"),
    ],
)
def test_bad_options_end_with_one_line(arguments: list[str], message: str) -> None:
    code, output = run(*arguments)
    assert code == 2
    assert message in output
    assert output.count("\n") == 1
