"""Networks as they run: without the batch norms that the convolutions before them can do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, TypeVar, cast

import torch
from timm.layers import BatchNormAct2d
from timm.utils import reparameterize_model
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

Network = TypeVar("Network", bound=nn.Module)


def folded(network: Network) -> Network:
    """Return a copy in evaluation mode, channels last, whose branches and batch norms are part of its convolutions."""
    copy = cast(Network, reparameterize_model(network).eval())
    for module in list(copy.modules()):
        for conv, norm in list(_pairs(module)):
            after: Any = module.get_submodule(norm)
            module.set_submodule(conv, fuse_conv_bn_eval(cast(nn.Conv2d, module.get_submodule(conv)), after))
            left = nn.Sequential(after.drop, after.act) if isinstance(after, BatchNormAct2d) else nn.Identity()
            module.set_submodule(norm, left)
    return copy.to(memory_format=torch.channels_last)


def _pairs(module: nn.Module) -> Iterator[tuple[str, str]]:
    """Give the names of convolutions in a module and of the batch norms that alone read what comes of them."""
    if not any(_can_be_folded(child) for child in module.children()):
        return
    try:
        graph = _Tracer().trace(module)
    except Exception:  # whatever a foreign network does that symbols cannot: it stays as it is
        return
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    for node in graph.nodes:
        if node.op != "call_module" or not _can_be_folded(module.get_submodule(node.target)):
            continue
        before = node.args[0]
        reads_a_convolution = before.op == "call_module" and isinstance(module.get_submodule(before.target), nn.Conv2d)
        if reads_a_convolution and len(before.users) == calls[before.target] == calls[node.target] == 1:
            yield before.target, node.target


def _can_be_folded(module: nn.Module) -> bool:
    known = type(module) in (nn.BatchNorm2d, BatchNormAct2d)
    return known and getattr(module, "running_mean", None) is not None and getattr(module, "weight", None) is not None


class _Tracer(torch.fx.Tracer):
    """Follows what a module does with those in it, not what these do."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module is one step."""
        return True
