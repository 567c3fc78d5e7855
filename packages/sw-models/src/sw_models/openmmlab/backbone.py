"""The backbones in OpenMMLab's registry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import timm
from mmengine.registry import MODELS
from torch import nn

from sw_models.checkpoints.fit import load_fitting
from sw_models.checkpoints.keys import convert_published, is_published
from sw_models.checkpoints.load import read_state_dict
from sw_models.errors import InputError
from sw_models.models.pyramid import NormedFeatures


@MODELS.register_module()
class ShiftwiseBackbone(NormedFeatures):
    """Any backbone of this package in the form that OpenMMLab's configurations name.

    Args:
        model: name of the model in timm's registry.
        out_indices: the stages to return, from 0.
        frozen_stages: the stem and so many stages are not trained, nor are their batch norms updated; 0 freezes the
            stem alone, -1 nothing.
        pretrained: a checkpoint to start from, published or this package's, of a classifier, detector or segmenter;
            what is around the backbone is left out.
        sync_bn: average batch norms over all processes.
        grad_checkpointing: trade time for memory in training.
        init_cfg: accepted because OpenMMLab passes it, and must be None; weights come from ``pretrained``.
        **kwargs: passed to the model, for instance ``drop_path_rate`` or ``kernel_sizes``.

    Raises:
        InputError: an argument or the checkpoint does not fit; the message names it.
    """

    def __init__(
        self,
        model: str = "shiftwise_tiny",
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        pretrained: str | None = None,
        sync_bn: bool = False,
        grad_checkpointing: bool = False,
        init_cfg: None = None,
        **kwargs: Any,
    ) -> None:
        if init_cfg is not None:
            raise InputError(f"init_cfg: got {init_cfg}, want None; name a checkpoint as 'pretrained'")
        backbone: Any = timm.create_model(model, **kwargs)
        super().__init__(backbone, out_indices)
        stages = len(self.backbone.stages)
        if not -1 <= frozen_stages <= stages:
            raise InputError(f"frozen_stages: got {frozen_stages}, want -1 to {stages}")
        self.frozen_stages = frozen_stages
        if pretrained is not None:
            self._load(pretrained)
        if sync_bn:
            self.backbone = nn.SyncBatchNorm.convert_sync_batchnorm(self.backbone)
        backbone.set_grad_checkpointing(grad_checkpointing)
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
        around = ("head.", "norm.", "norms.", *(f"norm{i}." for i in range(4)))
        state = {key.removeprefix("backbone."): value for key, value in read_state_dict(path).items()}
        state = {key: value for key, value in state.items() if not key.startswith(around)}
        if is_published(state):
            state = convert_published(state, self.backbone)
        load_fitting(self.backbone, state, f"pretrained: {path}")
