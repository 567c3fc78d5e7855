"""The engine inside OpenMMLab's runner.

A configuration says ``custom_imports = dict(imports=["sw_sparse.openmmlab.hooks"])`` and names what is registered here.
"""

from __future__ import annotations

from typing import Any

from mmengine.hooks import EMAHook, Hook
from mmengine.registry import HOOKS

from sw_sparse.config import SparsityConfig
from sw_sparse.sparsifier import Sparsifier


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
            runner.model, runner.optim_wrapper.optimizer, self.config, ema=averages[0] if averages else None,
            state=self._resumed,
        )  # fmt: skip
        keeps = self._resumed is None and self.config.initialisation == "nonzero"
        if keeps and all(density == 1 for density in self.sparsifier.densities().values()):
            raise ValueError("sparse: the weights that training starts from have no zeros to keep")

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Follow the optimizer's step."""
        if self.sparsifier:
            self.sparsifier.step()

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Save the masks."""
        if self.sparsifier:
            checkpoint["sparsifier"] = self.sparsifier.state_dict()
