"""The engine in trainers that call back, such as the Hugging Face Trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from sw_models.checkpoints.tensor_file import nested_state, read_tensor_file, write_state
from sw_models.errors import InputError
from sw_sparse.config import SparsityConfig
from sw_sparse.sparsifier import Sparsifier

_FILE = "sparsifier.safetensors"


class SparsifierCallback:
    """Run a :class:`Sparsifier` in a trainer that calls ``on_train_begin``, ``on_step_end`` and so on.

    It does not need the trainer's library. Its state is a file in every checkpoint's folder, from which a resumed run
    goes on to the same weights, bit for bit.

    Args:
        config: what, how much and how.
        checkpoint: the folder to resume from; by default ``checkpoint-STEP`` in the trainer's output folder.
        **arguments: further ones of :class:`Sparsifier`.

    Attributes:
        sparsifier: the engine, from the beginning of the training on.

    Example:
        >>> trainer = transformers.Trainer(model, args, callbacks=[SparsifierCallback(SparsityConfig(sparsity=0.5))])
        >>> trainer.train(resume_from_checkpoint=True)
    """

    sparsifier: Sparsifier

    def __init__(self, config: SparsityConfig, checkpoint: str | Path | None = None, **arguments: Any) -> None:
        self._config, self._checkpoint, self._arguments = config, checkpoint, arguments

    def on_train_begin(
        self, args: Any, state: Any, control: Any, *, model: nn.Module, optimizer: Any, **others: Any
    ) -> None:
        """Construct the sparsifier, with what it had become where the training goes on.

        Raises:
            InputError: the checkpoint's folder has no sparsifier in it.
        """
        loaded = None
        if state.global_step:
            folder = Path(self._checkpoint) if self._checkpoint else _folder(args, state)
            loaded = nested_state(*read_tensor_file(folder / _FILE))
            if loaded is None:
                raise InputError(f"{folder / _FILE}: holds tensors alone, want a state of SparsifierCallback")
        self.sparsifier = Sparsifier(model, optimizer, self._config, state=loaded, **self._arguments)

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Follow the optimizer's step."""
        self.sparsifier.step()

    def on_save(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Write the sparsifier beside the model and the optimizer."""
        if state.is_world_process_zero:
            write_state(_folder(args, state) / _FILE, self.sparsifier.state_dict())

    def on_train_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Let the optimizer go; the zeros stay."""
        self.sparsifier.squash()

    def __getattr__(self, name: str) -> Any:
        """Ignore all other events."""
        if not name.startswith("on_"):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return lambda *args, **kwargs: None


def _folder(args: Any, state: Any) -> Path:
    return Path(args.output_dir) / f"checkpoint-{state.global_step}"
