"""Granularities whose units lie in several parameters.

A "unit" is an output of a layer with everything that belongs to it, found from the model's graph; a "channel" is one of
a shift-wise layer with all its slots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sw_ops import ShiftwiseConv2d
from sw_sparse import distributed
from sw_sparse.axes import AxisGroup, trace_axes
from sw_sparse.config import SparsityConfig
from sw_sparse.granularity import Filter
from sw_sparse.targets import SparseLayer, unsuited, wanted

_STATISTICS = {"running_mean": 0.0, "running_var": 1.0}
"""Buffers that may belong to a unit, and what they start from."""


@dataclass(frozen=True)
class ResponseNorm:
    """A global response norm, which takes a mean over units, by the names of what it holds."""

    weight: str
    """The parameter."""
    epsilon: str
    """The attribute that is added to the mean."""


_RESPONSE_NORMS = {  # by class, timm's among them: what they call their weight and their epsilon
    "GlobalResponseNorm": ("weight", "eps"),
    "ResponseNorm": ("weight", "eps"),
    "FusedShiftwiseBlock": ("grn_weight", "grn_eps"),
}


def response_norms(model: nn.Module, group: AxisGroup | None = None) -> list[ResponseNorm]:
    """Return the global response norms of a model, or those over one group's units."""
    norms = [
        ResponseNorm(*(f"{name}.{leaf}" if name else leaf for leaf in _RESPONSE_NORMS[type(module).__name__]))
        for name, module in model.named_modules()
        if type(module).__name__ in _RESPONSE_NORMS
    ]
    return norms if group is None else [norm for norm in norms if (norm.weight, 0) in group.places]


@dataclass
class UnitLayer(SparseLayer):
    """Units that have one mask over all parameters that they lie in.

    ``weights`` holds these parameters. A parameter may be in two layers: its outputs are units of one, and its inputs
    of another.
    """

    slices: dict[str, tuple[Filter, ...]] = field(default_factory=dict)
    """By name, where the units lie in each parameter: in two dimensions where a layer feeds itself."""
    outgoing: dict[str, Filter] = field(default_factory=dict)
    """By name, where the units act on the rest of the model. A unit that grows starts with 0 there: it is there, but
    does nothing, until its gradient moves it."""
    statistics: dict[str, Tensor] = field(default_factory=dict)
    """Batch norms' statistics, ``[units]`` each."""

    @property
    def paths(self) -> list[str]:
        """All parameters have one mask."""
        return [self.name]

    def scores(self, values: Sequence[Tensor]) -> list[Tensor]:
        """Average over all weights of a unit; vectors have too few to count."""
        total, weights = torch.zeros((), device=values[0].device), 0
        for (name, slices), value in zip(self.slices.items(), values, strict=True):
            if sum(size > 1 for size in self.weights[name].shape) > 1:
                for along in slices:
                    total = total + along.units(value) * value.numel()
                    weights += value.numel()
        return [torch.nan_to_num(total / weights)]

    def spread(self, active: Sequence[Tensor]) -> list[Tensor]:
        """Return the mask of what is on, parameter by parameter."""
        (mask,) = active
        spread = []
        for name, slices in self.slices.items():
            first, *more = (along.mask(mask, self.weights[name].shape) for along in slices)
            for other in more:
                first = first & other
            spread.append(first)
        return spread


def find_units(
    model: nn.Module, optimizer: torch.optim.Optimizer, config: SparsityConfig, inputs: Sequence[Any] | None
) -> tuple[list[SparseLayer], dict[str, str]]:
    """Return the layers whose units can be switched off, and why each other one that was meant cannot.

    Args:
        model: the model.
        optimizer: its optimizer.
        config: what is meant: the weights whose outputs are to be units.
        inputs: arguments of the model to trace it with; images of its usual size where it is one of timm's.

    Raises:
        ValueError: for a model that cannot be traced, or where nothing is left.
        TypeError: where a parameter is sharded.
    """
    model = unwrapped(model)
    optimized = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if config.granularity == "channel":
        layers, skipped = _find_channels(model, optimized, config)
    else:
        layers, skipped = _find_outputs(model, optimized, config, example_inputs(model) if inputs is None else inputs)
    if not layers:
        seen = "; ".join(f"{name}: {reason}" for name, reason in skipped.items()) or "no weight's outputs match"
        raise ValueError(f"targets: no {config.granularity}s for {config.targets!r} ({seen})")
    return layers, skipped


