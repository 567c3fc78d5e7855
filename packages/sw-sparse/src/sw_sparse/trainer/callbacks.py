"""What a run tells while it goes on."""

from __future__ import annotations

from typing import Any


class Watcher:
    """Hears of a run's progress and ignores it; the command line's draws it."""

    def note(self, text: str) -> None:
        """Hear of an event worth a line."""

    def start_epoch(self, epoch: int, epochs: int, images: int) -> None:
        """Hear that an epoch of so many images begins."""

    def advance(self, images: int, loss: float) -> None:
        """Hear of progress within it."""

    def end_epoch(self, record: dict[str, Any]) -> None:
        """Hear of its figures."""
