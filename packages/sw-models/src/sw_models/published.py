"""Reads the checkpoints of the published code into this package's models.

The published files hold neither the shift tables nor the split of the channels: both are drawn again here. Nor do they
tell the kernel sizes (51 and 50 both make 17 slots of 3), so those are arguments. Everything else is in the shapes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sw_models.checkpoint import read_state_dict
from sw_models.features import NormedFeatures
from sw_models.shiftwise import ShiftwiseNet
from sw_models.shiftwise_coordatt import ShiftwiseCoordAttNet
from sw_models.shiftwise_v1 import ShiftwiseV1Net
from sw_models.staged import StagedNet
from sw_ops import ChannelSplit, ShiftwiseConv2d, slot_count

_BLOCK = r"stages\.(\d+)\.(\d+)\."
_OURS = r"stages.\1.blocks.\2."
_OVERLAPPING = {
    r"downsample_layers\.0\.0\.": "stem.conv1.",
    r"downsample_layers\.0\.1\.": "stem.norm1.",
    r"downsample_layers\.0\.3\.": "stem.conv2.",
    r"downsample_layers\.0\.4\.": "stem.norm2.",
    r"downsample_layers\.([1-3])\.0\.": r"stages.\1.downsample.conv.",
    r"downsample_layers\.([1-3])\.1\.": r"stages.\1.downsample.norm.",
}
_PATCHES = {
    r"downsample_layers\.0\.0\.": "stem.conv.",
    r"downsample_layers\.0\.1\.": "stem.norm.",
    r"downsample_layers\.([1-3])\.0\.": r"stages.\1.downsample.norm.",
    r"downsample_layers\.([1-3])\.1\.": r"stages.\1.downsample.conv.",
}
_COMMON = {
    _BLOCK + r"gamma$": _OURS + "gamma",
    _BLOCK + r"large_kernel\.LoRAs\.(\d+)\.weight$": _OURS + r"conv.weights.\3",
    _BLOCK + r"large_kernel\.LoRA\.weight$": _OURS + "conv.weights.0",
    _BLOCK + r"large_kernel\.bn_lora1\.": _OURS + "conv.norm_horizontal.",
    _BLOCK + r"large_kernel\.bn_lora2\.": _OURS + "conv.norm_vertical.",
    _BLOCK + r"large_kernel\.bn_small\.": _OURS + "conv.norm_identity.",
    _BLOCK + r"norm\.": _OURS + "norm.",
    r"norm\.": "head.norm.",
    r"head\.": "head.fc.",
    r"norm([0-3])\.": r"norms.\1.",
}
_RESPONSE_NORM_MLP = {
    _BLOCK + r"pwconv1\.1\.": _OURS + "expand.",
    _BLOCK + r"act\.1\.gamma$": _OURS + "grn.weight",
    _BLOCK + r"act\.1\.beta$": _OURS + "grn.bias",
    _BLOCK + r"pwconv2\.0\.": _OURS + "project.",
    _BLOCK + r"pwconv2\.2\.": _OURS + "project_norm.",
}


@dataclass(frozen=True)
class _Family:
    """One of the published architectures: our class for it, our names for its keys, its split of the channels."""

    network: type[StagedNet]
    renames: dict[str, str]
    even_split: bool


_V1 = _Family(
    ShiftwiseV1Net,
    {**_PATCHES, **_COMMON, _BLOCK + r"pwconv1\.": _OURS + "expand.", _BLOCK + r"pwconv2\.": _OURS + "project."},
    even_split=False,
)
_V2 = _Family(
    ShiftwiseNet,
    {
        **_OVERLAPPING,
        **_COMMON,
        **_RESPONSE_NORM_MLP,
        _BLOCK + r"se\.down\.": _OURS + "se.fc1.",
        _BLOCK + r"se\.up\.": _OURS + "se.fc2.",
    },
    even_split=True,
)
_COORDATT = _Family(
    ShiftwiseCoordAttNet,
    {
        **_OVERLAPPING,
        **_COMMON,
        **_RESPONSE_NORM_MLP,
        _BLOCK + r"attention\.conv1\.": _OURS + "attention.reduce.",
        _BLOCK + r"attention\.bn1\.": _OURS + "attention.norm.",
        _BLOCK + r"attention\.conv_h\.": _OURS + "attention.rows.",
        _BLOCK + r"attention\.conv_w\.": _OURS + "attention.columns.",
        _BLOCK + r"local_dw\.1\.": _OURS + "local_conv.",
        _BLOCK + r"local_dw\.2\.": _OURS + "local_norm.",
    },
    even_split=True,
)
_OUR_TABLE = re.compile(r"\.conv\.(slots_\w+|rep_channels|ghost_channels)$")
_TABLE_KEY = re.compile(_BLOCK + r"large_kernel\.(?:\w+\.)*(rep|ghost|pad_hv|idx_identit|idx_out)1?$")


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
        ValueError: an argument or a key that does not fit; the message names it.
    """
    state = _without_encoder(read_state_dict(source))
    if not is_published(state):
        first = next(iter(state))
        raise ValueError(f"checkpoint: {first!r} is no key of a published ShiftWise network (downsample_layers...)")
    family = _family(state)
    arguments = _infer_arguments(state, family, tuple(kernel_sizes), small_kernel)
    network: Any = family.network
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


