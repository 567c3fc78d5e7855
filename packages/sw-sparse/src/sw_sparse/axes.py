"""Which axes of a model's parameters belong together, found by following its graph of ATen operations.

Every dimension of every tensor is an axis. An operation makes axes one (an addition those of its operands, a
convolution its input's channels and its weight's second dimension) or, where it mixes what lies along an axis, blocks
it. What an operation does to an axis is known or the axis is blocked: nothing is guessed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx

Place = tuple[str, int]
"""A dimension of a parameter or buffer, by its name."""


@dataclass(frozen=True)
class AxisGroup:
    """Dimensions that have one unit at each position, all over the model."""

    size: int
    """Number of units."""
    places: tuple[Place, ...]
    """Parameters and buffers that have an entry for each unit, and in which dimension, in the model's order."""
    producers: tuple[Place, ...]
    """Those of ``places`` that are the outputs of a weight."""
    consumers: tuple[Place, ...]
    """Those of ``places`` that are the inputs of a weight."""
    means: int
    """How many means over the units the model takes."""
    blocked: str | None
    """Why no unit can be taken out, or None where each can."""


def trace_axes(model: nn.Module, inputs: Sequence[Any]) -> list[AxisGroup]:
    """Return all groups of parameter dimensions that a weight has as outputs, in the model's order.

    The model runs once in evaluation mode on the meta device, so that nothing is computed and nothing changes.

    Args:
        model: any module; tied parameters are known by the first of their names.
        inputs: its positional arguments, of which the shapes and dtypes count. The batch must hold two images or more.

    Raises:
        ValueError: for a model that cannot be traced.
    """
    state = {name: tensor.detach().to("meta") for name, tensor in [*model.named_parameters(), *model.named_buffers()]}
    arguments = tuple(x.detach().to("meta") if isinstance(x, Tensor) else x for x in inputs)
    training = {module: module.training for module in model.modules()}
    try:
        for module in training:
            module.training = False
        with torch.no_grad():
            traced = make_fx(lambda tensors, args: functional_call(model, tensors, args))(state, arguments)
    except Exception as error:  # whatever a model does to tensors without values
        message = " ".join(str(error).split())[:300]
        kind = type(error).__name__
        raise ValueError(f"model: {type(model).__name__} cannot be traced ({kind}: {message})") from error
    finally:
        for module, mode in training.items():
            module.training = mode
    return _Axes(traced.graph, list(state)).groups()


