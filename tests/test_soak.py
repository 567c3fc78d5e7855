"""Memory that grows is told from memory that goes up and down."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))
from soak import commands, grows, watch

MIB = 2**20


def test_a_leak_is_growth_and_a_start_is_not() -> None:
    level = [500 * MIB + (number % 7) * MIB for number in range(400)]
    assert not grows(level)
    assert not grows([number * 20 * MIB for number in range(25)] + level)  # imports, the first steps
    assert grows([reading + number * MIB for number, reading in enumerate(level)])


def test_too_few_readings_are_refused() -> None:
    with pytest.raises(ValueError, match="got 9, want 10"):
        grows([1.0] * 9)


def test_memory_of_a_process_and_its_children_is_read(tmp_path: Path) -> None:
    program = "x = bytearray(200_000_000); import time; time.sleep(2)"
    command = ["python", "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {program!r}])"]
    assert max(watch(command, tmp_path / "log.txt")) > 200_000_000


def test_a_training_that_fails_ends_the_soak(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="exit 3"):
        watch(["python", "-c", "raise SystemExit(3)"], tmp_path / "log.txt")


@pytest.mark.slow
def test_every_command_trains(tmp_path: Path) -> None:
    for command in commands(2, tmp_path).values():
        assert watch(command, tmp_path / "log.txt")
