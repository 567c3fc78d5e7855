"""The heat of each method as a module, for a graph in which there is no Python.

Each says of a view, float32 [1, 3, h, w] in 0..255, what ``heat`` of its method says before smoothing: [1, 1, h, w].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from timm.utils import reparameterize_model
from torch import Tensor, nn

from sw_anomaly.methods import patch_bank as bank
from sw_anomaly.methods.patch_bank import PatchBank
from sw_anomaly.methods.patchcore import PatchCore
from sw_anomaly.methods.unet.method import Segmenter, network_input


class UNetHeat(nn.Module):
    """``Segmenter.heat``."""

    def __init__(self, method: Segmenter) -> None:
        super().__init__()
        self.model = reparameterize_model(method.model).cpu()
        self.reference = nn.Buffer(torch.from_numpy(method.reference).permute(2, 0, 1)[None] / 255)

    def forward(self, view: Tensor) -> Tensor:
        """The probability of being defective."""
        logits = self.model(network_input(view / 255, self.reference))
        return torch.sigmoid(F.interpolate(logits, view.shape[2:], mode="bilinear"))


class PatchCoreHeat(nn.Module):
    """``PatchCore.heat``."""

    def __init__(self, method: PatchCore) -> None:
        super().__init__()
        self.backbone = reparameterize_model(method.backbone).cpu()
        config = cast(Any, method.backbone).pretrained_cfg
        self.mean, self.std = (nn.Buffer(torch.tensor(config[key]).view(1, 3, 1, 1)) for key in ("mean", "std"))
        self.good = nn.Buffer(torch.from_numpy(method.features))

    def forward(self, view: Tensor) -> Tensor:
        """The distance to the nearest good feature."""
        maps = self.backbone((view / 255 - self.mean) / self.std)
        maps = [F.avg_pool2d(level, 3, stride=1, padding=1, count_include_pad=False) for level in maps]
        size = maps[0].shape[2:]
        found = torch.cat([F.interpolate(level, size, mode="bilinear") for level in maps], dim=1)[0].flatten(1).T
        squared = found.square().sum(1) + (self.good.square().sum(1) - 2 * found @ self.good.T).amin(1)
        return F.interpolate(squared.clamp(min=0).sqrt().view(1, 1, *size), view.shape[2:], mode="bilinear")


class BankHeat(nn.Module):
    """``PatchBank.heat``, of all tiles at once, one row of good patches near each of them after the other."""

    def __init__(self, method: PatchBank) -> None:
        super().__init__()
        _, self.rows, columns, self.components = method.patches.shape
        along, across = bank.ALONG // bank.STRIDE, bank.ACROSS // bank.STRIDE
        compared, tops = torch.arange(bank.COMPARED // 2, columns, bank.COMPARED), torch.arange(0, self.rows, bank.TILE)
        beside = (compared[:, None] + torch.arange(-across, across + 1)).clamp(0, columns - 1)
        near = (torch.arange(-along, bank.TILE + along)[:, None] + tops).clamp(0, self.rows - 1)
        self.tiles = len(tops)
        self.filters, self.compared = nn.Buffer(method.filters), nn.Buffer(compared)
        self.good = nn.Buffer(method.patches.permute(2, 1, 0, 3).flatten(0, 1).contiguous())  # [places, N, K]
        self.squares = nn.Buffer(self.good.float().square().sum(2))
        self.places = nn.Buffer(beside[:, None] * self.rows + near[:, None, :, None])  # [near, compared, tiles, beside]

    def forward(self, view: Tensor) -> Tensor:
        """The distance to the nearest good patch near the place."""
        padded = F.pad(view / 255, (bank.PATCH // 2,) * 4, mode="reflect")
        seen = F.conv2d(padded, self.filters, stride=bank.STRIDE)[0].index_select(2, self.compared)
        seen = F.pad(seen, (0, 0, 0, self.tiles * bank.TILE - self.rows)).unflatten(1, (self.tiles, bank.TILE))
        points = seen.permute(3, 1, 2, 0).flatten(0, 1)  # [compared * tiles, TILE, K]
        zero = (view[0, 0, 0, 0] < 0).long()  # as a constant it would have everything gathered in advance, 1 GB
        lowest = torch.full(points.shape[:2], torch.inf)
        for places in self.places.flatten(1) + zero:
            good = self.good.index_select(0, places).float().view(len(points), -1, self.components)
            squares = self.squares.index_select(0, places).view(len(points), 1, -1)
            lowest = torch.minimum(lowest, (squares - 2 * points @ good.mT).amin(2))
        distances = (lowest + points.square().sum(2)).clamp(min=0).sqrt()
        distances = distances.view(-1, self.tiles * bank.TILE)[:, : self.rows].T
        return F.interpolate(distances[None, None], view.shape[2:], mode="bilinear")


HEATS: dict[type, Callable[[Any], nn.Module]] = {Segmenter: UNetHeat, PatchBank: BankHeat, PatchCore: PatchCoreHeat}
