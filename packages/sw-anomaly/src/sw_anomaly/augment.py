"""Random changes of training images that leave a good part good; what belongs to an image moves with it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def augment(
    images: Tensor, references: Tensor, masks: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Turn, mirror, scale and shift each image, its reference and its mask alike; change the light of the image.

    The reference comes to lie a little beside the image, as parts do that were not put down exactly.
    `images` [B, 3, H, W] and `references` [B, 3, H, W] are in [0, 1], `masks` [B, 1, H, W] are 0 or 1.
    """

    def uniform(reach: float) -> Tensor:
        return torch.empty(len(images), 1).uniform_(-reach, reach, generator=generator)

    some = (uniform(1) > 0).float()  # half of the images only turn by 90 degrees and mirror, which keeps their pixels
    turn = torch.randint(4, (len(images), 1), generator=generator) * torch.pi / 2
    mirror = uniform(1).sign()
    pose = torch.cat([some * uniform(0.15), some * uniform(0.06), some * uniform(0.06), some * uniform(0.06)], dim=1)
    beside = pose + torch.cat([uniform(0.03), uniform(0.02), uniform(0.05), uniform(0.05)], dim=1)
    moved = _move(torch.cat([images, masks], dim=1), turn, mirror, pose)
    references = _move(references, turn, mirror, beside)
    return _relight(moved[:, :-1], generator), references, (moved[:, -1:] > 0.5).to(masks.dtype)


def _move(images: Tensor, turn: Tensor, mirror: Tensor, pose: Tensor) -> Tensor:
    """Turn and mirror images [B, C, H, W] about their centre; `pose` [B, 4] adds an angle, a zoom and a shift."""
    angle, zoom, shift_x, shift_y = pose.split(1, dim=1)
    cos, sin = torch.cos(turn + angle) / (1 + zoom), torch.sin(turn + angle) / (1 + zoom)
    rows = torch.stack([torch.cat([cos, -sin * mirror, shift_x], 1), torch.cat([sin, cos * mirror, shift_y], 1)], 1)
    grid = F.affine_grid(rows.to(images.device), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _relight(images: Tensor, generator: torch.Generator) -> Tensor:
    def normal(*shape: int, deviation: float) -> Tensor:
        return (torch.randn(len(images), *shape, generator=generator) * deviation).to(images.device)

    gain = 1 + normal(1, 1, 1, deviation=0.04) + normal(3, 1, 1, deviation=0.01)
    noise = normal(*images.shape[1:], deviation=1) * normal(1, 1, 1, deviation=0.008).abs()
    return (images * gain + normal(1, 1, 1, deviation=0.02) + noise).clamp(0, 1)
