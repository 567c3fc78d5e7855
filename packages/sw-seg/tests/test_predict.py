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
