"""Tensors of a module that are neither trained nor averaged, and that its checkpoints hold all the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn


class ConstantTensors(nn.Module):
    """A module with constant tensors, such as tables of indices.

    They are in its ``state_dict``, are loaded from one, and move with :meth:`to`, as buffers do. They are no buffers:
    what averages weights, such as ``torch.optim.swa_utils.AveragedModel(use_buffers=True)``, averages buffers too, and
    the average of an index with itself, computed in floating point and truncated, may be another index.
    """

    __jit_ignored_attributes__ = ("constants",)
    constants: Mapping[str, Tensor] = MappingProxyType({})  # of modules that were pickled when tables were buffers

    def set_constants(self, **tensors: Tensor) -> None:
        """Keep copies of CPU tensors under these names, as attributes beside the parameters, on their device."""
        device = next(self.parameters()).device
        # FSDP gives memory to, and resets, only modules with parameters or buffers that are directly theirs.
        self.register_buffer("directly_owned", torch.empty(0, device=device), persistent=False)
        self.constants = {name: tensor.clone() for name, tensor in tensors.items()}  # as constructed, for resets
        for name, tensor in self.constants.items():
            setattr(self, name, tensor.to(device, copy=True))

    def reset_constants(self) -> None:
        """Restore what the module was constructed with, also after ``to_empty``."""
        for name, tensor in self.constants.items():
            setattr(self, name, tensor.to(getattr(self, name).device, copy=True))

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **kwargs: Any) -> Any:
        super()._apply(fn, *args, **kwargs)
        for name in self.constants:
            setattr(self, name, fn(getattr(self, name)))
        return self

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name in self.constants:
            destination[prefix + name] = getattr(self, name)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        for name in self.constants:
            key, present = prefix + name, getattr(self, name)
            if key in unexpected_keys:
                unexpected_keys.remove(key)
            if key not in state_dict:
                if strict:
                    missing_keys.append(key)
            elif state_dict[key].shape != present.shape:
                got, want = tuple(state_dict[key].shape), tuple(present.shape)
                error_msgs.append(f"size mismatch for {key}: got {got} in the checkpoint, want {want}")
            else:
                assign = local_metadata.get("assign_to_params_buffers", False)
                loaded = state_dict[key].detach()
                setattr(self, name, loaded if assign else loaded.to(present.device, present.dtype, copy=True))
                self.directly_owned = torch.empty(0, device=getattr(self, name).device)  # which no state has
