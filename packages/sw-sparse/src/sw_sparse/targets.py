"""Finding the parameters to make sparse, and holding their masks."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from sw_sparse.config import SparsityConfig
from sw_sparse.granularity import Granularity, parse_granularity

_WRAPPERS = ("module.", "_orig_mod.")


@dataclass
class SparseLayer:
    """One layer: its weights, one per parallel path, and which of their units are on (bool ``[blocks, size]``)."""

    name: str
    granularity: Granularity
    weights: dict[str, nn.Parameter]
    active: list[Tensor] = field(default_factory=list)
    explored: list[Tensor] = field(default_factory=list)
    counts: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64, device="cpu"))

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The weights, in the order of the paths."""
        return list(self.weights.values())

    @property
    def shape(self) -> torch.Size:
        """Shape of each path's weight."""
        return self.parameters[0].shape

    @property
    def paths(self) -> list[str]:
        """What has a mask of its own, by name."""
        return list(self.weights)

    def scores(self, values: Sequence[Tensor]) -> list[Tensor]:
        """Reduce values in the weights' shapes to finite scores of units, path by path.

        NaN is 0, it says nothing about a unit.
        """
        return [torch.nan_to_num(self.granularity.units(value)) for value in values]

    def spread(self, active: Sequence[Tensor]) -> list[Tensor]:
        """Return, weight by weight, the mask of what is on; it broadcasts against the weight."""
        return [self.granularity.mask(mask, self.shape) for mask in active]

    def switch(self, active: list[Tensor]) -> None:
        """Turn these units on, path by path, and all others off; weights are not touched."""
        self.active = [mask.clone() for mask in active]
        self.explored = [a | b for a, b in zip(self.explored, active, strict=True)] if self.explored else self.active
        self._off = [~mask for mask in self.spread(active)]

    def off(self) -> list[Tensor]:
        """Return, weight by weight, the mask of what is off; it broadcasts against the weight."""
        self._off = [off.to(w.device) for off, w in zip(self._off, self.parameters, strict=True)]
        return self._off

    def density(self) -> float:
        """Return the share of units that is on."""
        return sum(int(mask.sum()) for mask in self.active) / sum(mask.numel() for mask in self.active)

    def exploration(self) -> float:
        """Return the share of units that is or ever was on."""
        return sum(int(mask.sum()) for mask in self.explored) / sum(mask.numel() for mask in self.explored)


def plain_name(name: str) -> str:
    """Return a parameter's name without what DDP, an averaged copy or torch.compile put before it."""
    while name.startswith(_WRAPPERS):
        name = name.removeprefix("module.").removeprefix("_orig_mod.")
    return name


def find_layers(
    model: nn.Module, optimizer: torch.optim.Optimizer, config: SparsityConfig
) -> tuple[list[SparseLayer], dict[str, str]]:
    """Return the layers to make sparse, and why each other matching parameter was left out.

    Raises:
        ValueError: where nothing is left.
        TypeError: where a parameter is sharded.
    """
    granularity = parse_granularity(config.granularity)
    optimized = {id(p) for group in optimizer.param_groups for p in group["params"]}
    embedded = _sparsely_differentiated(model)
    layers: dict[str, SparseLayer] = {}
    skipped: dict[str, str] = {}
    for name, parameter in _matching(model, config):
        reason = _unsuited(parameter, granularity, id(parameter) in optimized, id(parameter) in embedded)
        if reason:
            skipped[name] = reason
            continue
        key = _name_of_paths(model, name) if granularity.shares_paths else plain_name(name)
        layer = layers.setdefault(key, SparseLayer(key, granularity, {}))
        if layer.weights and layer.shape != parameter.shape:
            raise ValueError(
                f"targets: {name} is a parallel path of {next(iter(layer.weights))} but has the shape "
                f"{tuple(parameter.shape)}, want {tuple(layer.shape)}"
            )
        layer.weights[plain_name(name)] = parameter
    if not layers:
        seen = "; ".join(f"{name}: {reason}" for name, reason in skipped.items()) or "no parameter matches"
        raise ValueError(f"targets: nothing to make sparse for {config.targets!r} ({seen})")
    return list(layers.values()), skipped


def _matching(model: nn.Module, config: SparsityConfig) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield every parameter once, tied ones under the first of their names, where any of their names matches."""
    names: dict[int, list[str]] = {}
    parameters: dict[int, nn.Parameter] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
        parameters[id(parameter)] = parameter
    for key, parameter in parameters.items():
        if any(wanted(plain_name(name), parameter, config) for name in names[key]):
            yield names[key][0], parameter


def wanted(name: str, parameter: nn.Parameter, config: SparsityConfig) -> bool:
    """Whether the targets mean a parameter of this plain name."""
    if callable(config.targets):
        return config.targets(name, parameter)
    patterns = (config.targets,) if isinstance(config.targets, str) else config.targets
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _sparsely_differentiated(model: nn.Module) -> set[int]:
    """Return the ids of the parameters whose gradients come as sparse tensors."""
    embeddings = [m for m in model.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)]
    return {id(embedding.weight) for embedding in embeddings if embedding.sparse}


def _unsuited(parameter: nn.Parameter, granularity: Granularity, optimized: bool, embedded: bool) -> str | None:
    if sum(size > 1 for size in parameter.shape) < 2:
        return "a vector"
    if reason := unsuited(parameter, optimized):
        return reason
    if embedded:
        return "its gradients are sparse tensors (sparse=True), masks need dense ones"
    if not bool(parameter.detach().count_nonzero()):
        return "all zero: nothing to rank, and what is off at 0 might never start"
    return granularity.unsuited(parameter.shape)


def unsuited(parameter: nn.Parameter, optimized: bool) -> str | None:
    """Return why no mask can be kept on a parameter, or None where one can.

    Raises:
        TypeError: where it is sharded.
    """
    if hasattr(parameter, "placements"):  # DTensor, what fully_shard makes of a parameter
        raise TypeError(
            "model: its parameters are sharded (fully_shard, tensor parallel); masks need whole weights, "
            "want DistributedDataParallel or a single process"
        )
    if not parameter.requires_grad:
        return "frozen"
    return None if optimized else "not in the optimizer"


def _name_of_paths(model: nn.Module, name: str) -> str:
    """Replace the number of a parallel path by ``*``: the last list of parameters or modules on the way to ``name``."""
    parts = name.split(".")
    for position in range(len(parts) - 1, 0, -1):
        if not parts[position].isdigit():
            continue
        if isinstance(model.get_submodule(".".join(parts[:position])), nn.ParameterList | nn.ModuleList):
            return plain_name(".".join([*parts[:position], "*", *parts[position + 1 :]]))
        break
    return plain_name(name)


def copies_of(layers: Sequence[SparseLayer], ema: nn.Module | None) -> dict[str, nn.Parameter]:
    """Find the averaged counterpart of every sparse weight."""
    if ema is None:
        return {}
    averaged = {plain_name(name): parameter for name, parameter in ema.named_parameters(remove_duplicate=False)}
    for layer in layers:
        for name in layer.weights:
            if name not in averaged:
                raise ValueError(f"ema: it has no parameter {name}, want an averaged copy of the model")
    return averaged
