"""Random changes of training images that leave a good part good; what belongs to an image moves with it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Reach of the random angle (radians), zoom and shifts (in half widths) of an image, and of a reference beside it.
FREE, FREE_BESIDE = (0.15, 0.06, 0.06, 0.06), (0.03, 0.02, 0.05, 0.05)
ALIGNED, ALIGNED_BESIDE = (0.03, 0.02, 0.03, 0.03), (0.01, 0.01, 0.02, 0.01)


def augment(
    images: Tensor, references: Tensor, masks: Tensor, generator: torch.Generator, aligned: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Turn, mirror, scale and shift each image, its reference and its mask alike; change the light of the image.

    The reference comes to lie a little beside the image, as parts do that were not put down exactly. Parts that were
    ``aligned`` keep their pose but for small errors.

    Args:
        images: float32 [B, 3, H, W] in [0, 1]; square unless aligned.
        references: Of each image, float32 [B, 3, H, W] in [0, 1].
        masks: Of each image, float32 [B, 1, H, W], 0 or 1.
        generator: Draws the changes.
        aligned: Whether the parts are in one pose.

    Returns:
        Images, references and masks, of the same shapes.
    """

    def uniform(reach: tuple[float, ...]) -> Tensor:
        return (2 * torch.rand(len(images), len(reach), generator=generator) - 1) * torch.tensor(reach)

    reach, reach_beside = (ALIGNED, ALIGNED_BESIDE) if aligned else (FREE, FREE_BESIDE)
    some = torch.randint(2, (len(images), 1), generator=generator)  # the others keep their pixels
    if aligned:
        turn, mirror = torch.zeros(len(images), 1), torch.ones(len(images), 1)
    else:
        turn = torch.randint(4, (len(images), 1), generator=generator) * torch.pi / 2
        mirror = 1 - 2 * torch.randint(2, (len(images), 1), generator=generator)
    pose = some * uniform(reach)
    moved = _move(torch.cat([images, masks], dim=1), turn, mirror, pose)
    references = _move(references, turn, mirror, pose + uniform(reach_beside))
    return _relight(moved[:, :-1], generator), references, (moved[:, -1:] > 0.5).to(masks.dtype)


def _move(images: Tensor, turn: Tensor, mirror: Tensor, pose: Tensor) -> Tensor:
    """Turn and mirror images [B, C, H, W] about their centre; ``pose`` [B, 4] adds an angle, a zoom and a shift."""
    angle, zoom, shift_x, shift_y = pose.split(1, dim=1)
    cos, sin = torch.cos(turn + angle) / (1 + zoom), torch.sin(turn + angle) / (1 + zoom)
    aspect = images.shape[2] / images.shape[3]  # x and y are in halves of the width and of the height
    x = torch.cat([cos, -sin * mirror * aspect, shift_x], 1)
    y = torch.cat([sin / aspect, cos * mirror, shift_y], 1)
    grid = F.affine_grid(torch.stack([x, y], 1).to(images.device), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _relight(images: Tensor, generator: torch.Generator) -> Tensor:
    def normal(*shape: int, deviation: float) -> Tensor:
        return (torch.randn(len(images), *shape, generator=generator) * deviation).to(images.device)

    gain = 1 + normal(1, 1, 1, deviation=0.04) + normal(3, 1, 1, deviation=0.01)
    noise = normal(*images.shape[1:], deviation=1) * normal(1, 1, 1, deviation=0.008).abs()
    return (images * gain + normal(1, 1, 1, deviation=0.02) + noise).clamp(0, 1)
