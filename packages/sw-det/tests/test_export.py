from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sw_det.export import DenseDetector, export
from sw_sparse.errors import InputError

from conftest import build

SIZE = 64


@pytest.fixture(scope="module")
def detector() -> Any:
    from mmengine.model import revert_sync_batchnorm

    return revert_sync_batchnorm(build("rtmdet_ins_nano")).eval()


def test_boxes_and_scores_are_those_that_the_detector_sorts_out(detector: Any) -> None:

    image = torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        rows = DenseDetector(detector, SIZE)(image)[0]
    shape = {"img_shape": (SIZE, SIZE), "ori_shape": (SIZE, SIZE), "scale_factor": (1.0, 1.0)}
    settings = detector.bbox_head.test_cfg
    everything = type(settings)({**settings, "score_thr": 0.0, "max_per_img": 20})
    with torch.no_grad():
        head = detector.bbox_head
        outputs = head(detector.extract_feat(image))
        found = head.predict_by_feat(*outputs, batch_img_metas=[shape], cfg=everything, rescale=False)[0]
    assert len(rows) == (SIZE // 8) ** 2 + (SIZE // 16) ** 2 + (SIZE // 32) ** 2
    assert len(found) == 20
    for box, label, score in zip(found.bboxes, found.labels, found.scores, strict=True):
        same = (rows[:, 4 + label] - score).abs() < 1e-6
        clipped = rows[same, :4].clamp(0, SIZE)
        assert ((clipped - box).abs().amax(dim=1) < 1e-3).any()


@pytest.mark.parametrize("form", ["onnx", "torchscript", pytest.param("exported", marks=pytest.mark.slow)])
def test_files_are_checked_against_the_detector(detector: Any, tmp_path: Path, form: str) -> None:
    path = tmp_path / "detector"
    assert export(detector, path, form, SIZE) < 1e-3
    assert path.stat().st_size > 1_000_000


def test_what_cannot_be_written_is_refused(detector: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--format: got pdf, want one of onnx"):
        export(detector, tmp_path / "x", "pdf", SIZE)
    with pytest.raises(InputError, match="MaskRCNN chooses regions while it runs"):
        export(build("mask_rcnn_nano"), tmp_path / "x", "onnx", SIZE)
    assert not list(tmp_path.iterdir())
