"""Nothing goes over the network that nobody asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

GUARD = """
import socket

def refuse(self, address, *rest):
    if self.family in (socket.AF_INET, socket.AF_INET6):
        raise RuntimeError(f"a connection to {address}")

socket.socket.connect = socket.socket.connect_ex = refuse
"""
COMMANDS = [
    "sw-ops doctor",
    "sw-models info shiftwise_pico",
    "sw-models flops shiftwise_pico --size 32",
    "sw-det flops mask_rcnn_nano --size 64 64",
    "sw-seg flops upernet_nano --size 64 64",
    "sw-sparse train --epochs 1 --warmup-epochs 0 --batch-size 512",
    "sw-anomaly sample drawn",
]


@pytest.fixture
def cut_off(tmp_path: Path) -> dict[str, str]:
    """An environment in which every Python refuses to connect."""
    (tmp_path / "sitecustomize.py").write_text(GUARD)
    return {**os.environ, "PYTHONPATH": str(tmp_path)}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_connect_to_nothing(command: str, cut_off: dict[str, str], tmp_path: Path) -> None:
    program = str(Path(sys.executable).with_name(command.split()[0]))
    run = subprocess.run([program, *command.split()[1:]], cwd=tmp_path, env=cut_off, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]


def test_the_guard_refuses(cut_off: dict[str, str]) -> None:
    program = "import socket; socket.create_connection(('127.0.0.1', 9), timeout=1)"
    run = subprocess.run([sys.executable, "-c", program], env=cut_off, capture_output=True, text=True)
    assert "RuntimeError: a connection to" in run.stderr
