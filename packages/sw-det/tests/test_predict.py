from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

from sw_det import Detector
from sw_det.detector import THRESHOLD
from sw_det.predict import predict
from sw_models.errors import InputError
from sw_models.sources import find_sources


class Model:
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
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    (folder / "below").mkdir(parents=True)
    Image.new("L", (30, 60), 128).save(folder / "below/grey.png")
    Image.new("RGB", (80, 40), (10, 20, 30)).save(folder / "wide.png")
    (folder / "._wide.png").write_bytes(b"\0\5\26\7 what a Mac leaves")
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def test_a_detector_takes_images_in_any_form(images: Path) -> None:
    detector = Detector(model=Model())
    file = images / "wide.png"
    array, picture = np.asarray(Image.open(file)), Image.open(file)
    for one in (str(file), file, array, picture):
        found = detector(one)
        assert found.boxes.tolist() == [[8, 4, 18, 24]]
        assert found.names == ["nut"]
        assert found.scores.tolist() == pytest.approx([0.9])
        assert found.masks is not None
        assert found.masks.shape == (1, 40, 80)
        assert np.array_equal(found.image, array)
    for several in (images, [images / "below/grey.png", file], str(images / "**/*.png"), [str(images)]):
        assert [f.image.shape for f in detector(several)] == [(60, 30, 3), (40, 80, 3)]
    assert len(Detector(model=Model(), threshold=0.1)(file)) == 2


def test_what_is_no_image_is_refused() -> None:
    detector = Detector(model=Model())
    with pytest.raises(InputError, match=r"image: got float64 \[2, 2, 3\], want uint8 \[H, W\] or \[H, W, 3\]"):
        detector(np.zeros((2, 2, 3)))
    with pytest.raises(InputError, match=r"absent\.png is not there"):
        detector("absent.png")


