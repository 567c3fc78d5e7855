"""The method ``bank``: nothing is trained; a patch is as defective as it differs from all good ones near its place.

Patches are compared as they are, reduced to their principal components, and only with patches of good views from nearly
the same place: views of parts in one pose differ little from each other there. A relative of PatchCore (arXiv
2106.08265) without a network, with the position instead.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sw_anomaly.detector import HeatMethod, smooth_map
from sw_anomaly.progress import Progress, silent
from sw_anomaly.randomness import Purpose, generator

PATCH = 17  # side of a patch in pixels
STRIDE = 2  # between patches, in pixels
COMPONENTS = 40
ALONG, ACROSS = 8, 2  # how far in pixels a good patch may lie from the place it is compared with
COMPARED = 2  # of so many columns of patches one is compared; patches overlap so much that the others say the same
TILE = 8  # patches above each other that share the good patches that they are compared with
MEMORY = 128 * 2**20  # bytes of the good patches in a file, three times as many in use; too many images are thinned out
SAMPLED = 20_000  # patches that the principal components are found from


class PatchBank(HeatMethod):
    """Good patches: ``filters`` [K, 3, P, P] give their components; ``patches`` [N, H, W, K] of N views, fp16."""

    def __init__(self, filters: Tensor, patches: Tensor, image_size: int) -> None:
        self.filters = filters
        self.patches = patches
        self.image_size = image_size
        self.good = patches.permute(2, 1, 0, 3).float().contiguous()  # [W, H, N, K]: neighbours lie side by side
        self.squares = self.good.square().sum(3)

    @classmethod
    def fit(cls, views: np.ndarray, image_size: int, seed: int, progress: Progress = silent) -> PatchBank:
        """Remember the patches of good views, uint8 [N, h, w, 3], as many as ``MEMORY`` holds."""
        rng = generator(seed, Purpose.BANK)
        filters = _principal_filters(views, rng)
        rows, columns = (-(-side // STRIDE) for side in views.shape[1:3])
        held = max(MEMORY // (rows * columns * COMPONENTS * 2), 1)
        kept = rng.permutation(len(views))[:held]
        patches = torch.empty(len(kept), rows, columns, COMPONENTS, dtype=torch.float16)
        for number, index in enumerate(kept):
            patches[number] = _components(views[index], filters)
            progress("remembering patches", number + 1, len(kept))
        return cls(filters, patches, image_size)

    @torch.inference_mode()
    def heat(self, view: np.ndarray) -> np.ndarray:
        """The distance of each place of a view, uint8 [h, w, 3], to the nearest good patch: float32 [h, w]."""
        seen = _components(view, self.filters)
        along, across = ALONG // STRIDE, ACROSS // STRIDE
        columns = range(COMPARED // 2, seen.shape[1], COMPARED)
        distances = torch.empty(seen.shape[0], len(columns))
        for place, column in enumerate(columns):
            beside = slice(max(column - across, 0), column + across + 1)
            for top in range(0, seen.shape[0], TILE):
                points = seen[top : top + TILE, column]
                near = (beside, slice(max(top - along, 0), top + TILE + along))
                products = points @ self.good[near].flatten(0, 2).T
                squared = (self.squares[near].flatten() - 2 * products).amin(1) + points.square().sum(1)
                distances[top : top + TILE, place] = squared.clamp(min=0).sqrt()
        full = F.interpolate(distances[None, None], view.shape[:2], mode="bilinear", align_corners=False)
        return smooth_map(full, self.image_size)[0, 0].numpy()

    def tensors(self) -> dict[str, Tensor]:
        """The filters and the patches."""
        return {"filters": self.filters, "patches": self.patches}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], model_name: str, image_size: int) -> PatchBank:
        """The inverse of ``tensors``; there is no model to name."""
        return cls(tensors["filters"], tensors["patches"], image_size)


def _principal_filters(views: np.ndarray, rng: np.random.Generator) -> Tensor:
    """The principal components of patches from random places as filters [K, 3, P, P]."""
    count, height, width, _ = views.shape
    places = rng.integers((count, height - PATCH + 1, width - PATCH + 1), size=(SAMPLED, 3))
    patches = np.stack([views[i, r : r + PATCH, c : c + PATCH].ravel() for i, r, c in places]).astype(np.float32) / 255
    _, vectors = np.linalg.eigh(np.cov(patches, rowvar=False))
    filters = vectors[:, : -COMPONENTS - 1 : -1].T.reshape(COMPONENTS, PATCH, PATCH, 3)
    return torch.from_numpy(np.ascontiguousarray(filters.transpose(0, 3, 1, 2), dtype=np.float32))


def _components(view: np.ndarray, filters: Tensor) -> Tensor:
    """The components of the patches around every ``STRIDE``-th pixel of a view: float32 [H, W, K]."""
    image = torch.from_numpy(view).permute(2, 0, 1)[None].float() / 255
    padded = F.pad(image, (PATCH // 2,) * 4, mode="reflect")
    return F.conv2d(padded, filters, stride=STRIDE)[0].permute(1, 2, 0)
