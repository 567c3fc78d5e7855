"""Nothing goes over the network that nobody asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
import warm

# For this process and for every Python that it starts.
GUARD = """
import os, pathlib, socket

def refuse(self, address, *rest):
    if self.family in (socket.AF_INET, socket.AF_INET6):
        raise RuntimeError(f"a connection to {address}")

socket.socket.connect = socket.socket.connect_ex = refuse
"""
GUARD += f"pathlib.Path('sitecustomize.py').write_text({GUARD!r}); os.environ['PYTHONPATH'] = os.getcwd()\n"
COMMANDS = [
    "sw-ops doctor",
    "sw-models info shiftwise_pico",
    "sw-models flops shiftwise_pico --size 32",
    "sw-det flops mask_rcnn_nano --size 64 64",
    "sw-seg flops upernet_nano --size 64 64",
    "sw-sparse train --epochs 1 --warmup-epochs 0 --model-args '{dims: [8, 8, 8, 8], depths: [1, 1, 1, 1]}'",
    "sw-anomaly sample drawn",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_connect_to_nothing(command: str, tmp_path: Path) -> None:
    status, printed = warm.run(GUARD + warm.command(command), tmp_path)
    assert status == 0, printed[-2000:]


@pytest.mark.parametrize(
    "other", ["", "import subprocess, sys; subprocess.run([sys.executable, '-c', program]); raise SystemExit"]
)
def test_the_guard_refuses(other: str, tmp_path: Path) -> None:
    program = "import socket; socket.create_connection(('127.0.0.1', 9), timeout=1)"
    _, printed = warm.run(f"{GUARD}\nprogram = {program!r}\n{other}\nexec(program)", tmp_path)
    assert "RuntimeError: a connection to" in printed
