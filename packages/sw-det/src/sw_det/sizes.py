"""How large images have to be for their objects to be seen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

SMALL_SHARE = 0.25  # of the objects may be smaller than what the model sees well
LARGEST = 640  # pixels of the shorter side: beyond that, tiles are the better way
STEP = 32


def suited_size(content: Mapping[str, Any], least_object: int, own: int) -> int | None:
    """Return how long the shorter side of images should be, for three quarters of the objects to be large enough.

    It is never less than the configuration's own, nor more than 640 pixels or than the images have.

    Args:
        content: of a COCO file, without what cannot be used.
        least_object: the side of an object, in pixels, that the model sees well.
        own: the shorter side in the configuration, in pixels.

    Returns:
        Pixels, a multiple of 32; None where the configuration's own size will do.
    """
    shorter = {image["id"]: min(image["width"], image["height"]) for image in content["images"]}
    objects = [one for one in content["annotations"] if not one["iscrowd"]]
    if not objects:
        return None
    shares = [math.sqrt(one["bbox"][2] * one["bbox"][3]) / shorter[one["image_id"]] for one in objects]
    wanted = least_object / np.quantile(shares, SMALL_SHARE)
    most = min(LARGEST, float(np.median(list(shorter.values()))))
    size = math.ceil(min(wanted, most) / STEP) * STEP
    return size if size > own else None
