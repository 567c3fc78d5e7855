from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

from sw_det.predict import THRESHOLD, predict
from sw_models.errors import InputError


class Detector:
    """Sees a nut of 10 x 20 pixels at (8, 4) in every image, and a screw that it is not sure of."""

    dataset_meta: ClassVar[dict[str, Any]] = {"classes": ("screw", "nut")}

    def __init__(self, masks: bool = True) -> None:
        from mmengine.config import Config

        steps = [
            {"type": "LoadImageFromFile"},
            {"type": "mmdet.Resize", "scale": (64, 64), "keep_ratio": True},
            {"type": "LoadAnnotations"},
            {"type": "mmdet.PackDetInputs", "meta_keys": ("img_id", "ori_shape")},
        ]
        self.cfg = Config({"test_dataloader": {"dataset": {"pipeline": steps}}})
        self.masks = masks

    def test_step(self, batch: Any) -> Any:
        from mmdet.structures import DetDataSample
        from mmengine.structures import InstanceData

        (sample,) = batch["data_samples"]
        height, width = sample.ori_shape
        instances = InstanceData(
            bboxes=torch.tensor([[8.0, 4, 18, 24], [0, 0, 5, 5]]),
            labels=torch.tensor([1, 0]),
            scores=torch.tensor([0.9, THRESHOLD - 0.01]),
        )
        if self.masks:
            instances.masks = torch.zeros(2, height, width, dtype=torch.bool)
            instances.masks[0, 4:24, 8:18] = True
        found = DetDataSample()
        found.pred_instances = instances
        return [found]


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "wide.png", tmp_path / "grey.png"]
    Image.new("RGB", (80, 40), (10, 20, 30)).save(paths[0])
    Image.new("L", (30, 60), 128).save(paths[1])
    return paths


def test_pictures_show_and_json_holds_what_is_sure_enough(images: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    records = list(predict(Detector(), images, folder))
    assert sorted(path.name for path in folder.iterdir()) == ["grey.png", "predictions.json", "wide.png"]
    assert [(Path(r["image"]), len(r["instances"])) for r in records] == [(path, 1) for path in images]

    picture = np.asarray(Image.open(folder / "wide.png"), dtype=int)
    assert picture.shape == (40, 80, 3)
    plain = picture[30, 60]
    assert tuple(plain) == (10, 20, 30)
    inside, edge = picture[20, 13] - plain, picture[23, 8] - plain
    assert inside.sum() > 50, "the mask is laid over the image"
    assert edge.sum() > inside.sum(), "the box's edge covers it"


def test_predictions_are_a_coco_data_set(images: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    records = list(predict(Detector(), images, folder))
    coco = COCO(str(folder / "predictions.json"))
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == ["screw", "nut"]
    assert [(i["width"], i["height"]) for i in coco.imgs.values()] == [(80, 40), (30, 60)]
    assert [a for record in records for a in record["instances"]] == list(coco.anns.values())
    for annotation in coco.anns.values():
        assert annotation["category_id"] == 2
        assert annotation["bbox"] == [8, 4, 10, 20]
        assert annotation["area"] == 200
        assert annotation["score"] == pytest.approx(0.9)
        mask = coco.annToMask(annotation)
        assert mask.sum() == 200
        assert mask[4:24, 8:18].all()


def test_a_detector_without_masks_gives_boxes(images: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (record, _) = predict(Detector(masks=False), images, folder)
    assert "segmentation" not in record["instances"][0]
    assert record["instances"][0]["area"] == 200


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.png"
    path.write_text("no image")
    with pytest.raises(InputError, match=r"images: .*broken.png cannot be read as an image"):
        list(predict(Detector(), [path], tmp_path))
