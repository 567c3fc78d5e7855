"""Export of a one-stage detector in deployed form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sw_models.export import SUFFIXES, export_model
from sw_sparse.errors import InputError


class DenseDetector(nn.Module):
    """A detector as a function from normalised RGB images ``[B, 3, size, size]`` to ``[B, N, 4 + classes]``.

    For each of N points: a box's corners x1, y1, x2, y2 in pixels, then a score from 0 to 1 for each class. What
    overlaps is still to be sorted out, by non-maximum suppression.

    Args:
        detector: one of MMDetection's RTMDet family.
        size: height and width of the images, in pixels.
    """

    points: Tensor

    def __init__(self, detector: Any, size: int) -> None:
        super().__init__()
        self.backbone, self.neck, self.head = detector.backbone, detector.neck, detector.bbox_head
        priors = self.head.prior_generator
        sizes = [(-(-size // height), -(-size // width)) for width, height in priors.strides]
        self.register_buffer("points", torch.cat(priors.grid_priors(sizes, device="cpu")))

    def forward(self, images: Tensor) -> Tensor:
        """Return boxes and scores."""
        scores, distances, *_ = self.head(self.neck(self.backbone(images)))
        left_top, right_bottom = _by_point(distances).split(2, dim=-1)
        boxes = torch.cat([self.points - left_top, self.points + right_bottom], dim=-1)
        return torch.cat([boxes, _by_point(scores).sigmoid()], dim=-1)


def export(detector: Any, path: Path, form: str, size: int) -> float:
    """Write a detector to a file and return the largest difference of its output, as a share of the largest.

    Raises:
        InputError: the format is unknown, the detector decides on regions while it runs, or the file's output differs.
    """
    if form not in SUFFIXES:
        raise InputError(f"--format: got {form}, want one of {', '.join(SUFFIXES)}")
    if hasattr(detector, "roi_head"):
        raise InputError(
            f"--run: a {type(detector).__name__} chooses regions while it runs, which no file of these formats does; "
            "want a one-stage detector, such as rtmdet_ins_nano"
        )
    try:
        return export_model(DenseDetector(detector, size), path, form, size)
    except ValueError as error:
        raise InputError(str(error)) from error


def _by_point(maps: tuple[Tensor, ...]) -> Tensor:
    """Return the values of all levels' points, ``[B, N, channels]``."""
    return torch.cat([level.flatten(2).transpose(1, 2) for level in maps], dim=1)
