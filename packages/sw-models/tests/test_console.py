import errno
import json
import signal
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from sw_models.console import print_figures, print_rows, program
from sw_models.errors import InputError, Interrupted


def answer(raised, rank="0"):
    """Run a command that raises; return (exit status, standard output, standard error)."""
    app = program("sw-toy", "Toys.")

    @app.callback()
    def toys():
        """Toys."""

    @app.command("break")
    def break_():
        raise raised

    result = CliRunner(env={"RANK": rank}).invoke(app, ["break"])
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize(
    ("raised", "line"),
    [
        (InputError("size: got -1,\n  want more"), "sw-toy: size: got -1, want more\n"),
        (OSError(errno.ENOSPC, "No space left on device", "a/b"), "sw-toy: a/b: No space left on device\n"),
    ],
)
def test_what_a_user_can_mend_is_one_line_and_exit_code_two(raised, line):
    assert answer(raised) == (2, "", line)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_by_a_signal_says_how_to_go_on_and_keeps_the_signals_status(number):
    assert answer(Interrupted("stopped; go on", number)) == (128 + number, "", "sw-toy: stopped; go on\n")


def test_a_process_that_is_not_the_first_says_which_it_is():
    assert answer(InputError("no"), rank="1") == (2, "", "sw-toy: rank 1: no\n")
    assert answer(Interrupted("stopped", signal.SIGTERM), rank="1") == (143, "", "sw-toy: rank 1: stopped\n")


PROGRAM = """
import torch.distributed as dist
from sw_models.console import program
from sw_models.errors import InputError

app = program("sw-toy", "Toys.")

@app.callback()
def toys():
    dist.barrier()  # so that torchrun ends nobody before it speaks

@app.command()
def refuse(ranks: str):
    if str(dist.get_rank()) in ranks:
        raise InputError(f"lr: {ranks}")
    dist.barrier()

dist.init_process_group("gloo")
try:
    app(["refuse", "01"])
except SystemExit:
    app(["refuse", "1"])
"""


def test_a_refusal_on_any_of_torchruns_processes_is_heard_once(tmp_path):
    (tmp_path / "toy.py").write_text(PROGRAM)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run([*torchrun, tmp_path / "toy.py"], capture_output=True, text=True)
    assert done.returncode != 0
    of_both, of_one = (line for line in done.stderr.splitlines() if line.startswith("sw-toy:"))
    assert of_both in ("sw-toy: lr: 01", "sw-toy: rank 1: lr: 01")
    assert of_one == "sw-toy: rank 1: lr: 1"


def test_faults_of_the_program_keep_their_traceback():
    app = program("sw-toy", "Toys.")
    app.command()(lambda: 1 / 0)
    assert isinstance(CliRunner().invoke(app, []).exception, ZeroDivisionError)


def test_figures_are_a_list_a_grid_or_strict_json(capsys):
    figures = {"top1": 12.5, "AP/[m8]": 0.25, "AP/nut": float("nan"), "recall/nut": 1.0, "density": {"a": 1.0}}
    print_figures(figures, False, "test")
    lines = capsys.readouterr().out.splitlines()
    assert any("top1" in line and "12.500" in line for line in lines)
    assert any("[m8]" in line and "0.250" in line for line in lines)
    assert any("nut" in line and "nan" in line and "1.000" in line for line in lines)
    assert not any("density" in line for line in lines)
    print_figures(figures, True, "test")
    read = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert read == {**figures, "AP/nut": None}


def test_small_numbers_keep_their_digits(capsys):
    print_rows([{"file": "a", "difference": 1.2e-7, "zero": 0.0, "count": 12345}], False, "exported")
    line = capsys.readouterr().out.splitlines()[-2]
    assert [cell.strip() for cell in line.split("│")[1:-1]] == ["a", "1.2e-07", "0.000", "12,345"]
