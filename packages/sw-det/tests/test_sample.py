from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sw_det.annotations import read_annotations
from sw_det.folders import find_split
from sw_det.sample import SIZE, SPLITS, write_sample


def test_the_sample_is_a_coco_folder_and_says_that_it_is_synthetic(sample: Path) -> None:
    assert (sample / "SYNTHETIC.txt").is_file()
    for split, count in SPLITS.items():
        content = read_annotations(find_split(sample, split).annotations).content
        assert [c["name"] for c in content["categories"]] == ["circle", "square", "triangle"]
        assert len(content["images"]) == count
        with Image.open(sample / split / content["images"][0]["file_name"]) as image:
            assert image.size == (SIZE, SIZE)


def test_boxes_areas_and_masks_agree_as_pycocotools_reads_them(sample: Path) -> None:
    from pycocotools.coco import COCO

    coco = COCO(str(sample / "annotations/instances_val.json"))
    crowds = [a for a in coco.anns.values() if a["iscrowd"]]
    assert crowds
    assert all(isinstance(a["segmentation"], dict) for a in crowds)
    for annotation in coco.anns.values():
        mask = coco.annToMask(annotation)
        assert int(mask.sum()) == pytest.approx(
            annotation["area"], rel=0.2
        )  # a polygon's edge pixels count differently
        rows, columns = np.nonzero(mask)
        x, y, width, height = annotation["bbox"]
        edges = [columns.min() - x, rows.min() - y, columns.max() + 1 - x - width, rows.max() + 1 - y - height]
        assert np.abs(edges).max() <= 2  # at the tip of a triangle


def test_a_folder_that_is_there_is_left_alone(sample: Path) -> None:
    before = sorted(sample.rglob("*"))
    with pytest.raises(FileExistsError):
        write_sample(sample)
    assert sorted(sample.rglob("*")) == before
