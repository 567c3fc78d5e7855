"""From a model with units that are off to a smaller one without them, which computes the same."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from sw_models.checkpoints.tensor_file import read_tensor_file, write_tensors
from sw_models.errors import InputError
from sw_ops import FusedShiftwiseConv2d, ShiftwiseConv2d
from sw_ops.constants import ConstantTensors
from sw_sparse.axes import AxisGroup, trace_axes
from sw_sparse.units import example_inputs, response_norms, unwrapped

KEY = "compact"
"""The entry of a file's metadata that tells how a compact model differs from its architecture."""
TOLERANCE = 1e-4
"""Largest difference of outputs, as a share of the largest, before a compact model is refused: far above rounding."""


@dataclass(frozen=True)
class Width:
    """How many units of a layer are left."""

    layer: str
    """The weight that makes them."""
    before: int
    after: int


def compact(model: nn.Module, inputs: Sequence[Any] | None = None) -> nn.Module:
    """Return a smaller copy of ``model`` without the units that are off: those that are 0 in all their parameters.

    It is a plain model of fewer channels, which trains, exports and deploys like the one it comes from. Shift-wise
    layers have one set of small kernels in it, the sum of their parallel ones, and copy the channels of which all is 0.
    A global response norm divides by the mean over its channels, those that are gone included; that is kept exactly by
    a larger weight and epsilon, since ``w * n / (m * r + eps)`` is ``(w / r) * n / (m + eps / r)``.

    Args:
        model: any module whose graph can be traced, in training or deployed form; it is left alone.
        inputs: arguments of the model, by whose shapes it is traced and with which the copy is checked; models of timm
            need none.

    Raises:
        ValueError: for a model that cannot be traced, or a copy that does not compute the same.
    """
    model = unwrapped(model)
    inputs = example_inputs(model) if inputs is None else inputs
    smaller = copy.deepcopy(model)
    for name, layer in list(smaller.named_modules()):
        if isinstance(layer, ShiftwiseConv2d):
            smaller = _with_submodule(smaller, name, layer.merged())
    kept = {group: on for group in trace_axes(smaller, inputs) if (on := _units_on(group, smaller)) is not None}
    tensors = dict(_state(smaller))
    for group, on in kept.items():
        for name, dim in group.places:
            tensors[name] = tensors[name].index_select(dim, on.to(tensors[name].device))
    epsilons = _divide_by_old_widths(smaller, kept, tensors)
    _resize(smaller, tensors, epsilons)
    _verify(model, smaller, inputs)
    return smaller


def widths(model: nn.Module, smaller: nn.Module) -> list[Width]:
    """Return how many outputs each weight of a model has, and how many of them a compact copy."""
    before, after = _widths(unwrapped(model)), _widths(smaller)
    return [Width(name, before[name], after[name]) for name in after]


