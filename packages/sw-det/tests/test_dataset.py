from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sw_det.dataset import adapt_to_data
from sw_models.errors import InputError

from conftest import annotations, write_coco


def config() -> Any:
    from mmengine.config import Config

    loader = {"dataset": {"type": "CocoDataset", "data_root": "data/coco/"}}
    head = {"type": "ConvFCBBoxHead", "num_classes": 80}
    return Config(
        {
            **{f"{part}_dataloader": loader for part in ("train", "val", "test")},
            **{f"{part}_evaluator": {"type": "CocoMetric", "ann_file": "elsewhere"} for part in ("val", "test")},
            "model": {"roi_head": {"bbox_head": [head, head], "mask_head": {"num_classes": 80}}, "neck": {"levels": 5}},
        }
    )


def test_classes_and_paths_come_from_the_annotation_files(tmp_path: Path) -> None:
    data = write_coco(tmp_path / "coco")
    cfg = config()
    adapt_to_data(cfg, data)
    for part in ("train", "val", "test"):
        dataset = cfg[f"{part}_dataloader"].dataset
        split = "train" if part == "train" else "val"
        assert dataset.metainfo.classes == ["screw", "nut"]
        assert Path(dataset.ann_file) == data / f"annotations/instances_{split}.json"
        assert Path(dataset.data_prefix.img) == data / split
    assert (
        Path(cfg.val_evaluator.ann_file) == Path(cfg.test_evaluator.ann_file) == data / "annotations/instances_val.json"
    )
    heads = [*cfg.model.roi_head.bbox_head, cfg.model.roi_head.mask_head]
    assert [head.num_classes for head in heads] == [2, 2, 2]
    assert cfg.model.neck == {"levels": 5}


def test_images_are_in_the_folder_named_by_the_annotation_file(tmp_path: Path) -> None:
    data = write_coco(tmp_path)
    for split in ("train", "val"):
        (data / f"annotations/instances_{split}.json").rename(data / f"annotations/instances_{split}2017.json")
        (data / split).rename(data / f"{split}2017")
    cfg = config()
    adapt_to_data(cfg, data)
    assert Path(cfg.train_dataloader.dataset.data_prefix.img) == data / "train2017"


def changed(number: int, **entry: Any) -> dict[str, Any]:
    content = annotations()
    content["annotations"][number].update(entry)
    return content


def without(key: str) -> dict[str, Any]:
    content = annotations()
    del content["annotations"][0][key]
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (annotations(images=[]), "holds no images"),
        (annotations(categories=[]), "holds no categories"),
        (changed(1, category_id=80), "annotation 2 of .* has category 80"),
        (changed(0, image_id=8), "annotation 1 of .* has image 8"),
        (changed(0, bbox=[1, 2, 3]), "annotation 1 of .* has bbox"),
        (without("bbox"), "annotation 1 of .* has no bbox"),
        (
            annotations(images=[{"id": 7, "file_name": "b.png", "width": 48, "height": 32}]),
            "names b.png, which is not in",
        ),
        (annotations(categories=[{"id": 3, "name": "nut"}, {"id": 8, "name": "nut"}]), "two categories named nut"),
        (annotations(images=[{"id": 7, "file_name": "a.png"}]), "image 7 of .* has no height"),
        (changed(1, id=1), "two annotations with id 1"),
        (annotations(annotations=[[1, 2]]), "one of the annotations of .* has no names"),
        ({"images": []}, "no COCO annotation file"),
        ([1, 2], "no COCO annotation file"),
        ("{", "is no JSON"),
    ],
)
@pytest.mark.parametrize("split", ["train", "val"])
def test_annotations_that_would_not_do_are_refused_in_one_line(
    tmp_path: Path, split: str, content: Any, message: str
) -> None:
    data = write_coco(tmp_path, **{split: content})
    with pytest.raises(InputError, match=f"--data: .*{message}") as caught:
        adapt_to_data(config(), data)
    assert "\n" not in str(caught.value)


def test_both_files_list_the_same_categories(tmp_path: Path) -> None:
    other = annotations(categories=[{"id": 3, "name": "screw"}, {"id": 8, "name": "bolt"}])
    with pytest.raises(InputError, match="different categories"):
        adapt_to_data(config(), write_coco(tmp_path, val=other))


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder"):
        adapt_to_data(config(), tmp_path / "absent")
    with pytest.raises(InputError, match=r"instances_train\*.json in .*, found none"):
        adapt_to_data(config(), tmp_path)
    data = write_coco(tmp_path / "coco")
    (data / "annotations/instances_train2.json").write_text("")
    with pytest.raises(InputError, match="found annotations/instances_train.json, annotations/instances_train2.json"):
        adapt_to_data(config(), data)
