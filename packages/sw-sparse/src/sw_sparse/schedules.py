"""Schedules: a value that goes from ``start`` to ``end`` while ``progress`` goes from 0 to 1."""

from __future__ import annotations

import math
from collections.abc import Callable

Schedule = Callable[[float, float, float], float]


def constant(start: float, end: float, progress: float) -> float:
    """Stay at ``start``."""
    return start


def cosine(start: float, end: float, progress: float) -> float:
    """Half a cosine wave, as in RigL (section 3). Past 1 it rises again, as the published schedule does."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def cubic(start: float, end: float, progress: float) -> float:
    """Fast first, then slow (Zhu and Gupta 2017, equation 1)."""
    return end + (start - end) * (1 - progress) ** 3


SCHEDULES: dict[str, Schedule] = {"constant": constant, "cosine": cosine, "cubic": cubic}
