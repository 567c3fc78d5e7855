"""Stopping where a run can go on: signals, and checkpoints every so many minutes."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interruption:
    """Notes a first SIGTERM or SIGINT; a second one acts as if this were not here.

    Args:
        minutes: time between checkpoints; 0 for none.
    """

    def __init__(self, minutes: float) -> None:
        self._seconds = minutes * 60
        self._due = time.monotonic() + self._seconds
        self._noted = 0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():  # others may not set handlers
            self._previous = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._noted = number
        self.__exit__()

    def agree(self, accelerator: Accelerator) -> tuple[bool, int]:
        """Return whether a checkpoint is due, and the signal to stop at or 0: the same on every process."""
        timed = self._seconds > 0 and accelerator.is_main_process and time.monotonic() >= self._due
        wishes = [float(timed), *(float(self._noted == number) for number in SIGNALS)]
        if accelerator.num_processes > 1:
            wishes = accelerator.reduce(torch.tensor(wishes, device=accelerator.device), "sum").tolist()
        due, *noted = (wish > 0 for wish in wishes)
        if due:
            self._due = time.monotonic() + self._seconds
        return due, next((number for number, wanted in zip(SIGNALS, noted, strict=True) if wanted), 0)
