"""Learning rates by layer, for OpenMMLab's optimizers."""

from __future__ import annotations

from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from sw_sparse.trainer.layer_decay import layer_wise_id, parameter_groups, stage_wise_id

_LAYERS_OF = {"layer_wise": layer_wise_id, "stage_wise": stage_wise_id}


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Learning rates that fall from the heads towards the stem.

    ``paramwise_cfg`` has ``decay_rate``, the factor from layer to layer; ``decay_type``, "layer_wise" (three blocks of
    the third stage are a layer) or "stage_wise"; and ``num_layers``: 12 as published for detection, 9 for segmentation,
    6 for stages. Vectors and biases have no weight decay.
    """

    def add_params(self, params: list[dict[str, Any]], module: nn.Module, **kwargs: Any) -> None:
        """Append the groups of all parameters of ``module``."""
        decay_type = self.paramwise_cfg.get("decay_type", "layer_wise")
        if decay_type not in _LAYERS_OF:
            raise ValueError(f"decay_type: got {decay_type!r}, want one of {', '.join(_LAYERS_OF)}")
        groups = parameter_groups(
            module.named_parameters(),
            self.base_wd or 0.0,
            self.paramwise_cfg["decay_rate"],
            self.paramwise_cfg["num_layers"],
            _LAYERS_OF[decay_type],
        )
        params.extend({**group, "lr": self.base_lr * group["lr_scale"]} for group in groups)
