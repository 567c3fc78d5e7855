"""Processes that start in a moment: copies of one that has imported the libraries, and nothing of ours."""

from __future__ import annotations

import multiprocessing
import os
import shlex
import sys
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["torch._dynamo", "torchvision", "timm", "typer", "rich.progress", "matplotlib.pyplot"])


def run(program: str, folder: Path) -> tuple[int | None, str]:
    """Run a program in Python in a folder; return its exit status, and what it printed."""
    process = CONTEXT.Process(target=_start, args=(program, folder))
    process.start()
    process.join()
    return process.exitcode, (folder / "printed.txt").read_text()


def command(line: str) -> str:
    """Return the program that a command of ours is."""
    return f"""
import sys
from importlib.metadata import entry_points

sys.argv = {shlex.split(line)!r}
(entry,) = entry_points(group="console_scripts", name=sys.argv[0])
entry.load()()
"""


def _start(program: str, folder: Path) -> None:
    os.chdir(folder)
    with Path("printed.txt").open("w") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    exec(compile(program, "program", "exec"), {"__name__": "__main__"})
