from __future__ import annotations

import torch
from torchvision.ops import roi_align


def test_regions_are_not_rounded_under_autocast() -> None:
    from sw_det.roi_extractor import FullPrecisionRoIExtractor

    extractor = FullPrecisionRoIExtractor({"type": "RoIAlign", "output_size": 2, "sampling_ratio": 2}, 3, [4])
    maps = torch.randn(1, 3, 200, 200, generator=torch.Generator().manual_seed(0)).bfloat16()
    regions = torch.tensor([[0.0, 701.3, 650.7, 733.1, 670.9]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = extractor([maps], regions)
    assert torch.equal(found, roi_align(maps.float(), regions, 2, 1 / 4, 2, True))