def test_a_photograph_lies_as_its_orientation_says(tmp_path: Path) -> None:
    upright = Image.new("RGB", (40, 80), (200, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.rotate(90, expand=True).save(tmp_path / "phone.jpg", exif=exif)
    found = Detector(model=Model())(tmp_path / "phone.jpg")
    assert found.image.shape == (80, 40, 3)
    assert found.draw().size == (40, 80)


def test_pictures_show_and_json_holds_what_is_sure_enough(images: Path, out: Path) -> None:
    records = list(predict(Model(), find_sources([str(images)]), out))
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*.*")) == [
        "below/grey.png",
        "predictions.json",
        "wide.png",
    ]
    assert [len(record["instances"]) for record in records] == [1, 1]

    picture = np.asarray(Image.open(out / "wide.png"), dtype=int)
    assert picture.shape == (40, 80, 3)
    plain = picture[30, 60]
    assert tuple(plain) == (10, 20, 30)
    inside, edge = picture[20, 13] - plain, picture[23, 8] - plain
    assert inside.sum() > 50, "the mask is laid over the image"
    assert edge.sum() > inside.sum(), "the box's edge covers it"


def test_predictions_are_a_coco_data_set(images: Path, out: Path) -> None:
    records = list(predict(Model(), find_sources([str(images)]), out))
    coco = COCO(str(out / "predictions.json"))
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == ["screw", "nut"]
    assert [(i["width"], i["height"]) for i in coco.imgs.values()] == [(30, 60), (80, 40)]
    assert [a for record in records for a in record["instances"]] == list(coco.anns.values())
    for annotation in coco.anns.values():
        assert annotation["category_id"] == 2
        assert annotation["bbox"] == [8, 4, 10, 20]
        assert annotation["area"] == 200
        assert annotation["score"] == pytest.approx(0.9)
        mask = coco.annToMask(annotation)
        assert mask.sum() == 200
        assert mask[4:24, 8:18].all()


def test_a_detector_without_masks_gives_boxes(images: Path, out: Path) -> None:
    record, _ = predict(Model(masks=False), find_sources([str(images)]), out)
    assert "segmentation" not in record["instances"][0]
    assert record["instances"][0]["area"] == 200


def test_a_bad_file_does_not_end_a_prediction(images: Path, out: Path) -> None:
    (images / "broken.png").write_text("no image")
    (images / "empty.jpg").touch()
    Image.new("RGB", (5000, 1)).save(images / "thin.png")
    records = list(predict(Model(), find_sources([str(images)]), out))
    assert ["error" in record for record in records] == [False, True, True, True, False]
    assert "broken.png cannot be read as an image" in records[1]["error"]
    assert "got 5000x1, which cannot be scaled" in records[3]["error"]
    assert len(json.loads((out / "predictions.json").read_text())["images"]) == 2


def test_what_was_found_is_written_although_a_prediction_is_broken_off(images: Path, out: Path) -> None:
    found: Any = predict(Model(), find_sources([str(images)]), out)
    next(found)
    found.close()
    assert len(json.loads((out / "predictions.json").read_text())["images"]) == 1


def test_a_video_is_seen_frame_by_frame(tmp_path: Path, out: Path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "film.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 5, (64, 48))
    for shade in (0, 120, 240):
        writer.write(np.full((48, 64, 3), shade, dtype=np.uint8))
    writer.release()
    records = list(predict(Model(), find_sources([str(tmp_path / "film.avi")]), out))
    assert [Path(r["picture"]).name for r in records] == ["000000.png", "000001.png", "000002.png"]
    assert [i["frame"] for i in json.loads((out / "predictions.json").read_text())["images"]] == [0, 1, 2]
    assert [found.image.mean() // 100 for found in Detector(model=Model())(tmp_path / "film.avi")] == [0, 1, 2]


class Blobs:
    """Sees every white region as an object; of those at the edge it is less sure."""

    dataset_meta: ClassVar[dict[str, Any]] = {"classes": ("blob",)}

    def __init__(self) -> None:
        from mmengine.config import Config

        steps = [{"type": "LoadImageFromFile"}, {"type": "mmdet.PackDetInputs", "meta_keys": ("ori_shape",)}]
        self.cfg = Config({"test_dataloader": {"dataset": {"pipeline": steps}}})
        self.largest = 0  # pixels of an image that was seen

    def test_step(self, batch: Any) -> Any:
        from mmdet.structures import DetDataSample
        from mmengine.structures import InstanceData

        seen = batch["inputs"][0][0].numpy() > 127
        height, width = seen.shape
        self.largest = max(self.largest, seen.size)
        count, regions, stats, _ = cv2.connectedComponentsWithStats(seen.astype(np.uint8), connectivity=4)
        corners = [(x, y, x + w, y + h) for x, y, w, h, _ in stats[1:].tolist()]
        cut = [x1 == 0 or y1 == 0 or x2 == width or y2 == height for x1, y1, x2, y2 in corners]
        found = DetDataSample()
        found.pred_instances = InstanceData(
            bboxes=torch.tensor(corners, dtype=torch.float32).reshape(-1, 4),
            labels=torch.zeros(count - 1, dtype=torch.int64),
            scores=torch.tensor([0.5 if at_edge else 0.9 for at_edge in cut]) * (1 - 1e-6 * (200_000 - seen.size)),
            masks=torch.stack([torch.from_numpy(regions == i) for i in range(1, count)])
            if count > 1
            else torch.zeros(0, height, width, dtype=torch.bool),
        )
        return [found]


def test_small_and_large_objects_of_a_large_image_are_seen_once_in_tiles() -> None:
    generator = np.random.default_rng(0)
    image = np.zeros((300, 520, 3), dtype=np.uint8)
    wanted = []
    for row in range(6):
        for column in range(7):
            x, y = 40 * column + int(generator.integers(5, 18)), 48 * row + int(generator.integers(5, 24))
            wanted.append((x, y, x + 18, y + 18))
    wanted.append((320, 40, 500, 260))  # wider than a tile
    for x1, y1, x2, y2 in wanted:
        image[y1:y2, x1:x2] = 255
    model = Blobs()
    found = Detector(model=model, tile=128)(image)
    assert model.largest <= 256 * 256
    assert found.masks is not None
    assert len(found) == len(wanted)
    for box, mask in zip(found.boxes.tolist(), found.masks.numpy(), strict=True):
        nearest = min(wanted, key=lambda one: sum(abs(a - b) for a, b in zip(one, box, strict=True)))
        wanted.remove(nearest)
        assert box == pytest.approx(nearest, abs=3)
        inside = np.zeros_like(mask)
        inside[nearest[1] : nearest[3], nearest[0] : nearest[2]] = True
        assert (mask & inside).sum() / (mask | inside).sum() > 0.8
    assert len(Detector(model=Blobs(), tile=1024)(image)) == len(found)  # an image that is smaller is seen whole


def test_bad_tiles_and_thresholds_are_refused() -> None:
    with pytest.raises(InputError, match="tile: got 5, want 64 pixels or more"):
        Detector(model=Model(), tile=5)
    with pytest.raises(InputError, match="threshold: got 1.5, want a score from 0 to 1"):
        Detector(model=Model(), threshold=1.5)


def test_lines_and_letters_grow_with_the_image() -> None:
    """A box's edge is about as wide a part of a large image as of a small one."""
    shares = []
    for height, width in ((480, 640), (3000, 4000)):
        found = Detector(model=Model(masks=False))(np.zeros((height, width, 3), dtype=np.uint8))
        whole = dataclasses.replace(found, boxes=torch.tensor([[width / 4, height / 2, width * 3 / 4, height - 9.0]]))
        column = np.asarray(whole.draw())[:, width * 11 // 16].max(axis=1)
        shares.append(int((column > 0).sum()) / height)
    assert shares[1] > 0.6 * shares[0] > 0


def test_detections_become_supervisions(images: Path) -> None:
    supervision = pytest.importorskip("supervision")
    for masks in (True, False):
        found = Detector(model=Model(masks))(images / "wide.png").to_supervision()
        assert isinstance(found, supervision.Detections)
        assert found.xyxy.tolist() == [[8, 4, 18, 24]]
        assert found.class_id.tolist() == [1]
        assert found.data["class_name"].tolist() == ["nut"]
        assert found.confidence.tolist() == pytest.approx([0.9])
        assert (found.mask is not None) == masks
