"""The form in which detectors and segmenters take a backbone: the maps of chosen stages, each with a norm."""

# Annotations are objects here, not strings, as in _base.py.

from collections.abc import Sequence
from typing import Any

from timm.layers import LayerNorm2d
from torch import Tensor, nn

from sw_models.models._base import StagedNet


class NormedFeatures(nn.Module):
    """A backbone without its head, and one channel norm for each stage that is returned.

    Args:
        backbone: one of this package's networks; its head is removed.
        out_indices: the stages to return, from 0.
    """

    def __init__(self, backbone: StagedNet, out_indices: Sequence[int] = (0, 1, 2, 3)) -> None:
        super().__init__()
        stages = len(backbone.stages)
        if not out_indices or not set(out_indices) <= set(range(stages)):
            raise ValueError(f"out_indices: got {tuple(out_indices)}, want some of 0 to {stages - 1}")
        backbone.reset_classifier(0, "", reset_other=True)
        self.backbone = backbone
        self.out_indices = sorted(out_indices)
        self.feature_info: list[dict[str, Any]] = [backbone.feature_info[i] for i in self.out_indices]
        like = next(backbone.parameters())
        norms = {
            str(i): LayerNorm2d(backbone.feature_info[i]["num_chs"], device=like.device, dtype=like.dtype)
            for i in self.out_indices
        }
        self.norms = nn.ModuleDict(norms)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return one map ``[B, dims[i], H / 2^(i+2), W / 2^(i+2)]`` per index, for images ``[B, in_chans, H, W]``."""
        maps: Any = self.backbone.forward_intermediates(x, self.out_indices, stop_early=True, intermediates_only=True)
        return [norm(m) for norm, m in zip(self.norms.values(), maps, strict=True)]
