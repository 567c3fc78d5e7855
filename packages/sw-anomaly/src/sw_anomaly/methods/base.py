"""What all methods have in common: a module that takes a view and gives a score and a map of scores."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms.v2.functional import gaussian_blur

from sw_anomaly.methods.correction import Correction
from sw_anomaly.preprocessing.tiles import weighted
from sw_models.errors import InputError

SMOOTHING = 0.008  # standard deviation of the Gaussian that smooths a map, in widths of the image
SCORED_SHARE = 0.0005  # an image's score is the mean of its highest pixels, so many of a square of `image_size`


@dataclass(frozen=True)
class Inspection:
    """What a detector says about an image.

    Attributes:
        score: How defective it looks.
        map: How defective each place looks, float32 [H, W], none below 0.
    """

    score: float
    map: np.ndarray


Self = TypeVar("Self", bound="Method")


class Method(nn.Module, ABC):
    """What tells defective from good places in the views of one category; its state is what a checkpoint holds.

    Attributes:
        tiles: Whether views may be larger than what the method was made for, and are inspected in tiles.
    """

    tiles = False

    @abstractmethod
    def forward(self, view: Tensor) -> tuple[Tensor, Tensor]:
        """Inspect a view, levels from 0 to 255, float32 [1, 3, h, w]: score, float32 [], and map, float32 [h, w]."""

    @torch.inference_mode()
    def inspect(self, view: np.ndarray) -> Inspection:
        """Inspect a view.

        Args:
            view: Levels from 0 to 255, uint8 or float32 [h, w, 3].

        Returns:
            The score, and a map of the view's size.

        Raises:
            InputError: If the score or a place in the map is not finite, so that no verdict can follow from it.
        """
        device = next((tensor.device for tensor in self.buffers()), None)
        score, heat = self(torch.from_numpy(view).to(device).permute(2, 0, 1)[None].float())
        found = Inspection(float(score), heat.cpu().numpy())
        if not (math.isfinite(found.score) and np.isfinite(found.map).all()):
            raise InputError(f"score: got {found.score} and a map with values that are not finite, want numbers")
        return found

    def state(self) -> dict[str, Tensor]:
        """Return the tensors of a checkpoint, none of which shares memory with another."""
        return {
            name: tensor.detach().clone(memory_format=torch.contiguous_format)
            for name, tensor in self.state_dict().items()
        }

    def exportable(self) -> Method:
        """Return the same method on the CPU, as a module that can be written as a graph."""
        return deepcopy(self).cpu().eval()


class HeatMethod(Method):
    """A method whose score follows from its map, for images scaled to, or in tiles of, ``image_size``.

    Attributes:
        correction: What was learned from wrong verdicts, if anything was.
    """

    image_size: int

    def __init__(self) -> None:
        super().__init__()
        self.correction: Correction | None = None

    @abstractmethod
    def heat(self, view: Tensor) -> Tensor:
        """How defective each place of a view, float32 [1, 3, h, w], looks: [1, 1, h, w], none below 0, not smoothed."""

    @abstractmethod
    def describe(self, view: Tensor) -> Tensor:
        """Describe what places of a view, float32 [1, 3, h, w], look like, for a correction: [1, C, H, W]."""

    def smoothed_heat(self, view: Tensor) -> Tensor:
        """Return the map of a view, float32 [1, 3, h, w]: [1, 1, h, w], none below 0."""
        return smooth_map(self.heat(view), self.image_size)

    def inspect(self, view: np.ndarray) -> Inspection:
        """Inspect a view, in tiles if there are to be any: one tile after the other is in memory."""
        if not self.tiles:
            return super().inspect(view)
        heat = np.zeros(view.shape[:2], dtype=np.float32)
        for place, weights in weighted(view.shape[:2], self.image_size):
            heat[place] += weights * super().inspect(view[place]).map
        highest = [
            part.flatten().topk(min(_count(self.image_size), part.numel())).values
            for part in torch.from_numpy(heat).split(self.image_size)
        ]  # at once they would take four times the memory of the map
        return Inspection(float(score(torch.cat(highest), self.image_size)), heat)

    def forward(self, view: Tensor) -> tuple[Tensor, Tensor]:
        """Inspect a view: the map is the smoothed heat, corrected, the score the mean of its highest values."""
        heat = self.smoothed_heat(view)
        if self.correction is not None:
            factor = self.correction(self.describe(view))
            heat = heat * F.interpolate(factor, view.shape[2:], mode="bilinear", align_corners=False)
        heat = heat[0, 0]
        return score(heat, self.image_size), heat


class MemoryMethod(HeatMethod):
    """A method that compares with what it remembers of good views, and can leave one of these out.

    Attributes:
        squares: The squared norm of each remembered patch, [..., N] or more, of which the rest is infinite.
        origins: The number of the view that each patch is of, [N], among those that the method was fitted to; after the
            method was read from a file nothing is known of that, and it is empty.
    """

    squares: Tensor
    origins: Tensor

    @abstractmethod
    def forget(self, views: Sequence[int]) -> None:
        """Forget what is remembered of views of these numbers; of the others something is left."""

    @contextmanager
    def leaving_out(self, view: int | None) -> Iterator[None]:
        """Judge as if this view had not been remembered, unless it is the only one; None leaves out nothing."""
        squares = self.squares
        if view is not None and (self.origins != view).any():
            self.squares = squares.clone()
            self.squares[..., : len(self.origins)].masked_fill_(self.origins == view, math.inf)
        try:
            yield
        finally:
            self.squares = squares


def default_device() -> torch.device:
    """Return the GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def smooth_map(maps: Tensor, image_size: int) -> Tensor:
    """Smooth maps [B, 1, h, w] by a Gaussian, of a width that is relative to the image's."""
    sigma = SMOOTHING * image_size
    size = 2 * math.ceil(3 * sigma) + 1
    across = gaussian_blur(maps, [size, 1], [sigma, sigma])  # in one call it would be a convolution of size x size
    return gaussian_blur(across, [1, size], [sigma, sigma])


def score(heat: Tensor, image_size: int) -> Tensor:
    """Return the mean of the highest values in the heat, float32 [h, w], of a view."""
    return heat.flatten().topk(min(_count(image_size), heat.numel())).values.mean()


def _count(image_size: int) -> int:
    return max(round(SCORED_SHARE * image_size**2), 1)
