"""How large images have to be for their objects to be seen."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sw_sparse.openmmlab.data_report import say
from sw_sparse.openmmlab.schedule import shorter_side

if TYPE_CHECKING:
    from mmengine.config import Config

SMALL_SHARE = 0.25  # of the objects may be narrower than the configuration's ``least_object``
LARGEST = 640  # pixels of the shorter side: beyond that, tiles are the better way
STEP = 32


def suited_size(cfg: Config) -> int | None:
    """Return how long the shorter side of images should be, for three quarters of the objects to be large enough.

    It is never less than the configuration's own, nor more than 640 pixels or than the images have.

    Args:
        cfg: a configuration that reads the data. Its ``least_object`` is the side of an object, in pixels, that the
            model sees well; without it, as in published recipes, sizes stay what they are.

    Returns:
        Pixels, a multiple of 32; None where the configuration's own size will do.
    """
    own = shorter_side(cfg)
    if own is None or "least_object" not in cfg:
        return None
    content = json.loads(Path(cfg.train_dataloader.dataset.ann_file).read_text())
    shorter = {image["id"]: min(image["width"], image["height"]) for image in content["images"]}
    objects = [one for one in content["annotations"] if not one.get("iscrowd") and one["image_id"] in shorter]
    shares = [math.sqrt(one["bbox"][2] * one["bbox"][3]) / shorter[one["image_id"]] for one in objects]
    shares = [share for share in shares if share > 0]
    if not shares:
        return None
    wanted = cfg.least_object / np.quantile(shares, SMALL_SHARE)
    most = min(LARGEST, float(np.median(list(shorter.values()))))
    size = math.ceil(min(wanted, most) / STEP) * STEP
    if size <= own:
        return None
    small = np.mean(np.array(shares) * own < cfg.least_object)
    say(f"{small:.0%} of the objects have less than {cfg.least_object} pixels in images of {own}: training with {size}")
    return size