class _Axes:
    """Union-find over the axes of all tensors of a graph."""

    def __init__(self, graph: fx.Graph, names: Sequence[str]) -> None:
        self._parent: list[int] = []
        self._size: list[int] = []
        self._blocks: list[tuple[int, str]] = []
        self._means: list[int] = []
        self._outputs: set[Place] = set()
        self._inputs: set[Place] = set()
        self._of: dict[fx.Node, Any] = {}
        self._origin: dict[fx.Node, list[Place | None]] = {}
        self._state: dict[str, list[int]] = {}
        placeholders = [node for node in graph.nodes if node.op == "placeholder"]
        for name, node in zip(names, placeholders, strict=False):
            self._state[name] = self._of[node] = self._fresh(_value(node).shape)
            self._origin[node] = [(name, dim) for dim in range(len(self._state[name]))]
        for node in placeholders[len(names) :]:
            self._of[node] = self._fresh(getattr(_value(node), "shape", ()))
            self._blocks += [(axis, "they are the model's inputs") for axis in self._of[node]]
        for node in graph.nodes:
            self._follow(node)

    def groups(self) -> list[AxisGroup]:
        """Collect what belongs to each axis of a weight's outputs."""
        places: dict[int, list[Place]] = {}
        for name, axes in self._state.items():
            for dim, axis in enumerate(axes):
                places.setdefault(self._find(axis), []).append((name, dim))
        blocks: dict[int, str] = {}
        for axis, reason in self._blocks:
            blocks.setdefault(self._find(axis), reason)
        means = [self._find(axis) for axis in self._means]
        return [
            AxisGroup(
                self._size[root],
                tuple(members),
                tuple(place for place in members if place in self._outputs),
                tuple(place for place in members if place in self._inputs),
                means.count(root),
                blocks.get(root),
            )
            for root, members in places.items()
            if self._size[root] > 1 and not self._outputs.isdisjoint(members)
        ]

    # -- axes ---------------------------------------------------------------------------------------------------------

    def _fresh(self, shape: Sequence[int]) -> list[int]:
        first = len(self._parent)
        self._parent += range(first, first + len(shape))
        self._size += shape
        return list(range(first, first + len(shape)))

    def _find(self, axis: int) -> int:
        while self._parent[axis] != axis:
            self._parent[axis] = axis = self._parent[self._parent[axis]]
        return axis

    def _join(self, a: int, b: int) -> None:
        """Make two axes one, unless one of them is broadcast."""
        a, b = self._find(a), self._find(b)
        if a != b and self._size[a] == self._size[b] != 1:
            self._parent[max(a, b)] = min(a, b)

    def _block(self, axes: Sequence[int], node: fx.Node) -> None:
        named = [self._origin[n][0] for n in node.all_input_nodes if self._origin.get(n)]
        where = f" of {named[0][0]}" if named and named[0] else ""
        self._blocks += [(axis, f"{_name(node)}{where} mixes its units") for axis in axes]

    # -- operations ---------------------------------------------------------------------------------------------------

    def _follow(self, node: fx.Node) -> None:
        if node in self._of:
            return
        if node.op == "output":
            for result in node.all_input_nodes:
                self._blocks += [(axis, "they are the model's outputs") for axis in self._all(result)]
            return
        value = _value(node)
        if node.op == "call_function" and _name(node) == "getitem":
            source, index = _arguments(node)
            self._of[node] = self._of[source][index]
            return
        if isinstance(value, tuple | list):
            self._of[node] = [self._fresh(getattr(one, "shape", ())) for one in value]
        else:
            self._of[node] = self._fresh(getattr(value, "shape", ()))
        if node.op == "get_attr":
            self._blocks += [(axis, "a constant in the model's code has as many") for axis in self._of[node]]
            return
        known = _Axes._pointwise if _is_pointwise(node) else _Axes._unknown
        _RULES.get(_name(node), known)(self, node)

    def _all(self, node: fx.Node) -> Iterator[int]:
        for axis in self._of[node]:
            yield from axis if isinstance(axis, list) else [axis]

    def _unknown(self, node: fx.Node) -> None:
        for tensor in [*node.all_input_nodes, node]:
            self._block(list(self._all(tensor)), node)

    def _pointwise(self, node: fx.Node) -> None:
        for operand in node.all_input_nodes:
            for mine, its in zip(reversed(self._of[node]), reversed(self._of[operand]), strict=False):
                self._join(mine, its)

    def _moved(self, node: fx.Node, dims: Sequence[int | None]) -> None:
        """Take the output's axes from the first argument's ``dims``; None is a new axis of size 1."""
        source = _arguments(node)[0]
        new, its = self._of[node], self._of[source]
        self._of[node] = [axis if dim is None else its[dim] for axis, dim in zip(new, dims, strict=True)]
        if origin := self._origin.get(source):
            self._origin[node] = [None if dim is None else origin[dim] for dim in dims]

    def _same(self, node: fx.Node) -> None:
        self._moved(node, range(len(self._of[node])))

    def _permute(self, node: fx.Node) -> None:
        rank = len(self._of[node])
        order: list[int] = list(range(rank))
        if _name(node) == "permute":
            order = [dim % rank for dim in _arguments(node)[1]]
        elif _name(node) == "t":
            order.reverse()
        else:
            a, b = (dim % rank for dim in _arguments(node)[1:3])
            order[a], order[b] = b, a
        self._moved(node, order)

    def _view(self, node: fx.Node) -> None:
        """Match runs of dimensions that hold equally many entries; where a run is more than one, its axes are mixed."""
        source = _arguments(node)[0]
        before = [i for i, size in enumerate(_value(source).shape) if size != 1]
        after = [i for i, size in enumerate(_value(node).shape) if size != 1]
        dims: list[int | None] = [None] * len(self._of[node])
        while before or after:
            left, right = [before.pop(0)] if before else [], [after.pop(0)] if after else []
            while (held := self._held(source, left)) != (wanted := self._held(node, right)):
                (left if held < wanted else right).append((before if held < wanted else after).pop(0))
            if len(left) == len(right) == 1:
                dims[right[0]] = left[0]
            else:
                self._block([self._of[source][i] for i in left] + [self._of[node][i] for i in right], node)
        self._moved(node, dims)

    def _held(self, node: fx.Node, dims: Sequence[int]) -> int:
        return math.prod(_value(node).shape[i] for i in dims)

    def _sliced(self, node: fx.Node) -> None:
        """Keep the axes that keep their size."""
        source = _arguments(node)[0]
        for mine, its in zip(self._of[node], self._of[source], strict=True):
            if self._size[mine] == self._size[its]:
                self._join(mine, its)
            else:
                self._block([mine, its], node)

    def _expand(self, node: fx.Node) -> None:
        source = _arguments(node)[0]
        self._pointwise(node)
        if origin := self._origin.get(source):
            sizes = _value(source).shape
            places = [place if size != 1 else None for place, size in zip(origin, sizes, strict=True)]
            self._origin[node] = [*[None] * (len(self._of[node]) - len(places)), *places]

    def _reduce(self, node: fx.Node) -> None:
        source = _arguments(node)[0]
        rank = len(self._of[source])
        dims = _arguments(node)[2 if _name(node) == "linalg_vector_norm" else 1]
        reduced = {dim % rank for dim in dims or range(rank)}
        kept = [dim for dim in range(rank) if dim not in reduced]
        mine = self._of[node] if len(self._of[node]) == len(kept) else [self._of[node][dim] for dim in kept]
        for axis, dim in zip(mine, kept, strict=True):
            self._join(axis, self._of[source][dim])
        lost = [self._of[source][dim] for dim in reduced]
        if _name(node) == "mean":
            self._means += lost
        else:
            self._block(lost, node)

    def _convolution(self, node: fx.Node) -> None:
        x, weight, bias = _arguments(node)[:3]
        transposed, groups = _arguments(node)[6], _arguments(node)[8]
        mine, its, kernel = self._of[node], self._of[x], self._of[weight]
        self._join(mine[0], its[0])
        self._block([*mine[2:], *its[2:]], node)
        inputs, outputs = (0, 1) if transposed else (1, 0)
        if groups == 1:
            self._contract(node, weight, its[1], inputs, outputs)
            self._join(mine[1], kernel[outputs])
        elif self._size[its[1]] == groups == self._size[mine[1]]:  # depthwise
            self._join(mine[1], its[1])
            self._join(kernel[0], its[1])
        else:
            self._block([mine[1], its[1], kernel[0]], node)
        if bias is not None:
            self._join(mine[1], self._of[bias][0])

    def _product(self, node: fx.Node) -> None:
        """Follow ``a @ b``, with what is added to it."""
        *added, a, b = [arg for arg in node.args if isinstance(arg, fx.Node)]
        mine, left, right = self._of[node], self._of[a], self._of[b]
        for axis, *its in zip(mine[:-2], left[:-2], right[:-2], strict=True):
            self._join(axis, its[0])
            self._join(axis, its[1])
        self._join(mine[-2], left[-2])
        self._join(mine[-1], right[-1])
        if b in self._origin:
            self._contract(node, b, left[-1], len(right) - 2, len(right) - 1)
        else:
            self._contract(node, a, right[-2], len(left) - 1, len(left) - 2)
        for term in added:
            for axis, its in zip(reversed(mine), reversed(self._of[term]), strict=False):
                self._join(axis, its)

    def _contract(self, node: fx.Node, weight: Any, axis: int, inputs: int, outputs: int) -> None:
        """Sum over an axis and a weight's dimension ``inputs``."""
        self._join(axis, self._of[weight][inputs])
        origin = self._origin.get(weight)
        if origin is None:  # two activations, or a weight that is computed from others
            self._unknown(node)
            return
        self._inputs |= {place for place in [origin[inputs]] if place}
        self._outputs |= {place for place in [origin[outputs]] if place}

    def _batch_norm(self, node: fx.Node) -> None:
        x, *vectors = _arguments(node)[:5]
        mine, its = self._of[node][0], self._of[x]
        for axis, same in zip(mine, its, strict=True):
            self._join(axis, same)
        for vector in vectors:
            if vector is not None:
                self._join(its[1], self._of[vector][0])

    def _layer_norm(self, node: fx.Node) -> None:
        x, normalized = _arguments(node)[:2]
        mine, its = self._of[node][0], self._of[x]
        for axis, same in zip(mine, its, strict=True):
            self._join(axis, same)
        self._block(its[-len(normalized) :], node)

    def _pool(self, node: fx.Node) -> None:
        x = _arguments(node)[0]
        mine = self._of[node][0] if isinstance(self._of[node][0], list) else self._of[node]
        for axis, same in zip(mine[:-2], self._of[x][:-2], strict=True):
            self._join(axis, same)
        self._block([*mine[-2:], *self._of[x][-2:]], node)


