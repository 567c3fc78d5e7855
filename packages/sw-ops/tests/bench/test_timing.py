from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sw_ops.bench import timing as turns
from sw_ops.bench.timing import seconds_per_call, take_turns


def contender(run: Any, *arguments: Any) -> partial[Any]:
    """Made anywhere, since every process has the functions of the standard library."""
    return partial(partial, run, *arguments)


@pytest.mark.parametrize("alone", [True, False])
def test_contenders_take_turns_alone_or_in_one_process(tmp_path: Path, alone: bool) -> None:
    log = tmp_path / "log"
    contenders = {name: contender(os.system, f"echo {name} $PPID >> {log}") for name in "ab"}
    *_, (done, seconds) = take_turns(contenders, turns=3, turn_seconds=0, alone=alone)
    assert done == 2 * 4
    assert {name: len(taken) for name, taken in seconds.items()} == {"a": 3, "b": 3}
    assert all(taken > 0 for name in "ab" for taken in seconds[name])

    calls = [line.split() for line in log.read_text().splitlines()]
    assert [name for name, _ in calls] == [*"aaabbb"] + [*"aabb"] * 3  # two calls a turn, one more when it is the first
    processes = {name: {process for who, process in calls if who == name} for name in "ab"}
    assert all(len(each) == 1 for each in processes.values())
    assert len({str(os.getpid())}.union(*processes.values())) == (3 if alone else 1)


class Clock:
    """Time that only passes while `run` runs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.calls = 0
        monkeypatch.setattr(turns, "time", SimpleNamespace(perf_counter=lambda: self.now))

    def run(self, seconds: Callable[[int], float]) -> None:
        self.now += seconds(self.calls)
        self.calls += 1


def test_a_turn_is_as_many_calls_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    contenders = {"a": contender(clock.run, lambda call: 0.03)}
    *_, (_, seconds) = take_turns(contenders, turns=1, turn_seconds=0.2, alone=False)
    assert clock.calls == 1 + 2 + 6
    assert seconds["a"] == pytest.approx([0.03])


def test_processes_have_as_many_threads_as_this_one() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        check = f"assert __import__('torch').get_num_threads() == {before + 1}"
        list(take_turns({"a": contender(exec, check)}, turns=1, turn_seconds=0))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("failing", "message"),
    [
        (contender(int, "seven"), "ValueError: invalid literal for int.*seven"),
        (contender(os._exit, 3), "process ended with code 3"),
    ],
)
def test_a_contender_that_fails_is_reported(failing: partial[Any], message: str) -> None:
    with pytest.raises(ChildProcessError, match=message):
        list(take_turns({"good": contender(int, "7"), "bad": failing}, turns=1, turn_seconds=0))


@pytest.mark.parametrize("calls", [1, 2, 5])
def test_the_second_half_of_the_calls_counts(monkeypatch: pytest.MonkeyPatch, calls: int) -> None:
    clock = Clock(monkeypatch)
    slow = partial(clock.run, lambda call: 50 if call < calls // 2 else 1)
    assert seconds_per_call(slow, calls) == pytest.approx(1)
    assert clock.calls == calls