def _find_outputs(
    model: nn.Module, optimized: set[int], config: SparsityConfig, inputs: Sequence[Any]
) -> tuple[list[SparseLayer], dict[str, str]]:
    parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    layers: list[SparseLayer] = []
    skipped: dict[str, str] = {}
    for group in trace_axes(model, inputs):
        makers = [name for name, _ in group.producers if wanted(name, parameters[name], config)]
        if not makers:
            continue
        if len(response_norms(model, group)) != group.means:
            skipped |= dict.fromkeys(makers, "a mean is taken over its outputs")
        elif reason := _obstacle(group, parameters, optimized):
            skipped |= dict.fromkeys(makers, reason)
        else:
            layers.append(_unit_layer(group, parameters, buffers))
    return layers, skipped


def _find_channels(
    model: nn.Module, optimized: set[int], config: SparsityConfig
) -> tuple[list[SparseLayer], dict[str, str]]:
    """Find the shift-wise layers' channels: their slots in all parallel paths and their entries of the three norms.

    With these at 0 a layer puts out what it takes in there, in training too: a ghost channel.
    """
    layers: list[SparseLayer] = []
    skipped: dict[str, str] = {}
    for prefix, module in model.named_modules():
        if not isinstance(module, ShiftwiseConv2d):
            continue
        named = [(f"{prefix}.{leaf}".lstrip("."), tensor) for leaf, tensor in _processing(module)]
        kernels = [name for name, tensor in named if tensor.ndim > 1]
        own = {name: tensor for name, tensor in named if isinstance(tensor, nn.Parameter)}
        if not any(wanted(name, own[name], config) for name in kernels):
            continue
        reasons = {name: unsuited(parameter, id(parameter) in optimized) for name, parameter in own.items()}
        if reason := next((f"{name} is {reason}" for name, reason in reasons.items() if reason), None):
            skipped[kernels[0]] = reason
            continue
        slots = Filter(each=module.slots_horizontal.shape[2])
        layers.append(
            UnitLayer(
                kernels[0],
                Filter(),
                own,
                slices={name: (slots if name in kernels else Filter(),) for name in own},
                outgoing={name: Filter() for name in own if name not in kernels},
                statistics={name: tensor for name, tensor in named if name not in own},
            )
        )
    return layers, skipped


