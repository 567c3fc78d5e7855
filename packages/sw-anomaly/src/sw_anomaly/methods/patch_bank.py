"""The method ``bank``: nothing is trained; a patch is as defective as it differs from all good ones near its place.

Patches are compared as they are, reduced to their principal components, and only with patches of good views from nearly
the same place: views of parts in one pose differ little from each other there. A relative of PatchCore (arXiv
2106.08265) without a network, with the position instead.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sw_anomaly.methods.base import MemoryMethod, default_device
from sw_anomaly.progress import Progress, silent
from sw_anomaly.randomness import Purpose, generator
from sw_models.errors import InputError
from sw_ops import nearest_distances

PATCH = 17  # side of a patch in pixels
STRIDE = 2  # pixels from one patch to the next
COMPONENTS = 40  # principal components kept of a patch
ALONG, ACROSS = 8, 2  # pixels, down and sideways, between a place and the good patches it is compared with
COMPARED = 2  # compare every second column of patches: overlapping neighbors give the same distance
TILE = 8  # patches above each other that are compared with the same good patches
MEMORY = 128 * 2**20  # bytes of good patches; more views are thinned out
MULTIPLE = 16  # of views in memory, as `nearest_distances` wants
SAMPLED = 20_000  # patches that the principal components are found from


class PatchBank(MemoryMethod):
    """Good patches: ``filters`` [K, 3, P, P] give their components; ``patches`` [N, H, W, K] of N views, fp16.

    ``origins`` [N] are the numbers of these views.
    """

    def __init__(self, filters: Tensor, patches: Tensor, image_size: int, origins: Tensor | None = None) -> None:
        super().__init__()
        self.image_size = image_size
        self.filters = nn.Buffer(filters)
        self._remember(patches, torch.empty(0) if origins is None else origins)
        _, height, width, _ = patches.shape
        tops, compared = torch.arange(0, height, TILE), torch.arange(COMPARED // 2, width, COMPARED)
        rows = tops[:, None] + torch.arange(-(ALONG // STRIDE), TILE + ALONG // STRIDE)
        columns = compared[:, None] + torch.arange(-(ACROSS // STRIDE), ACROSS // STRIDE + 1)
        self.rows = nn.Buffer(rows.clamp(0, height - 1), persistent=False)
        self.columns = nn.Buffer(columns.clamp(0, width - 1), persistent=False)

    def _remember(self, patches: Tensor, origins: Tensor) -> None:
        """Lay patches out as ``nearest_distances`` takes them: [W, H, K, N], with as many more as it wants."""
        self.count = len(patches)
        self.memory = nn.Buffer(F.pad(patches.permute(2, 1, 3, 0), (0, -self.count % MULTIPLE)), persistent=False)
        squares = self.memory.float().square().sum(2)
        squares[..., self.count :] = torch.inf
        self.squares, self.origins = nn.Buffer(squares, persistent=False), nn.Buffer(origins, persistent=False)

    @property
    def patches(self) -> Tensor:
        """What is remembered, [N, H, W, K] of type float16."""
        return self.memory[..., : self.count].permute(3, 1, 0, 2)

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
        seen = _components(view, self.filters)[:, COMPARED // 2 :: COMPARED]
        points = F.pad(seen, (0, 0, 0, 0, 0, -len(seen) % TILE))
        squared = nearest_distances(points, self.memory, self.squares, self.rows, self.columns)
        distances = squared[: len(seen)].sqrt()
        return F.interpolate(distances[None, None], view.shape[2:], mode="bilinear", align_corners=False)

    def describe(self, view: Tensor) -> Tensor:
        """Return the components of the patches of a view, float32 [1, 3, h, w]: [1, K, H, W]."""
        return _components(view, self.filters).permute(2, 0, 1)[None]

    def forget(self, views: Sequence[int]) -> None:
        """Forget the patches of views of these numbers."""
        kept = ~torch.isin(self.origins, torch.tensor(views, device=self.origins.device))
        self._remember(self.patches[kept], self.origins[kept])

    def state(self) -> dict[str, Tensor]:
        """Return the filters and the patches."""
        return {**super().state(), "patches": self.patches.clone(memory_format=torch.contiguous_format)}

    @classmethod
    def from_state(cls, state: dict[str, Tensor], model_name: str, image_size: int, former: bool = False) -> PatchBank:
        """Return the inverse of ``state``; there is no model to name, and ``former`` checkpoints hold the same."""
        if set(state) != {"filters", "patches"}:
            raise InputError(f"holds the tensors {', '.join(sorted(state)) or 'of nothing'}; want filters, patches")
        return cls(state["filters"], state["patches"], image_size).to(default_device())


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
