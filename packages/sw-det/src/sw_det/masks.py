"""COCO's compressed form of masks."""

from __future__ import annotations

from typing import Any

import numpy as np
from pycocotools import mask as rle


def run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """Return a mask ``[height, width]``, in which not 0 is inside, as ``size`` and ``counts`` that JSON can hold."""
    encoded = rle.encode(np.asfortranarray(mask != 0, dtype=np.uint8))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}
