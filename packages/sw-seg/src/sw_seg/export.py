"""Export of a segmenter in deployed form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from sw_models.export import Format, export_model


class NormalisedSegmenter(nn.Module):
    """A segmenter as a function from normalised RGB images ``[B, 3, H, W]`` to scores ``[B, classes, H, W]``."""

    def __init__(self, segmenter: Any) -> None:
        super().__init__()
        self.backbone = segmenter.backbone
        self.decode_head = segmenter.decode_head

    def forward(self, images: Tensor) -> Tensor:
        """Return the scores at the images' own resolution."""
        scores = self.decode_head(self.backbone(images))
        return F.interpolate(scores, images.shape[2:], mode="bilinear", align_corners=False)


def export(segmenter: Any, path: Path, form: Format, size: int) -> float:
    """Write a segmenter to a file and return the largest difference of its output, as a share of the largest.

    Raises:
        InputError: the file's output differs.
    """
    return export_model(NormalisedSegmenter(segmenter), path, form, size, segmenter.dataset_meta["classes"])
