"""People's own COCO files: what is malformed is named with its id, what cannot be used is said, nothing is silent."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sw_det import registration  # noqa: F401 - first of all

# isort: split
from sw_det.annotations import left_out_sentences, read_annotations
from sw_det.check import check
from sw_det.coco import BoxAndMaskMetric, QuietCocoDataset
from sw_det.dataset import config_for, look_at_folder
from sw_det.folders import find_split
from sw_det.masks import mask_problem
from sw_models.errors import InputError

from conftest import annotations, load, run_lengths, write_coco

Run = Callable[..., tuple[int, Any, str]]


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def every(**entry: Any) -> dict[str, Any]:
    """Return an annotation file's content with the same change in all annotations; None takes a key away."""
    content = annotations()
    for annotation in content["annotations"]:
        annotation.update(entry)
    return content


def first(**entry: Any) -> dict[str, Any]:
    content = annotations()
    content["annotations"][0].update(entry)
    return content


def read(folder: Path, content: Any, need_objects: bool = True) -> Any:
    path = folder / "a.json"
    path.write_text(json.dumps(content))
    return read_annotations(path, need_objects)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (first(segmentation=[[1, 2, 3, 4]]), "annotation 1 of .* has a polygon of 4 numbers"),
        (first(segmentation=[[1, 2, 3, 4, 5, 6, 7]]), "annotation 1 of .* has a polygon of 7 numbers"),
        (first(segmentation=[[1, 2, 3, 4, 5, float("nan")]]), "annotation 1 .* something else than numbers"),
        (first(segmentation=[1, 2, 3, 4, 5, 6]), "annotation 1 .* no list of polygons"),
        (first(segmentation="x"), "annotation 1 .* segmentation of type str"),
        (first(segmentation={"size": [60000, 60000], "counts": "1"}), r"annotation 1 .* size \[60000, 60000\], want"),
        (first(segmentation={"size": [32, 48], "counts": "zz{"}), "annotation 1 .* not of 1,536 pixels"),
        (first(segmentation={"size": [32, 48], "counts": [1, 2]}), "annotation 1 .* not of 1,536 pixels"),
        (first(bbox=None), "annotation 1 of .* has bbox None"),
        (first(bbox="4 4 16 8"), "annotation 1 of .* has bbox '4 4 16 8'"),
        (first(bbox=[1, 2, float("nan"), 4]), r"annotation 1 of .* has bbox \[1, 2, nan, 4\]"),
        (first(bbox=[1, 2, -3, 4]), "annotation 1 of .* not negative"),
        (first(id="1"), "annotation '1' of .* has an id that is no whole number"),
        (first(image_id="7"), "annotation 1 of .* has image '7'"),
        (first(category_id=[3]), r"annotation 1 of .* has category \[3\]"),
        (first(iscrowd=2), "annotation 1 of .* has iscrowd 2"),
        (annotations(images=[{"id": 7, "file_name": "../a.png", "width": 48, "height": 32}]), "leaves the folder"),
        (annotations(images=[{"id": 7, "file_name": "/a.png", "width": 48, "height": 32}]), "leaves the folder"),
        (annotations(images=[{"id": 7, "file_name": 3, "width": 48, "height": 32}]), "image 7 .* file_name 3"),
        (annotations(images=[{"id": 7, "file_name": "a", "width": "48", "height": 32}]), "image 7 .* width '48'"),
        (annotations(categories=[{"id": 3, "name": None}]), "category 3 of .* has no name"),
        (every(bbox=None), "annotation 1 of .*, annotation 2 of"),
    ],
)
def test_malformed_entries_are_named(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path, content)
    assert "\n" not in str(caught.value)


def test_areas_are_computed_where_they_are_nothing(tmp_path: Path) -> None:
    for area in (0, None, "x"):
        found = read(tmp_path, every(area=area))
        assert [a["area"] for a in found.content["annotations"]] == [128, 128]
        assert (found.objects, found.mended) == (2, 2)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"iscrowd": 1}, "it is a crowd"),
        ({"bbox": [4, 4, 0.5, 8]}, "the box is smaller than a pixel"),
        ({"bbox": [100, 4, 16, 8]}, "the box is outside the image"),
    ],
)
def test_a_class_of_which_nothing_is_left_is_refused(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=f"no object of screw to learn from: 1 annotations, 1 because {reason}"):
        read(tmp_path, first(**change))


