"""``tools/gpu_check.py`` on a CPU: all of its parts run, and none takes the others with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

TOOLS = Path(__file__).parents[1] / "tools"


def refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def check(file: Path, *options: str) -> tuple[int, dict[str, Any]]:
    command = [sys.executable, str(TOOLS / "gpu_check.py"), "--device", "cpu", "--installed", "--json", str(file)]
    run = subprocess.run([*command, *options], capture_output=True, text=True)
    assert file.exists(), run.stderr
    return run.returncode, json.loads(file.read_text(), parse_constant=refuse)["parts"]


def test_parts_pass_on_the_cpu(tmp_path: Path) -> None:
    wanted = ["probe", "correctness", "operators", "behavior"]
    code, parts = check(tmp_path / "gpu.json", *(word for part in wanted for word in ("--only", part)))
    assert {name: part["passed"] for name, part in parts.items()} == dict.fromkeys(wanted, True)
    assert code == 0


@pytest.mark.slow
def test_every_part_passes_on_the_cpu(tmp_path: Path) -> None:
    code, parts = check(tmp_path / "gpu.json")
    assert list(parts) == ["probe", "correctness", "operators", "model", "tests", "sanitizer", "behavior"]
    assert [name for name, part in parts.items() if not part["passed"]] == []
    assert code == 0
    assert {row["operator"] for row in parts["operators"]["rows"]} >= {"forward", "fused", "input gradient"}
    assert parts["behavior"].keys() >= {"graph", "side_stream", "two_threads", "repeatability", "misaligned", "huge"}


def test_without_time_every_part_says_so(tmp_path: Path) -> None:
    code, parts = check(tmp_path / "gpu.json", "--minutes", "0")
    assert code == 1
    assert len(parts) == 7
    assert {part["error"] for part in parts.values()} == {"out of time"}


@pytest.fixture
def run_part(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(TOOLS))
    import gpu_check
    from gpu_parts import Device

    def run(part: Any, seconds: float = 60) -> dict[str, Any]:
        *_, last = gpu_check.run_part(part, Device("cpu", 1), time.monotonic() + seconds)
        return last

    return run


def test_what_a_part_knew_is_kept_when_it_fails_crashes_or_takes_too_long(run_part: Any) -> None:
    def fails(device: Any) -> Iterator[dict[str, Any]]:
        yield {"known": 1}
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    def crashes(device: Any) -> Iterator[dict[str, Any]]:
        yield {"known": 1}
        os.abort()

    def lasts(device: Any) -> Iterator[dict[str, Any]]:
        yield {"known": 1}
        time.sleep(600)

    failed = run_part(fails)
    assert (failed["known"], failed["passed"]) == (1, False)
    assert failed["error"] == "RuntimeError: CUDA error: an illegal memory access was encountered"
    assert run_part(crashes) == {"known": 1, "passed": False, "error": "its process ended with code -6"}
    assert run_part(lasts, 2) == {"known": 1, "passed": False, "error": "out of time"}


def test_a_wrong_kernel_does_not_pass(run_part: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import gpu_parts

    from sw_ops import stripe

    right = stripe.stripe_conv2d_fused
    monkeypatch.setattr(stripe, "stripe_conv2d_fused", lambda *arguments: right(*arguments) * 1.01)
    found = run_part(gpu_parts.cases)
    assert not found["passed"]
    assert any("fused map" in line for line in found["wrong"])