_RULES: dict[str, Callable[[_Axes, fx.Node], None]] = {
    **dict.fromkeys(("permute", "transpose", "t"), _Axes._permute),
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "unsqueeze", "squeeze"), _Axes._view),
    **dict.fromkeys(("clone", "detach", "alias", "_to_copy", "contiguous", "lift_fresh_copy"), _Axes._same),
    **dict.fromkeys(("slice", "constant_pad_nd"), _Axes._sliced),
    **dict.fromkeys(("mean", "sum", "linalg_vector_norm"), _Axes._reduce),
    **dict.fromkeys(("mm", "addmm", "bmm", "baddbmm"), _Axes._product),
    **dict.fromkeys(("native_batch_norm", "_native_batch_norm_legit_no_training"), _Axes._batch_norm),
    **dict.fromkeys(("max_pool2d_with_indices", "avg_pool2d", "_adaptive_avg_pool2d"), _Axes._pool),
    "expand": _Axes._expand,
    "convolution": _Axes._convolution,
    "native_layer_norm": _Axes._layer_norm,
}


def _name(node: fx.Node) -> str:
    """Return an operation's name; one that works in place has that of the one that does not."""
    target: Any = node.target
    if not isinstance(target, torch._ops.OpOverload):
        return getattr(target, "__name__", str(target))
    return target._schema.name.split("::")[-1].removesuffix("_")


def _is_pointwise(node: fx.Node) -> bool:
    """Whether an operation works on each entry alone; those in place are told by the ones that are not."""
    packet: Any = getattr(torch.ops.aten, _name(node), None)
    overloads = [getattr(packet, overload) for overload in packet.overloads()] if packet else []
    return any(torch.Tag.pointwise in overload.tags for overload in overloads)


def _arguments(node: fx.Node) -> Any:
    return node.args


def _value(node: fx.Node) -> Any:
    if node.op == "get_attr" and "val" not in node.meta:  # as it is in torch before 2.7
        return getattr(node.graph.owning_module, str(node.target))
    return node.meta["val"]
