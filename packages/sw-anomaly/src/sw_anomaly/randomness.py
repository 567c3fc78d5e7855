"""Independent random numbers for each purpose, all from one seed and without any global state."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What random numbers are drawn for; the values are part of what a seed means."""

    SPLIT = 0
    DEFECTS = 1
    AUGMENTATION = 2
    VALIDATION = 3
    BANK = 4
    CORE_SET = 5
    TILES = 6


def generator(seed: int, purpose: Purpose, number: int = 0) -> np.random.Generator:
    """Return the generator of the ``number``-th draw for a purpose, the same whatever was drawn before."""
    return np.random.default_rng([seed, purpose, number])
