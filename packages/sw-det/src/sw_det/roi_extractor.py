"""Features of regions, in full precision."""

from __future__ import annotations

from collections.abc import Sequence

import sw_models.openmmlab  # noqa: F401 - first of all: it stands in for MMCV's compiled module

# isort: split
import torch
from mmdet.models import SingleRoIExtractor
from mmengine.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class FullPrecisionRoIExtractor(SingleRoIExtractor):
    """MMDetection's ``SingleRoIExtractor``, unimpressed by autocast.

    That one rounds the regions' corners to the maps' type: under bfloat16 to 4 or 8 pixels in a large image. Nor has
    torchvision a RoIAlign for bfloat16.
    """

    def forward(self, feats: Sequence[Tensor], rois: Tensor, roi_scale_factor: float | None = None) -> Tensor:
        """Return ``[N, C, height, width]`` for regions ``[N, 5]``: the image's number, x1, y1, x2, y2."""
        with torch.autocast(rois.device.type, enabled=False):
            return super().forward(tuple(level.float() for level in feats), rois.float(), roi_scale_factor)
