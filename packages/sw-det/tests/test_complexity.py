from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from sw_det.complexity import MASKS, PROPOSALS, count_complexity
from sw_models.analysis.flops import count_macs

from conftest import build


@pytest.fixture(scope="module")
def detector() -> Any:
    return build("mask_rcnn_nano")


def macs_by_hooks(module: nn.Module, *inputs: Any) -> int:
    """Count by what every layer is given: slow and obvious."""
    total = 0

    def count(layer: Any, given: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(layer, nn.Linear):
            total += layer.in_features * output.numel()
        elif isinstance(layer, nn.ConvTranspose2d):
            total += given[0].numel() * layer.out_channels * layer.kernel_size[0] * layer.kernel_size[1]
        else:
            total += output.numel() * layer.in_channels * layer.kernel_size[0] * layer.kernel_size[1]

    counted = [m for m in module.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)]
    handles = [m.register_forward_hook(count) for m in counted]
    with torch.no_grad():
        module(*inputs)
    for handle in handles:
        handle.remove()
    return total


def test_every_part_is_counted(detector: Any) -> None:
    size = (64, 96)
    rows = {row["part"]: row for row in count_complexity(detector, size)}
    assert sum(row["parameters"] for row in rows.values()) == sum(p.numel() for p in detector.parameters())
    backbone = count_macs(detector.backbone, size)
    assert rows["backbone"]["MACs"] == backbone["total"]
    assert rows["backbone"]["MACs, fused"] == (
        backbone["total"] - backbone["large kernels"] + backbone["large kernels, fused"]
    )
    detector.eval()
    with torch.no_grad():
        maps = detector.backbone(torch.zeros(1, 3, *size))
        pyramid = detector.neck(maps)
    by_hand = {
        "neck": macs_by_hooks(detector.neck, maps),
        "rpn_head": macs_by_hooks(detector.rpn_head, pyramid),
        "bbox_head 1": PROPOSALS * macs_by_hooks(detector.roi_head.bbox_head, torch.zeros(1, 64, 7, 7)),
        "mask_head 1": MASKS * macs_by_hooks(detector.roi_head.mask_head, torch.zeros(1, 64, 14, 14)),
    }
    for part, macs in by_hand.items():
        assert rows[part]["MACs"] == rows[part]["MACs, fused"] == macs, part


def test_a_one_stage_detector_has_no_stage_for_regions() -> None:
    parts = [row["part"] for row in count_complexity(build("rtmdet_ins_nano"), (64, 64))]
    assert parts == ["backbone", "neck", "bbox_head"]


@pytest.mark.parametrize(
    ("size", "parameters", "gflops"), [("tiny", 86.89, 751.21), ("small", 110.48, 839.27)], ids=["tiny", "small"]
)
def test_differences_to_the_published_complexity_are_known(size: str, parameters: float, gflops: float) -> None:
    """Arrive at the published figures to their last digit.

    They are of an earlier form of the block, which the published code still shows: one path instead of two, no
    squeeze-and-excitation, and a 3x3 depthwise convolution and a norm on the channels that are not copied. The counter
    they were made with adds the convolutions' biases and the ReLU modules.
    """
    detector = build(f"cascade_mask_rcnn_{size}").to("meta").eval()
    rows = count_complexity(detector)
    counts = count_macs(detector.backbone, (800, 1280))
    numbers, macs = sum(row["parameters"] for row in rows), sum(row["MACs"] for row in rows)

    path = sum(p.numel() for name, p in detector.backbone.named_parameters() if name.endswith("conv.weights.1"))
    excitation = [p for name, p in detector.backbone.named_parameters() if ".se." in name]
    blocks = [(i, len(b.conv.rep_channels)) for i, s in enumerate(detector.backbone.backbone.stages) for b in s.blocks]
    numbers += sum((9 + 2) * rep for _, rep in blocks) - path - sum(p.numel() for p in excitation)
    macs += sum(9 * rep * (800 >> i + 2) * (1280 >> i + 2) for i, rep in blocks) - counts["large kernels"] // 2
    macs -= sum(p.numel() for p in excitation if p.ndim == 4)

    assert round(numbers / 1e6, 2) == parameters
    assert (macs + biases_and_relus(detector)) / 1e9 == pytest.approx(gflops, abs=0.01)


def biases_and_relus(detector: Any) -> int:
    """Count one operation for each value that a convolution's bias or a ReLU module makes.

    Blocks of the backbone have none: what are pointwise convolutions here were linear layers.
    """
    total = 0

    def count(layer: Any, given: Any, output: torch.Tensor) -> None:
        nonlocal total
        total += output.numel() if isinstance(layer, nn.ReLU) or layer.bias is not None else 0

    for name, layer in detector.named_modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.ReLU) and ".blocks." not in name:
            layer.register_forward_hook(count)
    with torch.no_grad():
        pyramid = detector.neck(detector.backbone(torch.empty(1, 3, 800, 1280, device="meta")))
        detector.rpn_head(pyramid)
        for box_head, mask_head in zip(detector.roi_head.bbox_head, detector.roi_head.mask_head, strict=True):
            box_head(torch.empty(PROPOSALS, 256, 7, 7, device="meta"))
            mask_head(torch.empty(MASKS, 256, 14, 14, device="meta"))
    return total