def _family(state: Mapping[str, Any]) -> _Family:
    if any(".attention." in key for key in state):
        return _COORDATT
    return _V2 if any(".se." in key for key in state) else _V1


def is_published(state: Mapping[str, Any]) -> bool:
    """Tell whether the names in ``state`` are those of the published code."""
    return any(key.startswith("downsample_layers.") for key in state)


def convert_published(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Return a published state dict under the names and in the shapes of ``model``, with the tables of ``model``.

    Raises:
        ValueError: a key or block that ``model`` has and ``state`` lacks, or the reverse; a shape or a stored index
            table that differs. The message names it.
    """
    wanted = model.state_dict()
    prefix = "backbone." if isinstance(model, NormedFeatures) else ""
    renames = _family(state).renames
    published = {}
    for key in state:
        if _TABLE_KEY.match(key):
            continue
        name = _rename(key, renames)
        published[name if name.startswith("norms.") else prefix + name] = key
    tables = {name for name in wanted if _OUR_TABLE.search(name)}
    missing, unexpected = wanted.keys() - published.keys() - tables, published.keys() - wanted.keys()
    if missing:
        raise ValueError(f"checkpoint: lacks {_summary(missing)}, which the model has")
    if unexpected:
        raise ValueError(f"checkpoint: has {_summary(unexpected)}, which the model lacks")
    _check_stored_tables(state, model)
    converted = {name: _reshaped(key, state[key], wanted[name].shape) for name, key in published.items()}
    return converted | {name: wanted[name] for name in tables}


def _rename(key: str, renames: Mapping[str, str]) -> str:
    for pattern, replacement in renames.items():
        name, found = re.subn("^" + pattern, replacement, key)
        if found:
            return name
    raise ValueError(f"checkpoint: {key!r} is no key of a published ShiftWise network")


def _summary(names: set[str]) -> str:
    """Name whole blocks where blocks are concerned, else the parameters."""
    blocks = sorted({m.group() for name in names if (m := re.match(r".*stages\.\d+\.blocks\.\d+", name))})
    listed = blocks or sorted(names)
    return ", ".join(listed[:6]) + (f" and {len(listed) - 6} more" if len(listed) > 6 else "")


def _reshaped(key: str, value: Tensor, shape: torch.Size) -> Tensor:
    """Turn linear layers into 1x1 convolutions and ``[1, 1, 1, C]`` into ``[C]``; nothing else may change."""
    if [n for n in value.shape if n != 1] != [n for n in shape if n != 1]:
        raise ValueError(f"checkpoint: {key!r} has shape {tuple(value.shape)}, the model wants {tuple(shape)}")
    return value.reshape(shape)


def _check_stored_tables(state: Mapping[str, Tensor], model: nn.Module) -> None:
    """Compare index tables, which some versions of the published code may have stored, with those drawn here."""
    network = model.backbone if isinstance(model, NormedFeatures) else model
    for key, value in state.items():
        found = _TABLE_KEY.match(key)
        if not found:
            continue
        stage, block, kind = found.groups()
        layer: Any = network.get_submodule(f"stages.{stage}.blocks.{block}.conv")
        expected = _published_index(layer, kind)
        if not torch.equal(value.long().flatten(), expected.long().flatten()):
            raise ValueError(f"checkpoint: {key!r} is not the published table of kernel_sizes, small_kernel and n_rep")


def _published_index(layer: ShiftwiseConv2d, kind: str) -> Tensor:
    if kind in ("rep", "ghost"):
        return layer.rep_channels if kind == "rep" else layer.ghost_channels
    pad_hv, idx_identit = layer.table.to_published()
    if kind == "idx_out":
        return torch.arange(len(pad_hv)) // layer.table.slots
    return pad_hv if kind == "pad_hv" else idx_identit


def _infer_arguments(
    state: Mapping[str, Tensor], family: _Family, kernel_sizes: tuple[int, ...], small_kernel: int
) -> dict[str, Any]:
    """Read the arguments of the family's network from the shapes."""
    depths = _infer_depths(state)
    if len(kernel_sizes) != len(depths):
        raise ValueError(f"kernel_sizes: got {len(kernel_sizes)} values, want {len(depths)}, one per stage")
    dims: list[int] = []
    rep: list[int] = []
    for stage, kernel_size in enumerate(kernel_sizes):
        layer = f"stages.{stage}.0.large_kernel."
        key = layer + ("LoRA.weight" if layer + "LoRA.weight" in state else "LoRAs.0.weight")
        filters, _, width, _ = _shape(state, key, 4)
        if width != small_kernel:
            raise ValueError(f"small_kernel: got {small_kernel}, but {key!r} has kernels of {width}")
        dims += _shape(state, f"stages.{stage}.0.gamma", 1)
        rep += _shape(state, layer + "bn_lora1.weight", 1)
        slots = slot_count(kernel_size, small_kernel)
        if filters != rep[-1] * slots:
            raise ValueError(
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
        "ghost_ratio": _infer_ghost_ratio(dims, rep, family.even_split),
        "n_path": paths or 1,
    }


def _infer_depths(state: Mapping[str, Tensor]) -> tuple[int, ...]:
    blocks = {(int(m[1]), int(m[2])) for key in state if (m := re.match(_BLOCK, key))}
    depths = tuple(1 + max(block for stage, block in blocks if stage == s) for s in sorted({s for s, _ in blocks}))
    gaps = [f"stages.{s}.{b}" for s, depth in enumerate(depths) for b in range(depth) if (s, b) not in blocks]
    if gaps:
        raise ValueError(f"checkpoint: lacks {', '.join(gaps)}")
    return depths


def _infer_ghost_ratio(dims: Sequence[int], rep: Sequence[int], even: bool) -> float:
    """Find a ratio that splits every stage as the shapes say; the published one comes first."""
    for percent in (23, *range(100)):
        if all(_processed(dim, percent / 100, even) == n for dim, n in zip(dims, rep, strict=True)):
            return percent / 100
    raise ValueError(f"checkpoint: no ghost_ratio processes {list(rep)} of {list(dims)} channels")


def _processed(channels: int, ghost_ratio: float, even: bool) -> int:
    return len(ChannelSplit.published(channels, ghost_ratio, even=even).rep)


def _shape(state: Mapping[str, Tensor], key: str, ndim: int) -> torch.Size:
    if key not in state:
        raise ValueError(f"checkpoint: lacks {key!r}")
    if state[key].ndim != ndim:
        raise ValueError(f"checkpoint: {key!r} has shape {tuple(state[key].shape)}, want {ndim} dimensions")
    return state[key].shape
