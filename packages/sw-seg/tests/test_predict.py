import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sw_models.sources import find_sources
from sw_seg import Segmenter
from sw_seg.predict import predict


class Model:
    """Sees "left" in the left half of every image and "right" in the right one."""

    dataset_meta = {"classes": ("left", "right", "none"), "palette": [[255, 0, 0], [0, 255, 0], [0, 0, 255]]}  # noqa: RUF012

    def __init__(self):
        from mmengine.config import Config

        steps = [{"type": "LoadImageFromFile"}, {"type": "LoadAnnotations"}, {"type": "mmseg.PackSegInputs"}]
        self.cfg = Config({"test_dataloader": {"dataset": {"pipeline": steps}}})

    def test_step(self, batch):
        from mmengine.structures import PixelData
        from mmseg.structures import SegDataSample

        height, width = batch["data_samples"][0].ori_shape
        labels = torch.zeros(1, height, width, dtype=torch.long)
        labels[:, :, width // 4 :] = 1
        found = SegDataSample()
        found.pred_sem_seg = PixelData(data=labels)
        return [found]


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("a", "a_labels"):
        Image.new("RGB", (40, 20), (10, 20, 30)).save(folder / f"{name}.png")
    return folder


def test_a_segmenter_takes_images_in_any_form(images):
    segmenter = Segmenter(model=Model())
    file = images / "a.png"
    for one in (str(file), file, np.asarray(Image.open(file)), Image.open(file)):
        found = segmenter(one)
        assert found.labels.shape == (20, 40)
        assert found.names == ["right", "left"]
        assert found.shares == {"right": 0.75, "left": 0.25}
        assert found.draw().height >= 20
    assert len(segmenter(images)) == len(segmenter([file, file])) == 2


def test_files_are_written_for_each_image_and_none_over_another(images, tmp_path):
    (images / "b.png").write_text("no image")
    (tmp_path / "out").mkdir()
    records = list(predict(Model(), find_sources([str(images)]), tmp_path / "out"))
    assert ["error" in record for record in records] == [False, False, True]
    written = [record[key] for record in records[:2] for key in ("overlay", "labels")]
    assert len(set(written)) == 4
    assert {str(path) for path in (tmp_path / "out").glob("*.png")} == set(written)
    for record in records[:2]:
        assert set(np.unique(np.asarray(Image.open(record["labels"])))) == {0, 1}
        picture = np.asarray(Image.open(record["overlay"]))
        assert picture[0, 0, 0] > picture[0, 0, 1]  # red is "left"
        assert picture[0, 39, 1] > picture[0, 39, 0]
    assert json.loads((tmp_path / "out/predictions.json").read_text())["images"] == records[:2]
    assert Path(records[0]["image"]) == images / "a.png"


class Pixels(Model):
    """Sees a pixel's own class where it is, and none near the edge of what it is shown."""

    def test_step(self, batch):
        from mmengine.structures import PixelData
        from mmseg.structures import SegDataSample

        (inputs,) = batch["inputs"]
        labels = torch.full((1, *inputs.shape[1:]), 2)
        labels[0, 4:-4, 4:-4] = inputs[0, 4:-4, 4:-4] > 127
        found = SegDataSample()
        found.pred_sem_seg = PixelData(data=labels)
        return [found]


def test_large_images_are_seen_in_tiles():
    image = np.random.default_rng(0).integers(0, 2, (150, 300, 3), dtype=np.uint8) * 255
    image[..., 1:] = image[..., :1]
    labels = Segmenter(model=Pixels(), tile=80)(image).labels.numpy()
    assert (labels[4:-4, 4:-4] == image[4:-4, 4:-4, 0] // 255).all()  # no tile's own edge is taken
    assert (labels[:4] == 2).all()


def test_segmentations_in_other_forms(images):
    found = Segmenter(model=Model())(images / "a.png")
    first, second = found.to_coco(image_id=7, first_id=3)
    assert (first["id"], first["image_id"], first["category_id"]) == (3, 7, 1)
    assert first["bbox"] == [0, 0, 10, 20]
    assert second["bbox"] == [10, 0, 30, 20]
    for annotation, label in ((first, 0), (second, 1)):
        counts = annotation["segmentation"]["counts"]
        mask = np.repeat(np.arange(len(counts)) % 2, counts).reshape(40, 20).T
        assert (mask == (found.labels.numpy() == label)).all()
        assert annotation["area"] == mask.sum()


def test_segmentations_become_supervisions(images):
    supervision = pytest.importorskip("supervision")
    found = Segmenter(model=Model())(images / "a.png").to_supervision()
    assert isinstance(found, supervision.Detections)
    assert found.data["class_name"].tolist() == ["left", "right"]
    assert found.mask.shape == (2, 20, 40)
    assert found.xyxy.tolist() == [[0, 0, 10, 20], [10, 0, 40, 20]]


def test_label_maps_are_numbered_as_the_data_were(images, tmp_path):
    model = Model()
    model.dataset_meta = {**Model.dataset_meta, "values": [0, 255, 7]}
    (tmp_path / "out").mkdir()
    (record, *_) = predict(model, find_sources([str(images / "a.png")]), tmp_path / "out")
    with Image.open(record["labels"]) as label_map:
        assert set(np.unique(np.asarray(label_map))) == {0, 255}
        assert label_map.convert("RGB").getpixel((39, 0)) == (0, 255, 0)
