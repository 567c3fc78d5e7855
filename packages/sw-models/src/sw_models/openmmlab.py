"""The backbones in OpenMMLab's registry, for detectors and segmenters. Needs the extra ``sw-models[openmmlab]``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import timm
from mmengine.registry import MODELS
from torch import nn

import sw_models  # noqa: F401 - registers the models with timm
from sw_models.checkpoint import read_state_dict
from sw_models.features import NormedFeatures
from sw_models.published import convert_published, is_published


@MODELS.register_module()
class ShiftwiseBackbone(NormedFeatures):
    """Any backbone of this package in the form that OpenMMLab's configurations name.

    Args:
        model: name of the model in timm's registry.
        out_indices: the stages to return, from 0.
        frozen_stages: the stem and so many stages are not trained, nor are their batch norms updated; 0 freezes the
            stem alone, -1 nothing.
        pretrained: a classification checkpoint, published or this package's, to start from; its head is left out.
        sync_bn: average batch norms over all processes.
        init_cfg: accepted because OpenMMLab passes it, and must be None; weights come from ``pretrained``.
        **kwargs: passed to the model, for instance ``drop_path_rate`` or ``kernel_sizes``.
    """

    def __init__(
        self,
        model: str = "shiftwise_tiny",
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        pretrained: str | None = None,
        sync_bn: bool = False,
        init_cfg: None = None,
        **kwargs: Any,
    ) -> None:
        if init_cfg is not None:
            raise ValueError(f"init_cfg: got {init_cfg}, want None; name a checkpoint as 'pretrained'")
        backbone: Any = timm.create_model(model, **kwargs)
        super().__init__(backbone, out_indices)
        stages = len(self.backbone.stages)
        if not -1 <= frozen_stages <= stages:
            raise ValueError(f"frozen_stages: got {frozen_stages}, want -1 to {stages}")
        self.frozen_stages = frozen_stages
        if pretrained is not None:
            self._load(pretrained)
        if sync_bn:
            self.backbone = nn.SyncBatchNorm.convert_sync_batchnorm(self.backbone)
        self._freeze()

    def init_weights(self) -> None:
        """Do nothing; OpenMMLab calls this, and the weights are drawn or read on construction."""

    def train(self, mode: bool = True) -> ShiftwiseBackbone:
        """Set the mode; what is frozen stays in evaluation mode."""
        super().train(mode)
        self._freeze()
        return self

    def _freeze(self) -> None:
        if self.frozen_stages < 0:
            return
        for part in (self.backbone.stem, *list(self.backbone.stages)[: self.frozen_stages]):
            part.eval().requires_grad_(False)

    def _load(self, path: str) -> None:
        heads = ("head.", "norm.", *(f"norm{i}." for i in range(4)))
        state = {key: value for key, value in read_state_dict(path).items() if not key.startswith(heads)}
        if is_published(state):
            state = convert_published(state, self.backbone)
        missing, unexpected = self.backbone.load_state_dict(state, strict=False)
        if missing or unexpected:
            raise ValueError(f"pretrained: {path} does not fit the model ({[*missing, *unexpected][0]} differs)")
