"""SIGTERM, as schedulers send it: a training stops after its iteration instead of in it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """Whether SIGTERM has come.

    Attributes:
        received: set by the signal's handler.
    """

    def __init__(self) -> None:
        self.received = False

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Note SIGTERM instead of dying from it."""

        def note(number: int, frame: FrameType | None) -> None:
            self.received = True

        if threading.current_thread() is not threading.main_thread():  # which alone may handle signals
            yield
            return
        before = signal.signal(signal.SIGTERM, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)


def start_worker(prepare: Callable[[int], object] | None, number: int) -> None:
    """Let a process that loads data outlive SIGTERM, which schedulers send to all processes of a program at once.

    SIGTERM of the training process ends it.

    Args:
        prepare: what else is to be done in it.
        number: of the worker.
    """
    if hasattr(signal, "sigwaitinfo"):  # not on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_with_parent, daemon=True).start()
    if prepare is not None:
        prepare(number)


def _end_with_parent() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
