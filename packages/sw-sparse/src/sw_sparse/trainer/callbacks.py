"""What a run tells while it goes on."""

from __future__ import annotations

from typing import Any


class Callback:
    """Is told of a run's progress and ignores it; the command line's draws it."""

    def note(self, text: str) -> None:
        """Take a line on something worth one."""

    def start_epoch(self, epoch: int, epochs: int, images: int, done: int = 0) -> None:
        """Take the beginning of an epoch of so many images, of which some may be done."""

    def advance(self, images: int, loss: float) -> None:
        """Take progress within it."""

    def end_epoch(self, record: dict[str, Any]) -> None:
        """Take its figures."""
