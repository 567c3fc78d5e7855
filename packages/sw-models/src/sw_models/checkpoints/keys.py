"""The published code's names for parameters, and this package's; a state dict goes from the former to the latter."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sw_models.checkpoints.fit import want_same_names
from sw_models.errors import InputError
from sw_ops import ShiftwiseConv2d

Family = Literal["v1", "v2", "coordatt", "unireplknet", "slak"]
BLOCK = r"stages\.(\d+)\.(\d+)\."
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
    BLOCK + r"gamma$": _OURS + "gamma",
    BLOCK + r"norm\.": _OURS + "norm.",
    r"norm\.": "head.norm.",
    r"head\.": "head.fc.",
    r"norm([0-3])\.": r"norms.\1.",
}
_SLOTS = {
    BLOCK + r"large_kernel\.LoRAs\.(\d+)\.weight$": _OURS + r"conv.weights.\3",
    BLOCK + r"large_kernel\.LoRA\.weight$": _OURS + "conv.weights.0",
    BLOCK + r"large_kernel\.bn_lora1\.": _OURS + "conv.norm_horizontal.",
    BLOCK + r"large_kernel\.bn_lora2\.": _OURS + "conv.norm_vertical.",
    BLOCK + r"large_kernel\.bn_small\.": _OURS + "conv.norm_identity.",
}
_MLP = {BLOCK + r"pwconv1\.": _OURS + "expand.", BLOCK + r"pwconv2\.": _OURS + "project."}
_SQUEEZE_EXCITE = {BLOCK + r"se\.down\.": _OURS + "se.fc1.", BLOCK + r"se\.up\.": _OURS + "se.fc2."}
_RESPONSE_NORM_MLP = {
    BLOCK + r"pwconv1\.1\.": _OURS + "expand.",
    BLOCK + r"act\.1\.gamma$": _OURS + "grn.weight",
    BLOCK + r"act\.1\.beta$": _OURS + "grn.bias",
    BLOCK + r"pwconv2\.0\.": _OURS + "project.",
    BLOCK + r"pwconv2\.2\.": _OURS + "project_norm.",
}
_RENAMES: dict[Family, dict[str, str]] = {
    "v1": {**_PATCHES, **_COMMON, **_SLOTS, **_MLP},
    "v2": {**_OVERLAPPING, **_COMMON, **_SLOTS, **_RESPONSE_NORM_MLP, **_SQUEEZE_EXCITE},
    "slak": {
        **_PATCHES,
        **_COMMON,
        **_MLP,
        BLOCK + r"large_kernel\.(?:LoRA|Decom)1\.conv\.weight$": _OURS + "conv.vertical",
        BLOCK + r"large_kernel\.(?:LoRA|Decom)2\.conv\.weight$": _OURS + "conv.horizontal",
        BLOCK + r"large_kernel\.small_conv\.conv\.weight$": _OURS + "conv.square",
        BLOCK + r"large_kernel\.(?:LoRA|Decom)1\.bn\.": _OURS + "conv.norm_vertical.",
        BLOCK + r"large_kernel\.(?:LoRA|Decom)2\.bn\.": _OURS + "conv.norm_horizontal.",
        BLOCK + r"large_kernel\.small_conv\.bn\.": _OURS + "conv.norm_square.",
    },
    "unireplknet": {
        **_OVERLAPPING,
        **_COMMON,
        **_RESPONSE_NORM_MLP,
        **_SQUEEZE_EXCITE,
        BLOCK + r"dwconv\.lk_origin\.": _OURS + "conv.branches.0.0.",
        BLOCK + r"dwconv\.origin_bn\.": _OURS + "conv.branches.0.1.",
        # Its dilated kernels are numbered by their dilation.
        BLOCK + r"dwconv\.dil_conv_k\d+_(\d)\.": _OURS + r"conv.branches.\3.0.",
        BLOCK + r"dwconv\.dil_bn_k\d+_(\d)\.": _OURS + r"conv.branches.\3.1.",
        BLOCK + r"dwconv\.": _OURS + "conv.",
    },
    "coordatt": {
        **_OVERLAPPING,
        **_COMMON,
        **_SLOTS,
        **_RESPONSE_NORM_MLP,
        BLOCK + r"attention\.conv1\.": _OURS + "attention.reduce.",
        BLOCK + r"attention\.bn1\.": _OURS + "attention.norm.",
        BLOCK + r"attention\.conv_h\.": _OURS + "attention.rows.",
        BLOCK + r"attention\.conv_w\.": _OURS + "attention.columns.",
        BLOCK + r"local_dw\.1\.": _OURS + "local_conv.",
        BLOCK + r"local_dw\.2\.": _OURS + "local_norm.",
    },
}
_OUR_TABLE = re.compile(r"\.conv\.(slots_\w+|rep_channels|ghost_channels)$")
_TABLE_KEY = re.compile(BLOCK + r"large_kernel\.(?:\w+\.)*(rep|ghost|pad_hv|idx_identit|idx_out)1?$")


def is_published(state: Mapping[str, Any]) -> bool:
    """Tell whether the names in ``state`` are those of the published code."""
    return any(key.startswith("downsample_layers.") for key in state)


def published_family(state: Mapping[str, Any]) -> Family:
    """Tell which of the published architectures a state dict of theirs belongs to."""
    parts: dict[str, Family] = {
        ".attention.": "coordatt",
        ".dwconv.": "unireplknet",
        ".small_conv.": "slak",
        ".se.": "v2",
    }
    return next((family for part, family in parts.items() if any(part in key for key in state)), "v1")


def convert_published(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Return a published state dict under the names and in the shapes of ``model``, with the tables of ``model``.

    Raises:
        InputError: a key or block that ``model`` has and ``state`` lacks, or the reverse; a shape or a stored index
            table that differs. The message names it.
    """
    wanted = model.state_dict()
    prefix = "backbone." if any(name.startswith("backbone.") for name in wanted) else ""
    renames = _RENAMES[published_family(state)]
    published = {}
    for key in state:
        if _TABLE_KEY.match(key):
            continue
        name = _rename(key, renames)
        published[name if name.startswith("norms.") else prefix + name] = key
    tables = {name for name in wanted if _OUR_TABLE.search(name)}
    want_same_names(wanted.keys() - (tables - published.keys()), published, "checkpoint:")
    _check_stored_tables(state, model.get_submodule(prefix.rstrip(".")))
    converted = {name: _reshaped(key, state[key], wanted[name].shape) for name, key in published.items()}
    return converted | {name: wanted[name] for name in tables}


