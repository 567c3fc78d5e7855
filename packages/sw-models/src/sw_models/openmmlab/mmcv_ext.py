"""A stand-in for MMCV's compiled module, so that no compiler is needed to install a detector.

``mmcv-lite`` comes without ``mmcv._ext``, which MMDetection and MMSegmentation want at import. Detectors of boxes and
masks call three of its functions; others are in :mod:`.operators`. What has no stand-in raises by name when called.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn

import torch
import torchvision
from torch import Tensor

from sw_models.openmmlab.operators import OPERATORS, WANTED

NAME = "mmcv._ext"


def install() -> None:
    """Let ``import mmcv._ext`` find the stand-in where MMCV was not compiled; a compiled module wins."""
    if NAME not in sys.modules and importlib.util.find_spec(NAME) is None:
        sys.meta_path.append(_Finder())


def nms(bboxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Return the indices ``[K]`` of the boxes ``[N, 4]`` that no better box covers, the best one first.

    Args:
        bboxes: corners x1, y1, x2, y2.
        scores: ``[N]``.
        iou_threshold: boxes that overlap by more are the same object.
        offset: 1 where the last pixel belongs to a box, so that its width is ``x2 - x1 + 1``.
    """
    if offset:
        bboxes = bboxes + bboxes.new_tensor([0, 0, offset, offset])
    return torchvision.ops.nms(bboxes, scores, iou_threshold)


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write averages of the maps ``[B, C, H, W]`` in regions ``[K, 5]`` to ``output``, ``[K, C, height, width]``."""
    _want_averages(pool_mode)
    size = (aligned_height, aligned_width)
    output.copy_(torchvision.ops.roi_align(input, rois, size, spatial_scale, max(sampling_ratio, 0), aligned))


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write the gradient to the maps to ``grad_input``, ``[B, C, H, W]``."""
    _want_averages(pool_mode)
    with torch.enable_grad():
        maps = torch.zeros_like(grad_input).requires_grad_()
        size = (aligned_height, aligned_width)
        averages = torchvision.ops.roi_align(maps, rois, size, spatial_scale, max(sampling_ratio, 0), aligned)
    (gradient,) = torch.autograd.grad(averages, maps, grad_output)
    grad_input.copy_(gradient)


def _want_averages(pool_mode: int) -> None:
    if pool_mode != 1:
        _refuse("roi_align with pool_mode='max'")


def _refuse(function: str) -> NoReturn:
    raise NotImplementedError(f"mmcv._ext: {function} has no stand-in, a compiled mmcv is needed for it")


def _absent(function: str) -> Callable[..., NoReturn]:
    return lambda *_, **__: _refuse(function)


class _StandIn(ModuleType):
    """The module: functions that work, and an error for every other that MMCV knows once it is called."""

    nms = staticmethod(nms)
    roi_align_forward = staticmethod(roi_align_forward)
    roi_align_backward = staticmethod(roi_align_backward)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name in OPERATORS:
            return OPERATORS[name]
        if name not in WANTED:
            raise AttributeError(f"module {NAME!r} has no attribute {name!r}")
        return _absent(name)


class _Finder(MetaPathFinder, Loader):
    def find_spec(self, fullname: str, path: Sequence[str] | None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(NAME, self, origin=__name__) if fullname == NAME else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _StandIn(spec.name, __doc__)

    def exec_module(self, module: ModuleType) -> None:
        pass