def save_compact(model: nn.Module, path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a model that :func:`compact` returned to a safetensors file, atomically.

    Args:
        model: the compact model.
        path: the file.
        metadata: further entries of its metadata.
    """
    write_tensors(path, stored(model), {**(metadata or {}), KEY: describe(model)})


def stored(model: nn.Module) -> dict[str, Tensor]:
    """Return the state dict of a compact model without the tables that its architecture brings along."""
    tables = {name for name, _ in _tables(model)}
    return {name: tensor for name, tensor in model.state_dict().items() if name not in tables}


def describe(model: nn.Module) -> str:
    """Return, as JSON, what the tensors of a compact model do not tell: the widths for people, the rest for us."""
    return json.dumps(
        {
            "widths": _widths(model),
            "epsilons": {norm.epsilon: _attribute(model, norm.epsilon) for norm in response_norms(model)},
            "tables": _digest_of_tables(model),
        }
    )


def load_compact(path: Path, model: nn.Module) -> nn.Module:
    """Turn a model into the compact one that a file of :func:`save_compact` holds, in place, and return it.

    Args:
        path: the file.
        model: the architecture that was compacted, at its full width, in the same form.

    Raises:
        InputError: for a file that is no compact model's, or one of another architecture; the message names it.
    """
    tensors, metadata = read_tensor_file(path)
    if KEY not in metadata:
        raise InputError(f"{path}: holds no compact model, want a file of save_compact or sw-sparse compact")
    try:
        fit(model, tensors, metadata[KEY])
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    return model


def fit(model: nn.Module, tensors: Mapping[str, Tensor], description: str) -> None:
    """Give a model of full width a compact one's widths, epsilons and tensors, in place.

    Raises:
        ValueError: where the tensors are of another architecture.
    """
    told, narrowed = json.loads(description), set()
    for prefix, module in _constant_holders(model):
        if isinstance(module, ShiftwiseConv2d):
            module.weights = module.weights[:1]
        trained = dict(module.named_parameters(recurse=False))
        inside = {name.rpartition(".")[2]: name for name in tensors if name.rpartition(".")[0] == prefix}
        if constants := {leaf: tensors[name] for leaf, name in inside.items() if leaf not in trained}:
            module.set_constants(**constants)
            narrowed.add(prefix)
    here = stored(model)
    if differing := here.keys() ^ tensors.keys():
        raise ValueError(f"model: it and the file do not both have {min(differing)}")
    for name, tensor in tensors.items():
        full, narrow = tuple(here[name].shape), tuple(tensor.shape)
        if name.rpartition(".")[0] in narrowed:
            continue  # a layer that copies more channels than its architecture says
        if len(full) != len(narrow) or any(a < b for a, b in zip(full, narrow, strict=True)):
            raise ValueError(f"model: {name} has shape {full}, and {narrow} in the file")
    if told["tables"] != _digest_of_tables(model):
        raise ValueError(
            "model: it shifts otherwise than the file's, want the same kernel sizes, shuffles and table_seed"
        )
    _resize(model, {name: tensors.get(name, value).to(value) for name, value in _state(model)}, told["epsilons"])
    model.load_state_dict(tensors, strict=False)  # the tables are its own


def _tables(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Return the constants of the shift-wise layers that copy no more channels than their architecture says."""
    return [
        (f"{prefix}.{leaf}".lstrip("."), getattr(module, leaf))
        for prefix, module in model.named_modules()
        if isinstance(module, ShiftwiseConv2d | FusedShiftwiseConv2d) and module.channel_order is None
        for leaf in module.constants
    ]


def _digest_of_tables(model: nn.Module) -> str:
    """Return what tells apart models that shift otherwise, which the shapes of their tensors do not show."""
    reaches = {
        name: getattr(layer, "kernel_size", None) or layer.anchor
        for name, layer in _constant_holders(model)
        if hasattr(layer, "kernel_size") or hasattr(layer, "anchor")  # a stage orders channels, and shifts none
    }
    total = hashlib.sha256(json.dumps(reaches, sort_keys=True).encode())
    for name, table in _tables(model):
        total.update(name.encode() + table.cpu().numpy().tobytes())
    return total.hexdigest()


def _constant_holders(model: nn.Module) -> list[tuple[str, Any]]:
    return [(name, module) for name, module in model.named_modules() if isinstance(module, ConstantTensors)]


def _widths(model: nn.Module) -> dict[str, int]:
    """Return how many units every weight makes; slots are no units, their channel is."""
    layers = [module for module in model.modules() if isinstance(module, ShiftwiseConv2d)]
    slots = {id(weight): layer.slots_horizontal.shape[2] for layer in layers for weight in layer.weights}
    return {n: len(w) // slots.get(id(w), 1) for n, w in model.named_parameters() if w.ndim > 1}


def _with_submodule(model: nn.Module, name: str, module: nn.Module) -> nn.Module:
    if not name:
        return module
    model.set_submodule(name, module)
    return model


def _state(model: nn.Module) -> list[tuple[str, Tensor]]:
    return [*model.named_parameters(), *model.named_buffers()]


def _units_on(group: AxisGroup, model: nn.Module) -> Tensor | None:
    """Return the numbers of the units that are not 0, or None where all are to stay."""
    if group.blocked or not group.consumers or len(response_norms(model, group)) != group.means:
        return None
    parameters = dict(model.named_parameters())
    on = torch.zeros(group.size, dtype=torch.bool, device="cpu")
    for name, dim in group.places:
        if name in parameters:
            on |= parameters[name].detach().movedim(dim, 0).reshape(group.size, -1).any(1).cpu()
    if on.all():
        return None
    on[0] |= not on.any()  # a layer without any could not be built
    return on.nonzero().flatten()


def _divide_by_old_widths(
    model: nn.Module, kept: Mapping[AxisGroup, Tensor], tensors: dict[str, Tensor]
) -> dict[str, float]:
    """Scale the response norms' weights, and return their epsilons by module."""
    epsilons = {}
    for group, on in kept.items():
        for norm in response_norms(model, group):
            gone = group.size / len(on)
            tensors[norm.weight] = tensors[norm.weight] * gone
            epsilons[norm.epsilon] = _attribute(model, norm.epsilon) * gone
    return epsilons


def _resize(model: nn.Module, tensors: Mapping[str, Tensor], epsilons: Mapping[str, float]) -> None:
    """Put tensors of other sizes in place, under all names of each, and tell the modules their widths."""
    new: dict[int, Tensor] = {}
    for name, old in _state(model):
        if tensors[name].shape != old.shape:
            resized = tensors[name].detach().clone()
            new[id(old)] = nn.Parameter(resized, old.requires_grad) if isinstance(old, nn.Parameter) else resized
    for module in model.modules():
        for leaf, old in [*module.named_parameters(recurse=False, remove_duplicate=False),
                          *module.named_buffers(recurse=False, remove_duplicate=False)]:  # fmt: skip
            if id(old) in new:
                setattr(module, leaf, new[id(old)])
        _tell_width(module)
    for name, value in epsilons.items():
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, value)


def _tell_width(module: nn.Module) -> None:
    """Set the attributes that repeat what the weight's shape says."""
    weight: Any = getattr(module, "weight", None)
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = weight.shape
    elif isinstance(module, nn.modules.conv._ConvNd):
        inputs, outputs = weight.shape[:2] if module.transposed else reversed(weight.shape[:2])
        if module.groups > 1:  # depthwise, or of the size that it was
            module.groups = inputs = outputs if module.groups == module.out_channels else module.groups
            inputs = module.in_channels if module.groups != outputs else outputs
        module.in_channels, module.out_channels = inputs, outputs
    elif isinstance(module, nn.modules.batchnorm._NormBase) and weight is not None:
        module.num_features = len(weight)


def _attribute(model: nn.Module, name: str) -> Any:
    parent, _, leaf = name.rpartition(".")
    return getattr(model.get_submodule(parent), leaf)


@torch.no_grad()
def _verify(model: nn.Module, smaller: nn.Module, inputs: Sequence[Any]) -> None:
    """Raise a ValueError if the two differ on random inputs."""
    device = next(model.parameters()).device
    generator = torch.Generator("cpu").manual_seed(0)

    def drawn(x: Any) -> Any:
        if isinstance(x, Tensor) and x.is_floating_point():
            return torch.randn(x.shape, generator=generator, device="cpu").to(device, x.dtype)
        return x.to(device) if isinstance(x, Tensor) else x

    inputs = [drawn(x) for x in inputs]
    outputs = []
    for network in (model, smaller):
        training = {module: module.training for module in network.modules()}
        outputs.append([y for y in tree_leaves(network.eval()(*inputs)) if isinstance(y, Tensor)])
        for module, mode in training.items():
            module.training = mode
    for expected, actual in zip(*outputs, strict=True):
        difference = float((actual - expected).abs().max() / expected.abs().max().clamp_min(1e-30))
        if not difference < TOLERANCE:
            raise ValueError(
                f"model: the compact {type(model).__name__} computes something else (by {difference:.1e}); its code "
                f"depends on widths that the graph does not show"
            )
