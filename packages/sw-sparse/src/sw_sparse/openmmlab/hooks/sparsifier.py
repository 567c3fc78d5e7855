"""The engine inside OpenMMLab's runner, and learning rates by layer. Needs the extra ``sw-sparse[openmmlab]``.

A configuration says ``custom_imports = dict(imports=["sw_sparse.openmmlab.hooks"])`` and names what is registered here.
"""

from __future__ import annotations

from typing import Any

from mmengine.hooks import EMAHook, Hook
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import HOOKS, OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from sw_sparse.config import SparsityConfig
from sw_sparse.sparsifier import Sparsifier
from sw_sparse.trainer.layer_decay import layer_wise_id, parameter_groups, stage_wise_id

_LAYERS_OF = {"layer_wise": layer_wise_id, "stage_wise": stage_wise_id}


@HOOKS.register_module()
class SparsifierHook(Hook):
    """Keeps a model sparse while it is fine-tuned.

    Without arguments it keeps the mask of a sparse checkpoint: every weight of the backbone's matrices and kernels that
    is 0 when training starts stays 0. ``SparsifierHook(sparsity=0.3, update="rigl", ...)`` makes the model sparse by
    itself. The masks are part of the runner's checkpoints.

    Args:
        **settings: of :class:`.SparsityConfig`.
    """

    priority = "ABOVE_NORMAL"  # before averages are taken and checkpoints are written

    def __init__(self, **settings: Any) -> None:
        kept = {"initialisation": "nonzero", "update": "static"} if "sparsity" not in settings else {}
        targets = settings.get("targets", "backbone.*")
        settings["targets"] = tuple(targets) if isinstance(targets, list) else targets
        self.config = SparsityConfig(**{**kept, **settings})
        self.sparsifier: Sparsifier | None = None
        self._resumed: dict[str, Any] | None = None

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Remember the masks of a run that is resumed."""
        self._resumed = checkpoint.get("sparsifier")

    def before_train(self, runner: Any) -> None:
        """Make the model sparse, once its weights are loaded."""
        averages = [hook.ema_model.module for hook in runner.hooks if isinstance(hook, EMAHook)]
        self.sparsifier = Sparsifier(
            runner.model, runner.optim_wrapper.optimizer, self.config, ema=averages[0] if averages else None
        )
        if self._resumed is not None:
            self.sparsifier.load_state_dict(self._resumed)
        elif self.config.initialisation == "nonzero" and all(d == 1 for d in self.sparsifier.densities().values()):
            raise ValueError("sparse: the weights that training starts from have no zeros to keep")

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Follow the optimizer's step."""
        if self.sparsifier:
            self.sparsifier.step()

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Save the masks."""
        if self.sparsifier:
            checkpoint["sparsifier"] = self.sparsifier.state_dict()


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