def test_what_cannot_be_used_is_said_with_its_number(tmp_path: Path) -> None:
    content = annotations()
    content["annotations"].append({**content["annotations"][0], "id": 9, "bbox": [50, 4, 16, 8]})
    found = read(tmp_path, content)
    (sentence,) = left_out_sentences(found)
    assert sentence == "1 of 3 annotations cannot be used, because the box is outside the image: 9"
    assert [a["id"] for a in found.content["annotations"]] == [1, 2]


@pytest.mark.parametrize("segmentation", [[], None, [[]]])
def test_boxes_alone_are_recognized_and_said(
    tmp_path: Path, segmentation: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_coco(tmp_path, every(segmentation=segmentation), every(segmentation=segmentation))
    assert config_for(data, {}) == "faster_rcnn_nano"
    assert capsys.readouterr().err == "boxes only: training faster_rcnn_nano\n"
    assert "train: boxes only" in look_at_folder(data, {}).report.notes


def test_masks_for_some_are_boxes_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = first()
    del content["annotations"][0]["segmentation"]
    assert config_for(write_coco(tmp_path / "some", content), {}) == "faster_rcnn_nano"
    assert "masks for 1 of 2 objects, so boxes only" in capsys.readouterr().err
    everything = write_coco(tmp_path / "all")
    assert config_for(everything, {}) == "mask_rcnn_nano"
    assert "masks for all objects: training mask_rcnn_nano" in capsys.readouterr().err
    assert config_for(everything, {"masks": "off"}) == "faster_rcnn_nano"
    assert "without masks, as requested" in capsys.readouterr().err


def test_boxes_train_and_predict_without_masks_and_masks_are_not_made_up(run: Run, tmp_path: Path) -> None:
    data = write_coco(tmp_path / "data", every(segmentation=[], area=0), every(segmentation=[], area=0))
    status, _, error = run("train", "mask_rcnn_nano_shapes", "--data", data)
    assert status == 2
    assert "boxes only; want a configuration without masks, such as faster_rcnn_nano" in error
    small = {
        "model.backbone.model": "shiftwise_pico",
        "model.backbone.depths": "(1,1,1,1)",
        "model.backbone.dims": "(4,8,16,32)",
        "model.neck.in_channels": "[4,8,16,32]",
        "model.neck.out_channels": "8",
        "model.rpn_head.in_channels": "8",
        "model.rpn_head.feat_channels": "8",
        "model.roi_head.bbox_roi_extractor.out_channels": "8",
        "model.roi_head.bbox_head.in_channels": "8",
        "model.roi_head.bbox_head.fc_out_channels": "16",
        "train_cfg.max_epochs": "1",
        "train_cfg.val_interval": "1",
        "train_dataloader.num_workers": "0",
        "train_dataloader.persistent_workers": "False",
        "val_dataloader.num_workers": "0",
        "val_dataloader.persistent_workers": "False",
    }
    pairs = [f"{key}={value}" for key, value in small.items()]
    status, made, error = run("train", "--data", data, "--json", "--cfg-options", *pairs)
    assert status == 0, error
    assert "boxes only: training faster_rcnn_nano" in error
    status, seen, error = run("predict", data / "val/a.png", "--run", made["folder"], "--json")
    assert status == 0, error
    assert all("segmentation" not in found for found in seen["images"][0]["instances"])


def test_sizes_that_are_not_those_of_the_files_are_refused(tmp_path: Path) -> None:
    content = annotations(images=[{"id": 7, "file_name": "a.png", "width": 49, "height": 32}])
    found = look_at_folder(write_coco(tmp_path, content), {})
    with pytest.raises(
        InputError, match="1 of 1 images are not of the width and height annotated: a.png is 48x32, annotated as 49x32"
    ):
        found.report.want_good()


def test_annotations_are_of_upright_images(tmp_path: Path) -> None:
    data = write_coco(tmp_path)
    for split in ("train", "val"):
        image = Image.fromarray(np.zeros((48, 32, 3), dtype=np.uint8))
        exif = image.getexif()
        exif[0x0112] = 6
        image.save(data / split / "a.png", exif=exif)  # stored 32x48, shown as 48x32
    report = look_at_folder(data, {}).report
    report.want_good()
    assert "train: 1 of 1 images are turned as EXIF says; their labels are those of upright ones" in report.notes
    Image.fromarray(np.zeros((32, 48, 3), dtype=np.uint8)).save(data / "val/a.png", exif=exif)
    with pytest.raises(InputError, match="a.png is 32x48 after turning it as its EXIF orientation says"):
        look_at_folder(data, {}).report.want_good()


def test_an_image_that_cannot_be_decoded_is_found_before_training(tmp_path: Path) -> None:
    data = write_coco(tmp_path)
    whole = (data / "train/a.png").read_bytes()
    (data / "train/a.png").write_bytes(whole[:-30])
    with pytest.raises(InputError, match=r"1 of 1 files cannot be read: .*a\.png"):
        look_at_folder(data, {}).report.want_good()


def test_the_limit_of_pixels_is_an_option(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"got 48x32, want at most 1,000 pixels \(max_pixels\)"):
        look_at_folder(write_coco(tmp_path), {"max_pixels": 1000}).report.want_good()


def test_validation_may_lack_objects_and_list_classes_otherwise(tmp_path: Path) -> None:
    categories = [{"id": 1, "name": "nut", "supercategory": "x"}, {"id": 2, "name": "screw"}]
    data = write_coco(tmp_path, val=annotations(annotations=[], categories=categories))
    report = look_at_folder(data, {}).report
    report.want_good()
    assert "val: no objects: average precision is not defined" in report.notes


def test_classes_are_told_by_name_in_every_file(tmp_path: Path) -> None:
    content = annotations(categories=[{"id": 8, "name": "nut"}, {"id": 3, "name": "screw"}])
    split = find_split(write_coco(tmp_path, val=content), "val")
    data = QuietCocoDataset(
        ann_file=str(split.annotations),
        data_prefix={"img": str(tmp_path / "val")},
        metainfo={"classes": ("screw", "nut")},
    )
    assert [i["bbox_label"] for i in data.get_data_info(0)["instances"]] == [0, 1]  # of the categories 3 and 8
    metric = BoxAndMaskMetric(ann_file=str(split.annotations), metric=["bbox"])
    assert metric._coco_api.get_cat_ids(cat_names=("screw", "nut")) == [3, 8]


@pytest.mark.parametrize(
    ("annotation_file", "images"),
    [
        ("annotations/instances_{}2017.json", "images/{}2017"),
        ("{}/_annotations.coco.json", "{}"),
        ("{}/annotations.json", "{}"),
        ("annotations/{}.json", "images/{}"),
        ("{}.json", "images"),
    ],
)
@pytest.mark.parametrize("val", ["val", "valid"])
def test_usual_folders_are_found_and_said(tmp_path: Path, annotation_file: str, images: str, val: str) -> None:
    for name in ("train", val):
        file, folder = tmp_path / annotation_file.format(name), tmp_path / images.format(name)
        for made in (file.parent, folder):
            made.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(annotations()))
        Image.fromarray(np.zeros((32, 48, 3), dtype=np.uint8)).save(folder / "a.png")
    found = look_at_folder(tmp_path, {})
    found.report.want_good()
    places = [note.partition(", images in ")[2] for note in found.report.notes]
    assert places == [f"{images.format('train')}/", f"{images.format(val)}/"]