def _processing(layer: ShiftwiseConv2d) -> list[tuple[str, Tensor]]:
    """Return what a shift-wise layer has for each channel that it processes, by name."""
    parts = {"weights": layer.weights, **{n: m for n, m in layer.named_children() if n.startswith("norm_")}}
    return [
        (f"{part}.{leaf}", tensor)
        for part, module in parts.items()
        for leaf, tensor in [*module.named_parameters(), *module.named_buffers()]
        if tensor.ndim
    ]


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside DDP, an averaged copy or torch.compile."""
    while isinstance(inner := getattr(model, "_orig_mod", getattr(model, "module", None)), nn.Module):
        model = inner
    return model


def example_inputs(model: nn.Module) -> tuple[Tensor]:
    """Return two images of the size that a model of timm was made for.

    Raises:
        ValueError: for another model, which does not tell.
    """
    model = unwrapped(model)
    settings: Any = getattr(model, "pretrained_cfg", None)
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    if not settings or "input_size" not in settings or first is None:
        raise ValueError(
            f"inputs: got none, but {type(model).__name__} does not tell what it takes; want its arguments"
        )
    size = getattr(getattr(model, "patch_embed", None), "img_size", None) or settings["input_size"][1:]
    return (torch.zeros(2, first.in_channels, *size, device="cpu"),)


def start_grown(
    layers: Sequence[UnitLayer], kept: Sequence[Tensor], generator: torch.Generator
) -> list[tuple[UnitLayer, Tensor]]:
    """Prepare the units that grew, and return them: bool ``[1, units]`` of each layer that has some.

    Args:
        layers: what was updated.
        kept: of each, which units were on before and after.
        generator: of the CPU, the first rank's counts.
    """
    born = [(layer, layer.active[0] & ~before) for layer, before in zip(layers, kept, strict=True)]
    born = [(layer, grown) for layer, grown in born if bool(grown.any())]
    for layer, grown in born:
        start_afresh(layer, grown, generator)
    for layer, grown in born:
        silence(layer, grown)
    return born


def start_afresh(layer: UnitLayer, born: Tensor, generator: torch.Generator) -> None:
    """Give units that grow what they compute with; what they act through is 0, so that nothing changes yet.

    At 0 on both sides a unit would have no gradient, ever. Weights are drawn with the mean and the spread of the other
    units' (as ReDo does with neurons that died, Sokar et al. 2023), the same on every rank.

    Args:
        layer: a layer whose units ``born`` are on, and 0.
        born: bool ``[1, units]``.
        generator: of the CPU, the first rank's counts.
    """
    others = layer.active[0] & ~born
    for name, weight in layer.weights.items():
        for along in layer.slices[name]:
            if layer.outgoing.get(name) == along:
                continue
            known = weight[along.mask(others, weight.shape).to(weight.device).expand_as(weight) & (weight != 0)]
            values = torch.randn(weight.shape, generator=generator, device="cpu").to(weight)
            if known.numel():
                values = values * known.std(correction=0) + known.mean()
            if distributed.is_distributed():
                distributed.broadcast_values(values)
            weight.copy_(torch.where(along.mask(born, weight.shape).to(weight.device), values, weight))
    for name, statistic in layer.statistics.items():
        statistic.masked_fill_(born[0].to(statistic.device), _STATISTICS[name.rpartition(".")[2]])


def silence(layer: UnitLayer, born: Tensor) -> None:
    """Set what units that grow act through to 0; after all layers' :func:`start_afresh`, which may have drawn there."""
    for name, along in layer.outgoing.items():
        weight = layer.weights[name]
        weight.masked_fill_(along.mask(born, weight.shape).to(weight.device), 0)


def _obstacle(group: AxisGroup, parameters: Mapping[str, nn.Parameter], optimized: set[int]) -> str | None:
    if group.blocked:
        return group.blocked
    if not group.consumers:
        return "no weight takes its outputs"
    for name, _ in group.places:
        if name not in parameters:
            if name.rpartition(".")[2] not in _STATISTICS:
                return f"{name} belongs to it, which is no parameter"
        elif reason := unsuited(parameters[name], id(parameters[name]) in optimized):
            return reason if (name, 0) in group.producers else f"{name} is {reason}"
    return None


def _unit_layer(group: AxisGroup, parameters: Mapping[str, nn.Parameter], buffers: Mapping[str, Tensor]) -> UnitLayer:
    slices: dict[str, tuple[Filter, ...]] = {}
    for name, dim in group.places:
        if name in parameters:
            slices[name] = (*slices.get(name, ()), Filter(dim=dim))
    first = group.producers[0][0]
    names = [first, *(name for name in slices if name != first)]
    return UnitLayer(
        first,
        Filter(),
        {name: parameters[name] for name in names},
        slices={name: slices[name] for name in names},
        outgoing={name: Filter(dim=dim) for name, dim in group.consumers},
        statistics={name: buffers[name] for name, _ in group.places if name in buffers},
    )
