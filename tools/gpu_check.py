"""Everything a GPU is needed for, in one call: does it run, is it right, how fast is it.

    python tools/gpu_check.py --json gpu.json --minutes 25

Installs sw-ops from this checkout into a temporary folder with what is already on the machine (a CUDA compiler, torch,
pybind11, scikit-build-core), so it needs no network; ``--installed`` takes the sw-ops that is there. Then the parts run
one after another, each in a process of its own, so that neither an error nor a crash nor the end of the time takes the
others with it. The JSON file is written anew whenever something is known. Ends with 0 if every part passed.

``--device cpu`` runs all parts at small sizes on the CPU kernels, with stand-ins for streams, graphs and the sanitizer:
that shows that this program works, nothing else.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from gpu_parts import PARTS, ROOT, Device, Found, cases


def main() -> int:
    """Run every part; return 0 if all passed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=None, help="write everything that is found to this file")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--batch", type=int, default=128, help="images per call in the measurements")
    parser.add_argument("--minutes", type=float, default=25, help="no part goes on for longer than this is over")
    parser.add_argument("--installed", action="store_true", help="take the sw-ops that is installed; build nothing")
    names = [part.__name__ for part in (*PARTS, cases)]
    parser.add_argument("--only", choices=names, action="append", help="run this part; may be repeated")
    arguments = parser.parse_args()
    wanted = arguments.only or [part.__name__ for part in PARTS]
    deadline = time.monotonic() + 60 * arguments.minutes
    device = Device(arguments.device, arguments.batch)
    found: dict[str, Any] = {"torch": torch.__version__, "device": device.name, "batch": device.batch, "parts": {}}
    with tempfile.TemporaryDirectory() as folder:
        if not arguments.installed:
            found["build"] = build(Path(folder))
            print("build", _short(found["build"]), flush=True)
        for part in (*PARTS, cases):
            if part.__name__ not in wanted:
                continue
            for known in run_part(part, device, deadline):
                found["parts"][part.__name__] = known
                _write(arguments.json, found)
            print(part.__name__, _short(found["parts"][part.__name__]), flush=True)
    failed = [name for name, known in found["parts"].items() if not known["passed"]]
    print("not passed: " + ", ".join(failed) if failed else "all parts passed")
    return 1 if failed else 0


def build(folder: Path) -> dict[str, Any]:
    """Install sw-ops with its CUDA kernels into ``folder``, and have it imported from there."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index"]
    options = ["-C", "cmake.define.SW_CUDA=ON", "--target", str(folder), str(ROOT / "packages/sw-ops")]
    run = subprocess.run([*command, *options], capture_output=True, text=True)
    sys.path.insert(0, str(folder))
    tail = [] if run.returncode == 0 else (run.stdout + run.stderr).strip().splitlines()[-25:]
    return {"seconds": time.perf_counter() - start, "passed": run.returncode == 0, "tail": tail}


def run_part(part: Callable[[Device], Found], device: Device, deadline: float) -> Found:
    """Yield what a part finds, in a process of its own; at last with the key "passed", whatever happens to it."""
    context = multiprocessing.get_context("fork")  # nothing of CUDA has been touched here, and torch is loaded
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(part, device, theirs))
    process.start()
    theirs.close()
    known: dict[str, Any] = {}
    error = "out of time"
    while ours.poll(max(0.0, deadline - time.monotonic())):
        try:
            known = ours.recv()
        except EOFError:
            process.join()
            error = f"its process ended with code {process.exitcode}"
            break
        yield known if "passed" in known else known | {"passed": False, "error": "not finished"}
        if "passed" in known:
            break
    if process.is_alive() and "passed" not in known:
        process.kill()
    process.join()
    if "passed" not in known:
        yield known | {"passed": False, "error": error}


def _serve(part: Callable[[Device], Found], device: Device, pipe: Any) -> None:
    known: dict[str, Any] = {}
    try:
        for known in part(device):
            pipe.send(known)
    except BaseException as problem:
        lines = traceback.format_exc().splitlines()
        pipe.send(known | {"passed": False, "error": f"{type(problem).__name__}: {problem}", "traceback": lines})


def _write(path: Path | None, found: dict[str, Any]) -> None:
    """Replace the file as a whole; numbers that JSON does not have become strings."""
    if path is None:
        return
    temporary = path.with_name(path.name + ".part")
    with temporary.open("w") as file:
        json.dump(_finite(found), file, indent=2, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _short(known: dict[str, Any]) -> str:
    """Say in some lines what a part found."""
    head = "passed" if known["passed"] else f"NOT PASSED {known.get('error', '')}"
    details = [
        *known.get("rows", []),
        *known.get("wrong", [])[:20],
        *([] if known["passed"] else known.get("tail", [])),
    ]
    return "\n  ".join([head, *(json.dumps(_finite(each)) for each in details)])


if __name__ == "__main__":
    sys.exit(main())
