"""Times programs in turns, so that a machine whose speed drifts changes the figures but not the ratios."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, TypeAlias, TypeVar

import torch

Run: TypeAlias = Callable[[], object]
Key = TypeVar("Key", bound=Hashable)

_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


def take_turns(
    contenders: Mapping[Key, partial[Run]], turns: int, *, turn_seconds: float = 0.1, alone: bool = True
) -> Iterator[tuple[int, dict[Key, list[float]]]]:
    """Time every contender in turns, after a first turn to warm up.

    Alone, each has a process of its own, as programs have. In a common one it would depend on the others what memory a
    contender finds free; one that works in much memory may have to fetch it from the system in every call.

    Args:
        contenders: what to time, by name. Each is made where it runs, by calling the partial; with ``alone`` that is
            pickled, so its function must be a module's own.
        turns: of each.
        turn_seconds: a turn is as many calls as fit into this time, at least two, of which the second half counts.
        alone: whether each has a process of its own.

    Yields:
        After each turn, how many have been taken, those to warm up included, and seconds per call by name and turn.

    Raises:
        ChildProcessError: if a contender with a process of its own fails, or that process ends.
    """
    with ExitStack() as stack:
        timers = {
            key: stack.enter_context(closing(_Process(make) if alone else _Here(make)))
            for key, make in contenders.items()
        }
        for timer in timers.values():
            timer.wait()
        calls: dict[Key, int] = {}
        seconds: dict[Key, list[float]] = {key: [] for key in timers}
        done = 0
        for turn in range(turns + 1):
            for key, timer in timers.items():
                if turn:
                    seconds[key].append(timer.seconds(calls[key]))
                else:
                    timer.seconds(1)
                    calls[key] = max(2, int(turn_seconds / timer.seconds(2)))
                done += 1
                yield done, seconds


def seconds_per_call(run: Run, calls: int) -> float:
    """Return the mean time of the second half of so many calls, or of the only one."""
    for _ in range(calls // 2):  # while caches fill, clocks rise and the system finds a core for every thread
        run()
    _synchronise()
    counted = calls - calls // 2
    start = time.perf_counter()
    for _ in range(counted):
        run()
    _synchronise()
    return (time.perf_counter() - start) / counted


def _synchronise() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


class _Here:
    """A contender in this process."""

    def __init__(self, make: partial[Run]) -> None:
        self._run = make()

    def wait(self) -> None:
        pass

    def seconds(self, calls: int) -> float:
        return seconds_per_call(self._run, calls)

    def close(self) -> None:
        pass


class _Process:
    """A contender in a process of its own; it times so many calls whenever it is sent a number."""

    def __init__(self, make: partial[Run]) -> None:
        context: Any = multiprocessing.get_context(_METHOD)
        if _METHOD == "forkserver":
            context.set_forkserver_preload([__name__, make.func.__module__])  # imported once for all
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make, torch.get_num_threads()), daemon=True)
        self._process.start()
        theirs.close()

    def wait(self) -> None:
        self._receive()

    def seconds(self, calls: int) -> float:
        with suppress(BrokenPipeError):  # then there is no answer either
            self._pipe.send(calls)
        return self._receive()

    def _receive(self) -> float:
        try:
            answer = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            raise ChildProcessError(f"a contender's process ended with code {self._process.exitcode}") from None
        if isinstance(answer, str):
            raise ChildProcessError(answer)
        return answer

    def close(self) -> None:
        self._pipe.close()  # after which it ends by itself, unless it is busy
        self._process.join(1)
        self._process.terminate()
        self._process.join()


def _serve(pipe: Connection, make: partial[Run], threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that asks also ends this one
    torch.set_num_threads(threads)
    try:
        run = make()
        pipe.send(0.0)
        while True:
            pipe.send(seconds_per_call(run, pipe.recv()))
    except (EOFError, BrokenPipeError):  # it is gone
        return
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}")