def test_run_lengths_are_checked_without_reading_them() -> None:
    mask = np.random.default_rng(0).random((32, 48)) > 0.5
    assert mask_problem(run_lengths(mask), 32, 48) == ""
    assert mask_problem(run_lengths(mask[:16]), 32, 48)


def test_check_at_the_terminal(run: Run, tmp_path: Path) -> None:
    data = write_coco(tmp_path / "data")
    status, found, _ = run("check", data, "--json")
    assert status == 0
    assert found["found"][0]["objects"] == found["found"][0]["with masks"] == 2
    with Image.open(found["contact_sheet"]) as sheet:
        assert sheet.width > 1000
    status, output, _ = run("check", data, "--out", "b.png")
    assert (status, "look at: b.png" in output) == (0, True)
    (data / "train/a.png").write_bytes(b"nothing")
    status, _, error = run("check", data)
    assert status == 2
    assert "a.png" in error.splitlines()[-1]


def test_a_contact_sheet_shows_masks_in_the_colors_of_classes(tmp_path: Path) -> None:
    report, draw = check(write_coco(tmp_path), {})
    assert not report.refused
    assert len(draw().getcolors(1 << 24)) > 10


def test_the_boxes_configuration_reads_no_masks() -> None:
    text = str(load("faster_rcnn_nano"))
    assert "with_mask" not in text
    assert "segm" not in text
