"""The masks to start from."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from sw_sparse import distributions
from sw_sparse.config import SparsityConfig
from sw_sparse.scores import magnitude, snip
from sw_sparse.selection import best_per_block
from sw_sparse.targets import SparseLayer, plain_name
from sw_sparse.updates import UPDATE_RULES


def gradients_of_one_batch(
    loss: Callable[[nn.Module], Tensor] | None, model: nn.Module, layers: Sequence[SparseLayer]
) -> dict[str, Tensor]:
    """Return every sparse weight's gradient, from a copy of the model, so that nothing of the original moves.

    Raises:
        ValueError: if there is no loss, or if it does not depend on a weight.
    """
    if loss is None:
        raise ValueError("loss: distribution='snip' needs gradients, want a function (model) -> loss of one batch")
    while isinstance(model, nn.parallel.DistributedDataParallel):
        model = model.module
    twin = copy.deepcopy(model)
    twin.zero_grad(set_to_none=True)
    gpus = {p.device for p in twin.parameters() if p.device.type == "cuda"}
    with torch.enable_grad(), torch.random.fork_rng(devices=gpus):
        loss(twin).backward()
    found = {plain_name(name): p.grad for name, p in twin.named_parameters(remove_duplicate=False)}
    gradients = {}
    for layer in layers:
        for name in layer.weights:
            gradient = found[name]
            if gradient is None:
                raise ValueError(f"loss: it does not depend on {name}")
            gradients[name] = gradient
    return gradients


def set_counts(layers: Sequence[SparseLayer], config: SparsityConfig, gradients: Mapping[str, Tensor]) -> None:
    """Set each layer's ``counts``: how many units of its blocks are to be on in the end."""
    per_block = layers[0].granularity.kept_per_block
    if config.initialisation == "nonzero":
        for layer in layers:
            layer.counts = _nonzero(layer).sum(1).cpu()
    elif per_block is not None:
        for layer in layers:
            layer.counts = torch.full((len(layer.active[0]),), per_block, device="cpu")
    else:
        density, sizes = 1 - config.off, {layer.name: layer.active[0].numel() for layer in layers}
        if config.distribution == "erk":
            kept = distributions.erk(sizes, {layer.name: layer.shape for layer in layers}, density)
        elif config.distribution == "snip":
            kept = distributions.snip({layer.name: _sensitivity(layer, gradients) for layer in layers}, density)
        else:
            kept = distributions.uniform(sizes, density)
        for layer in layers:
            layer.counts = torch.tensor([kept[layer.name]], device="cpu")


def first_masks(
    layer: SparseLayer, config: SparsityConfig, gradients: Mapping[str, Tensor], generator: torch.Generator
) -> list[Tensor]:
    """Return one mask per path; parallel paths start with the same one."""
    if UPDATE_RULES[config.update].starts_dense:
        return layer.active
    if config.initialisation == "nonzero":
        mask = _nonzero(layer)
    else:
        if config.initialisation == "random":
            scores = torch.rand(layer.active[0].shape, generator=generator, device="cpu").to(layer.active[0].device)
        elif gradients:
            scores = _sensitivity(layer, gradients)
        else:
            scores = torch.stack(layer.scores([magnitude(weight) for weight in layer.parameters])).sum(0)
        mask = best_per_block(scores, layer.counts)
    return [mask] * len(layer.paths)


def _sensitivity(layer: SparseLayer, gradients: Mapping[str, Tensor]) -> Tensor:
    """SNIP scores of the units, summed over the paths."""
    return torch.stack(layer.scores([snip(w, gradients[name]) for name, w in layer.weights.items()])).sum(0)


def _nonzero(layer: SparseLayer) -> Tensor:
    """Units that hold any weight other than 0, in any path."""
    return torch.stack(layer.scores([(weight != 0).float() for weight in layer.parameters])).any(0)
