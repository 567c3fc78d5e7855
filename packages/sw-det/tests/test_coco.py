from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO

from sw_det import registration  # noqa: F401
from sw_det.coco import BoxAndMaskMetric, QuietCocoDataset


def metric(sample: Path, **kwargs: Any) -> BoxAndMaskMetric:
    made = BoxAndMaskMetric(ann_file=str(sample / "annotations/instances_val.json"), metric=["bbox", "segm"], **kwargs)
    made.dataset_meta = {"classes": ("circle", "square", "triangle")}
    return made


def answers(sample: Path, keep: Any = lambda annotation: True) -> list[dict[str, Any]]:
    """Return the annotations themselves as a detector's answers, image by image."""
    coco = COCO(str(sample / "annotations/instances_val.json"))
    samples = []
    for image in coco.imgs.values():
        found = [a for a in coco.imgToAnns[image["id"]] if not a["iscrowd"] and keep(a)]
        boxes = np.array([a["bbox"] for a in found], dtype=np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        masks = [coco.annToMask(a) for a in found]
        instances = {
            "bboxes": torch.from_numpy(boxes),
            "labels": torch.tensor([a["category_id"] - 1 for a in found], dtype=torch.long),
            "scores": torch.ones(len(found)),
            "masks": torch.from_numpy(np.array(masks, dtype=bool).reshape(-1, image["height"], image["width"])),
        }
        shape = {"ori_shape": (image["height"], image["width"]), "img_id": image["id"]}
        samples.append({**shape, "pred_instances": instances})
    return samples


def evaluate(measure: BoxAndMaskMetric, samples: list[dict[str, Any]]) -> dict[str, float]:
    measure.process({}, samples)
    return measure.evaluate(len(samples))


def test_the_annotations_themselves_are_perfect_and_crowds_do_not_count(
    sample: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = answers(sample)
    capsys.readouterr()
    metrics = evaluate(metric(sample, classwise=True), given)
    assert capsys.readouterr().out == ""
    assert metrics["bbox/mAP"] == pytest.approx(1.0, abs=0.002)
    assert metrics["segm/mAP"] == pytest.approx(1.0, abs=0.002)
    for kind in ("bbox", "segm"):
        assert all(
            metrics[f"{kind}/{name}"] == pytest.approx(1.0, abs=0.002) for name in ("circle", "square", "triangle")
        )


def test_each_class_has_its_own_precision(sample: Path) -> None:
    metrics = evaluate(metric(sample, classwise=True), answers(sample, lambda a: a["category_id"] != 2))
    assert metrics["bbox/square"] == metrics["segm/square"] == 0.0
    assert metrics["bbox/circle"] == pytest.approx(1.0, abs=0.002)
    assert metrics["bbox/mAP"] == pytest.approx(2 / 3, abs=0.002)


def test_precision_is_measured_at_a_stated_overlap(sample: Path) -> None:
    """Of each box the upper two fifths are found."""
    found = answers(sample)
    for image in found:
        boxes = image["pred_instances"]["bboxes"]
        boxes[:, 3] = boxes[:, 1] + 0.4 * (boxes[:, 3] - boxes[:, 1])
    loose = evaluate(metric(sample, iou_thrs=[0.33]), found)
    assert loose["bbox/mAP"] == pytest.approx(1.0, abs=0.002)
    assert math.isnan(loose["bbox/mAP_50"])
    assert evaluate(metric(sample, iou_thrs=[0.5, 0.75]), found)["bbox/mAP"] < 0.1


def test_nothing_found_is_a_precision_of_zero(sample: Path) -> None:
    metrics = evaluate(metric(sample), answers(sample, lambda a: False))
    assert metrics["bbox/mAP"] == metrics["segm/mAP"] == 0.0


def test_reading_annotations_prints_nothing(sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metainfo = {"classes": ("circle", "square", "triangle")}
    path = sample / "annotations/instances_val.json"
    data = QuietCocoDataset(ann_file=str(path), data_prefix={"img": str(sample / "val")}, metainfo=metainfo)
    assert capsys.readouterr().out == ""
    assert len(data) == len(json.loads(path.read_text())["images"])
    assert any(i["ignore_flag"] for number in range(len(data)) for i in data.get_data_info(number)["instances"])
