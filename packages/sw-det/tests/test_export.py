"""Files that find what MMDetection finds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sw_det.export import NAMES, export, match_objects
from sw_models.errors import InputError

from conftest import load

SIZE = 96
BACKBONE = {"model": "shiftwise_pico", "depths": (1, 1, 1, 1), "dims": (4, 8, 16, 32), "sync_bn": False}
R_CNN: dict[str, Any] = {
    "neck": {"in_channels": [4, 8, 16, 32], "out_channels": 8},
    "rpn_head": {"in_channels": 8, "feat_channels": 8},
    "roi_head": {
        "bbox_roi_extractor": {"out_channels": 8},
        "bbox_head": {"in_channels": 8, "fc_out_channels": 16, "num_classes": 3},
        "mask_roi_extractor": {"out_channels": 8},
        "mask_head": {"in_channels": 8, "conv_out_channels": 8, "num_classes": 3},
    },
}
TINY: dict[str, dict[str, Any]] = {
    "mask_rcnn_nano": R_CNN,
    "cascade_mask_rcnn_tiny": R_CNN,
    "rtmdet_ins_nano": {
        "neck": {"in_channels": [8, 16, 32], "out_channels": 8},
        "bbox_head": {"in_channels": 8, "feat_channels": 8, "num_classes": 3},
    },
}
# How different what the last layers say is from place to place: as initialised, scores would be equal but for rounding.
SPREADS = {"rpn_cls": 1, "rpn_reg": 2, "fc_cls": 4, "fc_reg": 2, "conv_logits": 2, "rtm_cls": 0.4, "rtm_reg": 0.4}


def tiny(name: str) -> Any:
    """Return a small detector of a shipped kind whose random heads are sure of what they say."""
    from mmdet.registry import MODELS
    from mmengine.model import revert_sync_batchnorm
    from mmengine.registry import init_default_scope

    cfg = load(name)
    init_default_scope("mmdet")
    cfg.model.merge({"backbone": BACKBONE})
    changes = TINY[name]
    if name.startswith("cascade"):
        small = {**R_CNN["roi_head"]["bbox_head"], "conv_out_channels": 8}
        stages = [{**head, **small} for head in cfg.model.roi_head.bbox_head]
        changes = {**changes, "roi_head": {**changes["roi_head"], "bbox_head": stages}}
    cfg.model.merge(changes)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        detector = revert_sync_batchnorm(MODELS.build(cfg.model)).eval()
        for key, parameter in detector.named_parameters():
            for name, spread in SPREADS.items():
                if name in key and key.endswith("weight"):
                    torch.nn.init.normal_(parameter, std=spread / parameter[0].numel() ** 0.5)
    return detector


def found_by_mmdetection(detector: Any, image: torch.Tensor) -> Any:
    from mmdet.structures import DetDataSample

    shape = (SIZE, SIZE)
    sample = DetDataSample(
        metainfo={"img_shape": shape, "ori_shape": shape, "batch_input_shape": shape, "scale_factor": (1.0, 1.0)}
    )
    with torch.no_grad():
        return detector.predict(image, [sample], rescale=False)[0].pred_instances


@pytest.mark.parametrize("name", sorted(TINY))
def test_an_onnx_file_finds_what_mmdetection_finds(name: str, tmp_path: Path) -> None:
    import onnxruntime

    detector = tiny(name)
    from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask

    assert export(detector, tmp_path / "detector.onnx", "onnx", SIZE) < 1e-3
    session = onnxruntime.InferenceSession(tmp_path / "detector.onnx")
    image = torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    threshold = (detector.roi_head if hasattr(detector, "roi_head") else detector.bbox_head).test_cfg.score_thr
    inputs = {"image": image.numpy(), "threshold": np.array([threshold], dtype=np.float32)}
    values = [torch.from_numpy(value) for value in session.run(list(NAMES), inputs)]
    boxes, scores, labels, masks = values
    wanted = found_by_mmdetection(detector, image)
    assert len(boxes) == len(wanted) > 10
    assert wanted.labels.any()  # classes other than the first
    assert (scores.diff() <= 0).all()
    found, partner, distance = match_objects(boxes, scores, labels, wanted, SIZE)
    # Random weights make 2e-3 of how onnxruntime 1.18 to 1.23 round.
    rounds_well = tuple(map(int, onnxruntime.__version__.split(".")[:2])) >= (1, 32)
    assert distance.max() < (1e-4 if rounds_well else 5e-3)
    boxes, masks, wanted = boxes[found], masks[found], wanted[partner]
    if len(masks[0]) != SIZE:
        masks = _do_paste_mask(masks[:, None], boxes, SIZE, SIZE, skip_empty=False)[0]
    assert ((masks > 0.5) != wanted.masks).float().mean() < 1e-3
    nothing = session.run(list(NAMES), {**inputs, "threshold": np.ones(1, dtype=np.float32)})
    assert [len(value) for value in nothing] == [0, 0, 0, 0]


@pytest.mark.parametrize("form", ["onnx", "torchscript"])
def test_a_detector_that_has_learned_nothing_is_written_although_all_its_scores_tie(form: str, tmp_path: Path) -> None:
    detector = tiny("mask_rcnn_nano")
    for head in (detector.rpn_head.rpn_cls, detector.roi_head.bbox_head.fc_cls):
        torch.nn.init.normal_(head.weight, std=1e-6, generator=torch.Generator().manual_seed(0))
        torch.nn.init.zeros_(head.bias)
    assert export(detector, tmp_path / "detector", form, SIZE) < 1e-3
    assert (tmp_path / "detector").is_file()


def test_objects_are_matched_whatever_their_order() -> None:
    from mmengine.structures import InstanceData

    boxes = torch.tensor([[0.0, 0, 8, 8], [0, 0, 8, 9], [40, 40, 50, 50]])
    scores, labels = torch.tensor([0.9, 0.9, 0.4]), torch.tensor([0, 0, 1])
    order = torch.tensor([2, 1, 0])
    wanted = InstanceData(bboxes=boxes[order], scores=scores[order], labels=labels[order])
    found, partner, distance = match_objects(boxes, scores, labels, wanted, SIZE)
    assert (found.tolist(), partner.tolist(), distance.tolist()) == ([0, 1, 2], [2, 1, 0], [0, 0, 0])
    wanted.labels = torch.tensor([0, 0, 0])
    assert match_objects(boxes, scores, labels, wanted, SIZE)[2].isinf().sum() == 1


@pytest.mark.parametrize("form", ["torchscript", pytest.param("exported", marks=pytest.mark.slow)])
def test_other_forms_are_checked_too(tmp_path: Path, form: str) -> None:
    assert export(tiny("mask_rcnn_nano"), tmp_path / "detector", form, SIZE) < 1e-3
    assert [path.name for path in tmp_path.iterdir()] == ["detector"]


def test_a_detector_without_masks_has_none_in_its_file(tmp_path: Path) -> None:
    detector = tiny("mask_rcnn_nano")
    del detector.roi_head.mask_head
    assert export(detector, tmp_path / "detector.pt", "torchscript", SIZE) < 1e-3
    image = torch.randn(1, 3, SIZE, SIZE)
    assert len(torch.jit.load(tmp_path / "detector.pt")(image, torch.tensor([0.5]))) == 3


def test_what_cannot_be_written_is_refused_and_nothing_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = tiny("mask_rcnn_nano")
    with pytest.raises(InputError, match="--run: no export of a Linear, want a detector of the R-CNN or RTMDet family"):
        export(torch.nn.Linear(1, 1), tmp_path / "x", "onnx", SIZE)
    with pytest.raises(InputError, match="--size: got 100, want a multiple of 32"):
        export(detector, tmp_path / "x", "onnx", 100)
    with monkeypatch.context() as rounding:
        rounding.setattr("sw_det.export._ROUNDING", 1.0)
        with pytest.raises(InputError, match=r"--run: rounding alone changes the detector's scores by \d"):
            export(detector, tmp_path / "x", "torchscript", SIZE)
    honest = type(detector).predict

    def moved(*arguments: Any, **settings: Any) -> Any:
        samples = honest(*arguments, **settings)
        samples[0].pred_instances.bboxes += 1
        return samples

    monkeypatch.setattr(type(detector), "predict", moved)
    with pytest.raises(InputError, match="the torchscript file differs from the model by"):
        export(detector, tmp_path / "x", "torchscript", SIZE)
    assert not list(tmp_path.iterdir())
