"""How long work tells what it is doing, without knowing who listens."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called after each step of a piece of work: what it is, steps done, steps in all, and a remark."""

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        """Take note of a step."""


def silent(what: str, done: int, total: int, note: str = "") -> None:
    """Return a ``Progress`` that nobody watches."""