def _rename(key: str, renames: Mapping[str, str]) -> str:
    for pattern, replacement in renames.items():
        name, found = re.subn("^" + pattern, replacement, key)
        if found:
            return name
    raise InputError(f"checkpoint: {key!r} is no key of a published ShiftWise network")


def _reshaped(key: str, value: Tensor, shape: torch.Size) -> Tensor:
    """Turn linear layers into 1x1 convolutions and ``[1, 1, 1, C]`` into ``[C]``; nothing else may change."""
    if [n for n in value.shape if n != 1] != [n for n in shape if n != 1]:
        raise InputError(f"checkpoint: {key!r} has shape {tuple(value.shape)}, the model wants {tuple(shape)}")
    return value.reshape(shape)


def _check_stored_tables(state: Mapping[str, Tensor], network: nn.Module) -> None:
    """Compare index tables, which some versions of the published code may have stored, with those drawn here."""
    for key, value in state.items():
        found = _TABLE_KEY.match(key)
        if not found:
            continue
        stage, block, kind = found.groups()
        layer: Any = network.get_submodule(f"stages.{stage}.blocks.{block}.conv")
        expected = _published_index(layer, kind)
        if not torch.equal(value.long().flatten(), expected.long().flatten()):
            raise InputError(f"checkpoint: {key!r} is not the published table of kernel_sizes, small_kernel and n_rep")


def _published_index(layer: ShiftwiseConv2d, kind: str) -> Tensor:
    if kind in ("rep", "ghost"):
        return layer.rep_channels if kind == "rep" else layer.ghost_channels
    pad_hv, idx_identit = layer.table.to_published()
    if kind == "idx_out":
        return torch.arange(len(pad_hv)) // layer.table.slots
    return pad_hv if kind == "pad_hv" else idx_identit
