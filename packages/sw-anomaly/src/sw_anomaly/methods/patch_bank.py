"""The method ``bank``: nothing is trained; a patch is as defective as it differs from all good ones near its place.

Patches are compared as they are, reduced to their principal components, and only with patches of good views from nearly
the same place: views of parts in one pose differ little from each other there. A relative of PatchCore (arXiv
2106.08265) without a network, with the position instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sw_anomaly.methods.base import HeatMethod, MemoryMethod, Method, default_device
from sw_anomaly.progress import Progress, silent
from sw_anomaly.randomness import Purpose, generator
from sw_models.errors import InputError

PATCH = 17  # side of a patch in pixels
STRIDE = 2  # pixels from one patch to the next
COMPONENTS = 40  # principal components kept of a patch
ALONG, ACROSS = 8, 2  # pixels, down and sideways, between a place and the good patches it is compared with
COMPARED = 2  # compare every second column of patches: overlapping neighbors give the same distance
TILE = 8  # patches above each other that are compared with the same good patches
MEMORY = 128 * 2**20  # bytes of good patches in a file, three times as many in use; more views are thinned out
SAMPLED = 20_000  # patches that the principal components are found from


class PatchBank(MemoryMethod):
    """Good patches: ``filters`` [K, 3, P, P] give their components; ``patches`` [N, H, W, K] of N views, fp16.

    ``origins`` [N] are the numbers of these views.
    """

    patches: Tensor
    good: Tensor

    def __init__(self, filters: Tensor, patches: Tensor, image_size: int, origins: Tensor | None = None) -> None:
        super().__init__()
        self.image_size = image_size
        self.filters, self.patches = nn.Buffer(filters), nn.Buffer(patches)
        along = ALONG // STRIDE
        good = patches.permute(2, 1, 0, 3).float()  # [W, H, N, K]: neighbours lie side by side
        good = F.pad(good, (0, 0, 0, 0, along, along + TILE - 1))
        squares = good.square().sum(3)
        squares[:, :along] = squares[:, along + patches.shape[1] :] = torch.inf  # nothing is near what is not there
        self.good, self.squares = nn.Buffer(good, persistent=False), nn.Buffer(squares, persistent=False)
        self.origins = nn.Buffer(torch.empty(0) if origins is None else origins, persistent=False)

    @classmethod
    def fit(
        cls,
        views: np.ndarray,
        image_size: int,
        seed: int,
        progress: Progress = silent,
        former: PatchBank | None = None,
    ) -> PatchBank:
        """Remember the patches of good views, levels [N, h, w, 3], and those of a ``former`` one, within ``MEMORY``."""
        rng = generator(seed, Purpose.BANK)
        filters = _principal_filters(views, rng) if former is None else former.filters.cpu()
        rows, columns = (-(-side // STRIDE) for side in views.shape[1:3])
        held = max(MEMORY // (rows * columns * COMPONENTS * 2), 1)
        kept = rng.permutation(len(views))[:held]
        patches = torch.empty(len(kept), rows, columns, COMPONENTS, dtype=torch.float16)
        for number, index in enumerate(kept):
            patches[number] = _components(_to_tensor(views[index]), filters)
            progress("remembering patches", number + 1, len(kept))
        origins = torch.from_numpy(kept)
        if former is not None:
            older = former.patches.cpu()[: max(held - len(patches), 0)]
            patches, origins = torch.cat([patches, older]), torch.cat([origins, torch.full((len(older),), -1)])
        return cls(filters, patches, image_size, origins)

    def heat(self, view: Tensor) -> Tensor:
        """Measure how far each place of a view, float32 [1, 3, h, w], is from the nearest good patch: [1, 1, h, w]."""
        seen = _components(view, self.filters)
        good, squares = self.good, self.squares  # looked up once: a module's attributes are slow
        along, across, first = ALONG // STRIDE, ACROSS // STRIDE, COMPARED // 2
        points = F.pad(seen[:, first::COMPARED], (0, 0, 0, 0, 0, -len(seen) % TILE)).unflatten(0, (-1, TILE))
        points = points.transpose(1, 2)  # [tiles, compared, TILE, K]
        lowest = points.new_full(points.shape[:3], torch.inf)
        for column in range(len(good)):  # with each: the compared columns beside it, all tiles at once
            beside = slice(max(-(-(column - across - first) // COMPARED), 0), (column + across - first) // COMPARED + 1)
            near = good[column].unfold(0, TILE + 2 * along, TILE)[: len(points)].permute(0, 3, 1, 2).flatten(1, 2)
            offsets = squares[column].unfold(0, TILE + 2 * along, TILE)[: len(points)].mT.flatten(1)[:, None]
            found = torch.baddbmm(offsets, points[:, beside].flatten(1, 2), near.mT, alpha=-2).amin(2)
            lowest[:, beside] = torch.minimum(lowest[:, beside], found.view_as(lowest[:, beside]))
        distances = (lowest + points.square().sum(3)).clamp(min=0).sqrt()
        distances = distances.transpose(1, 2).flatten(0, 1)[: len(seen)]
        return F.interpolate(distances[None, None], view.shape[2:], mode="bilinear", align_corners=False)

    def describe(self, view: Tensor) -> Tensor:
        """Return the components of the patches of a view, float32 [1, 3, h, w]: [1, K, H, W]."""
        return _components(view, self.filters).permute(2, 0, 1)[None]

    def forget(self, views: Sequence[int]) -> None:
        """Forget the patches of views of these numbers."""
        kept = ~torch.isin(self.origins, torch.tensor(views, device=self.origins.device))
        self.patches, self.origins = self.patches[kept], self.origins[kept]
        self.good, self.squares = self.good[:, :, kept].contiguous(), self.squares[:, :, kept].contiguous()

    def exportable(self) -> Method:
        """Return the same in a fixed number of tensor operations."""
        return _GatheringBank(self)

    @classmethod
    def from_state(cls, state: dict[str, Tensor], model_name: str, image_size: int, former: bool = False) -> PatchBank:
        """Return the inverse of ``state``; there is no model to name, and ``former`` checkpoints hold the same."""
        if set(state) != {"filters", "patches"}:
            raise InputError(f"holds the tensors {', '.join(sorted(state)) or 'of nothing'}; want filters, patches")
        return cls(state["filters"], state["patches"], image_size).to(default_device())


class _GatheringBank(HeatMethod):
    """``PatchBank`` as a graph of fixed size, for export; on CPUs its heat takes longer than the loops of the other.

    All tiles are compared at once, with one row of good patches near each of them after the other.
    """

    def __init__(self, bank: PatchBank) -> None:
        super().__init__()
        self.image_size, self.correction = bank.image_size, deepcopy(bank.correction)
        patches = bank.patches.cpu()
        _, self.rows, columns, self.components = patches.shape
        along, across = ALONG // STRIDE, ACROSS // STRIDE
        compared, tops = torch.arange(COMPARED // 2, columns, COMPARED), torch.arange(0, self.rows, TILE)
        beside = (compared[:, None] + torch.arange(-across, across + 1)).clamp(0, columns - 1)
        near = (torch.arange(-along, TILE + along)[:, None] + tops).clamp(0, self.rows - 1)
        self.strips = len(tops)
        self.filters, self.compared = nn.Buffer(bank.filters.cpu()), nn.Buffer(compared)
        self.good = nn.Buffer(patches.permute(2, 1, 0, 3).flatten(0, 1).contiguous())  # [places, N, K]
        self.squares = nn.Buffer(self.good.float().square().sum(2))
        self.places = nn.Buffer(beside[:, None] * self.rows + near[:, None, :, None])  # [near, compared, tiles, beside]

    def heat(self, view: Tensor) -> Tensor:
        """Return the distance to the nearest good patch near each place."""
        seen = _components(view, self.filters).permute(2, 0, 1).index_select(2, self.compared)
        seen = F.pad(seen, (0, 0, 0, self.strips * TILE - self.rows)).unflatten(1, (self.strips, TILE))
        points = seen.permute(3, 1, 2, 0).flatten(0, 1)  # [compared * tiles, TILE, K]
        zero = (view[0, 0, 0, 0] < 0).long()  # as a constant it would have everything gathered in advance, 1 GB
        lowest = torch.full(points.shape[:2], torch.inf)
        for places in self.places.flatten(1) + zero:
            good = self.good.index_select(0, places).float().view(len(points), -1, self.components)
            squares = self.squares.index_select(0, places).view(len(points), 1, -1)
            lowest = torch.minimum(lowest, (squares - 2 * points @ good.mT).amin(2))
        distances = (lowest + points.square().sum(2)).clamp(min=0).sqrt()
        distances = distances.view(-1, self.strips * TILE)[:, : self.rows].T
        return F.interpolate(distances[None, None], view.shape[2:], mode="bilinear")

    def describe(self, view: Tensor) -> Tensor:
        """Return the components of the patches of a view."""
        return _components(view, self.filters).permute(2, 0, 1)[None]


def _principal_filters(views: np.ndarray, rng: np.random.Generator) -> Tensor:
    """Return the principal components of patches from random places as filters [K, 3, P, P]."""
    count, height, width, _ = views.shape
    places = rng.integers((count, height - PATCH + 1, width - PATCH + 1), size=(SAMPLED, 3))
    patches = np.stack([views[i, r : r + PATCH, c : c + PATCH].ravel() for i, r, c in places]).astype(np.float32) / 255
    _, vectors = np.linalg.eigh(np.cov(patches, rowvar=False))
    filters = vectors[:, : -COMPONENTS - 1 : -1].T.reshape(COMPONENTS, PATCH, PATCH, 3)
    return torch.from_numpy(np.ascontiguousarray(filters.transpose(0, 3, 1, 2), dtype=np.float32))


def _components(view: Tensor, filters: Tensor) -> Tensor:
    """Project the patches around every ``STRIDE``-th pixel of a view [1, 3, h, w]: float32 [H, W, K]."""
    padded = F.pad(view / 255, (PATCH // 2,) * 4, mode="reflect")
    return F.conv2d(padded, filters, stride=STRIDE)[0].permute(1, 2, 0)


def _to_tensor(view: np.ndarray) -> Tensor:
    return torch.from_numpy(view).permute(2, 0, 1)[None].float()
