"""Reads the checkpoints of the published code into this package's models.

The published files hold neither the shift tables nor the split of the channels: both are drawn again here. Nor do they
tell the kernel sizes (51 and 50 both make 17 slots of 3), so those are arguments. Everything else is in the shapes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sw_models.checkpoints.keys import BLOCK, Family, convert_published, is_published, published_family
from sw_models.checkpoints.load import read_state_dict
from sw_models.errors import InputError
from sw_models.models._base import StagedNet
from sw_models.models.pyramid import NormedFeatures
from sw_models.models.shiftwise import ShiftwiseNet
from sw_models.models.shiftwise_coordatt import ShiftwiseCoordAttNet
from sw_models.models.shiftwise_v1 import ShiftwiseV1Net
from sw_ops import ChannelSplit, slot_count

FAMILIES: dict[Family, type[StagedNet]] = {
    "v1": ShiftwiseV1Net,
    "v2": ShiftwiseNet,
    "coordatt": ShiftwiseCoordAttNet,
}


def load_published_checkpoint(
    source: str | Path | Mapping[str, Any],
    kernel_sizes: Sequence[int] = (51, 49, 47, 13),
    small_kernel: int = 3,
    n_rep: int = 4,
) -> StagedNet | NormedFeatures:
    """Build the model that a published checkpoint belongs to, and load it, completely.

    Depths, widths, paths, copied channels, classes and image channels come from the shapes.

    Args:
        source: the file, ``.pth`` or ``.safetensors``, or the state dict; see :func:`.checkpoint.read_state_dict`. Of
            an anomaly detection U-Net the encoder is read.
        kernel_sizes: the large kernel of each stage.
        small_kernel: width of the small kernels.
        n_rep: shuffles of the slots.

    Returns:
        The model in evaluation mode: version 2, version 1 or the coordinate attention variant; without a head if the
        checkpoint has none. With ``norm0`` to ``norm3`` in the checkpoint, as detectors and segmenters save them, a
        :class:`NormedFeatures`.

    Raises:
        InputError: an argument or a key that does not fit; the message names it.
    """
    state = _without_encoder(read_state_dict(source))
    if not is_published(state):
        first = next(iter(state))
        raise InputError(f"checkpoint: {first!r} is no key of a published ShiftWise network (downsample_layers...)")
    family = published_family(state)
    if family not in FAMILIES:
        raise InputError(
            f"checkpoint: got {family} weights, want timm.create_model('{family}_tiny', checkpoint_path=...)"
        )
    arguments = _infer_arguments(state, tuple(kernel_sizes), small_kernel, even_split=family != "v1")
    network: Any = FAMILIES[family]
    model = network(**arguments, n_rep=n_rep)
    out_indices = [i for i in range(4) if f"norm{i}.weight" in state]
    if out_indices:
        model = NormedFeatures(model, out_indices)
    elif not any(key.startswith(("norm.", "head.")) for key in state):
        model.reset_classifier(0, "", reset_other=True)
    model.load_state_dict(convert_published(state, model))
    return model.eval()


def _without_encoder(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take the backbone out of a published U-Net, which has its parts under names of their own."""
    names = {"stem.": "downsample_layers.0.", "down": "downsample_layers.", "stage": "stages."}
    encoder = {}
    for key, value in state.items():
        part = key.removeprefix("encoder.")
        old = next((old for old in names if part != key and part.startswith(old)), None)
        if old:
            encoder[names[old] + part.removeprefix(old)] = value
    return encoder or state


def _infer_arguments(
    state: Mapping[str, Tensor], kernel_sizes: tuple[int, ...], small_kernel: int, *, even_split: bool
) -> dict[str, Any]:
    """Read the arguments of the family's network from the shapes."""
    depths = _infer_depths(state)
    if len(kernel_sizes) != len(depths):
        raise InputError(f"kernel_sizes: got {len(kernel_sizes)} values, want {len(depths)}, one per stage")
    dims: list[int] = []
    rep: list[int] = []
    for stage, kernel_size in enumerate(kernel_sizes):
        layer = f"stages.{stage}.0.large_kernel."
        key = layer + ("LoRA.weight" if layer + "LoRA.weight" in state else "LoRAs.0.weight")
        filters, _, width, _ = _shape(state, key, 4)
        if width != small_kernel:
            raise InputError(f"small_kernel: got {small_kernel}, but {key!r} has kernels of {width}")
        dims += _shape(state, f"stages.{stage}.0.gamma", 1)
        rep += _shape(state, layer + "bn_lora1.weight", 1)
        slots = slot_count(kernel_size, small_kernel)
        if filters != rep[-1] * slots:
            raise InputError(
                f"kernel_sizes: {kernel_size} in stage {stage} makes {slots} slots, but {key!r} has"
                f" {filters / rep[-1]:g} per channel"
            )
    paths = sum(bool(re.fullmatch(r"stages\.0\.0\.large_kernel\.LoRAs\.\d+\.weight", key)) for key in state)
    return {
        "in_chans": _shape(state, "downsample_layers.0.0.weight", 4)[1],
        "num_classes": _shape(state, "head.weight", 2)[0] if "head.weight" in state else 0,
        "depths": depths,
        "dims": tuple(dims),
        "kernel_sizes": kernel_sizes,
        "small_kernel": small_kernel,
        "ghost_ratio": _infer_ghost_ratio(dims, rep, even_split),
        "n_path": paths or 1,
    }


def _infer_depths(state: Mapping[str, Tensor]) -> tuple[int, ...]:
    blocks = {(int(m[1]), int(m[2])) for key in state if (m := re.match(BLOCK, key))}
    depths = tuple(1 + max(block for stage, block in blocks if stage == s) for s in sorted({s for s, _ in blocks}))
    gaps = [f"stages.{s}.{b}" for s, depth in enumerate(depths) for b in range(depth) if (s, b) not in blocks]
    if gaps:
        raise InputError(f"checkpoint: lacks {', '.join(gaps)}")
    return depths


def _infer_ghost_ratio(dims: Sequence[int], rep: Sequence[int], even: bool) -> float:
    """Find a ratio that splits every stage as the shapes say; the published one comes first."""
    for percent in (23, *range(100)):
        if all(_processed(dim, percent / 100, even) == n for dim, n in zip(dims, rep, strict=True)):
            return percent / 100
    raise InputError(f"checkpoint: no ghost_ratio processes {list(rep)} of {list(dims)} channels")


def _processed(channels: int, ghost_ratio: float, even: bool) -> int:
    return len(ChannelSplit.published(channels, ghost_ratio, even=even).rep)


def _shape(state: Mapping[str, Tensor], key: str, ndim: int) -> torch.Size:
    if key not in state:
        raise InputError(f"checkpoint: lacks {key!r}")
    if state[key].ndim != ndim:
        raise InputError(f"checkpoint: {key!r} has shape {tuple(state[key].shape)}, want {ndim} dimensions")
    return state[key].shape
