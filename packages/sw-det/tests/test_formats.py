"""Data sets in the forms that people have: read as they are meant, and refused with the file and line that is wrong."""

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
from sw_det.check import check
from sw_det.dataset import config_for, look_at_folder
from sw_det.formats import prepare
from sw_models.errors import InputError
from sw_sparse.openmmlab.config import data_options

from conftest import annotations, options, write_coco

Run = Callable[..., tuple[int, Any, str]]
WIDTH, HEIGHT = 40, 20
# Each image has a nut at x 4 to 14, y 2 to 12; every fifth a screw at x 20 to 36, y 4 to 16, besides.
BOXES = {"nut": (4, 2, 14, 12), "screw": (20, 4, 36, 16)}
COUNT = 10


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def names_in(number: int) -> list[str]:
    return ["nut", "screw"] if number % 5 == 0 else ["nut"]


def draw(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)).save(path)
    return path


def xml(number: int, name: str | None = None, first: int = 1) -> str:
    objects = "".join(
        f"<object><name>{kind}</name><difficult>0</difficult><bndbox>"
        + "".join(
            f"<{key}>{value + first}</{key}>" for key, value in zip(("xmin", "ymin"), BOXES[kind][:2], strict=True)
        )
        + "".join(
            f"<{key}>{value + first - 1 + (1 - first)}</{key}>"
            for key, value in zip(("xmax", "ymax"), BOXES[kind][2:], strict=True)
        )
        + "</bndbox></object>"
        for kind in names_in(number)
    )
    return f"<annotation><filename>{name or f'{number}.png'}</filename>{objects}</annotation>"


def voc(folder: Path) -> Path:
    for number in range(COUNT):
        draw(folder / f"JPEGImages/{number}.png")
        (folder / "Annotations").mkdir(exist_ok=True)
        (folder / f"Annotations/{number}.xml").write_text(xml(number))
    (folder / "ImageSets/Main").mkdir(parents=True)
    (folder / "ImageSets/Main/train.txt").write_text("".join(f"{n}\n" for n in range(7)))
    (folder / "ImageSets/Main/val.txt").write_text("".join(f"{n}\n" for n in range(7, COUNT)))
    (folder / "ImageSets/Main/nut_train.txt").write_text("0 1\n1 -1\n")
    return folder


def voc_beside(folder: Path) -> Path:
    for number in range(COUNT):
        split = "train" if number < 7 else "valid"
        draw(folder / split / f"{number}.png")
        (folder / split / f"{number}.xml").write_text(xml(number, f"C:\\pictures\\{number}.png"))
    return folder


def yolo_line(kind: str) -> str:
    x1, y1, x2, y2 = BOXES[kind]
    values = ((x1 + x2) / 2 / WIDTH, (y1 + y2) / 2 / HEIGHT, (x2 - x1) / WIDTH, (y2 - y1) / HEIGHT)
    return f"{list(BOXES).index(kind)} {' '.join(f'{v:.6f}' for v in values)}"


def polygon_line(kind: str) -> str:
    x1, y1, x2, y2 = BOXES[kind]
    points = (x1, y1, x2, y1, x2, y2, x1, y2)
    shares = (v / (HEIGHT if i % 2 else WIDTH) for i, v in enumerate(points))
    return f"{list(BOXES).index(kind)} {' '.join(f'{v:.6f}' for v in shares)}"


def yolo(folder: Path, line: Callable[[str], str] = yolo_line) -> Path:
    for number in range(COUNT):
        split = "train" if number < 7 else "val"
        draw(folder / f"images/{split}/{number}.png")
        file = folder / f"labels/{split}/{number}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(line(kind) for kind in names_in(number)))
    (folder / "data.yaml").write_text("path: .\ntrain: images/train\nval: images/val\nnames: {0: nut, 1: screw}\n")
    return folder


def roboflow(folder: Path) -> Path:
    for number in range(COUNT):
        split = "train" if number < 7 else "valid"
        draw(folder / split / f"images/{number}.png")
        file = folder / split / f"labels/{number}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(yolo_line(kind) for kind in names_in(number)))
    (folder / "data.yaml").write_text("train: ../train/images\nval: ../valid/images\nnc: 2\nnames: ['nut', 'screw']\n")
    return folder


def labelme(folder: Path) -> Path:
    for number in range(COUNT):
        split = "train" if number < 7 else "val"
        draw(folder / split / f"{number}.png")
        shapes = [
            {"label": kind, "points": [BOXES[kind][:2], BOXES[kind][2:]], "shape_type": "rectangle"}
            for kind in names_in(number)
        ]
        content = {"version": "5.0", "imagePath": f"{number}.png", "shapes": shapes}
        (folder / split / f"{number}.json").write_text(json.dumps(content))
    return folder


def cvat(folder: Path) -> Path:
    images = ""
    for number in range(COUNT):
        draw(folder / f"images/{number}.png")
        boxes = "".join(
            f'<box label="{kind}" xtl="{a}" ytl="{b}" xbr="{c}" ybr="{d}"/>'
            for kind in names_in(number)
            for a, b, c, d in [BOXES[kind]]
        )
        subset = "train" if number < 7 else "val"
        images += f'<image id="{number}" name="{number}.png" subset="{subset}">{boxes}<points label="nut"/></image>'
    (folder / "annotations.xml").write_text(f"<annotations><version>1.1</version>{images}</annotations>")
    return folder


FORMS = {
    "Pascal VOC": voc,
    "Pascal VOC beside": voc_beside,
    "YOLO": yolo,
    "YOLO of Roboflow": roboflow,
    "Labelme": labelme,
    "CVAT": cvat,
}


def boxes_of(folder: Path, split: str) -> dict[str, dict[str, list[float]]]:
    """Return the corners of each object, by image and class."""
    content = json.loads((folder / f"annotations/instances_{split}.json").read_text())
    names = {c["id"]: c["name"] for c in content["categories"]}
    files = {i["id"]: Path(i["file_name"]).stem for i in content["images"]}
    found: dict[str, dict[str, list[float]]] = {file: {} for file in files.values()}
    for a in content["annotations"]:
        x, y, w, h = a["bbox"]
        found[files[a["image_id"]]][names[a["category_id"]]] = [x, y, x + w, y + h]
    return found


@pytest.mark.parametrize("form", FORMS)
def test_every_form_holds_the_same(tmp_path: Path, form: str) -> None:
    data = FORMS[form](tmp_path / "theirs")
    before = sorted(data.rglob("*"))
    folder = prepare(data, tmp_path / "ours", {})
    for split, numbers in (("train", range(7)), ("val", range(7, COUNT))):
        found = boxes_of(folder, split)
        assert found.keys() == {str(number) for number in numbers}
        for number in numbers:
            assert found[str(number)].keys() == set(names_in(number))
            for kind, corners in found[str(number)].items():
                assert corners == pytest.approx(BOXES[kind], abs=1e-3), (number, kind)
    report = look_at_folder(folder, {}).report
    report.want_good()
    assert [row["objects"] for row in report.rows] == [9, 3]
    assert sorted(data.rglob("*")) == before  # the user's folder is left alone
    assert config_for(data, {}) == "faster_rcnn_nano"


def test_polygons_are_masks(tmp_path: Path) -> None:
    data = yolo(tmp_path / "theirs", polygon_line)
    found = look_at_folder(prepare(data, tmp_path / "ours", {}), {})
    assert not found.lacks_masks
    assert found.annotations["train"].content["annotations"][0]["area"] == pytest.approx(100, abs=25)
    assert config_for(data, {}) == "mask_rcnn_nano"


def test_coordinates_from_0_are_recognized(tmp_path: Path) -> None:
    data = voc(tmp_path / "theirs")
    text = (data / "Annotations/1.xml").read_text().replace("<xmin>5</xmin>", "<xmin>0</xmin>")
    (data / "Annotations/1.xml").write_text(text)
    found = boxes_of(prepare(data, tmp_path / "ours", {}), "train")
    assert found["1"]["nut"] == [0, 3, 14, 12]
    assert found["2"]["nut"] == [5, 3, 14, 12]


def test_difficult_objects_are_passed_over(tmp_path: Path) -> None:
    data = voc(tmp_path / "theirs")
    file = data / "Annotations/1.xml"
    file.write_text(file.read_text().replace("<difficult>0", "<difficult>1"))
    found = look_at_folder(prepare(data, tmp_path / "ours", {}), {})
    assert found.report.rows[0]["crowds"] == 1
    assert any("1 difficult objects" in note for note in found.report.notes)


def columns(folder: Path) -> Path:
    for number in range(COUNT):
        draw(folder / f"group/{number:03}_test.png")
        (folder / "group_not").mkdir(exist_ok=True)
        lines = [" ".join(map(str, (*BOXES[kind], list(BOXES).index(kind) + 1))) for kind in names_in(number)]
        (folder / f"group_not/{number:03}.txt").write_text("\n".join(lines))
    listed = [f"group/{number:03}.jpg group_not/{number:03}.txt\n" for number in range(COUNT)]
    (folder / "trainval.txt").write_text("".join(listed[:8]))
    (folder / "test.txt").write_text("".join(listed[8:]))
    return folder


def test_text_files_with_columns(tmp_path: Path) -> None:
    data = columns(tmp_path / "theirs")
    stated = data_options(["data_options.columns=x1 y1 x2 y2 class", "data_options.image={}_test.png"])
    folder = prepare(data, tmp_path / "ours", stated)
    found = look_at_folder(folder, {})
    assert found.annotations["train"].classes == ["class 1", "class 2"]
    assert [row["images"] for row in found.report.rows] == [6, 2, 2]
    assert boxes_of(folder, "test")["008_test"]["class 1"] == list(BOXES["nut"])
    (data / "classes.txt").write_text("nut\nscrew\n")
    named = look_at_folder(prepare(data, tmp_path / "named", stated), {})
    assert named.annotations["train"].classes == ["nut", "screw"]
    for wrong in ("x1 y1 x2 y2", "x1 y1 class", "a b c d class"):
        with pytest.raises(InputError, match="data_options.columns: got"):
            prepare(data, tmp_path / "wrong", {"columns": wrong})
    (data / "group_not/003.txt").write_text("1 2 3 4")
    with pytest.raises(InputError, match=r"line 1 of .*003\.txt has 4 columns, want 5"):
        prepare(data, tmp_path / "wrong", stated)


@pytest.mark.parametrize("form", ["Pascal VOC beside", "COCO", "YOLO"])
def test_splits_are_made_where_there_are_none(tmp_path: Path, form: str) -> None:
    """The same images for the same seed, with the rare class on both sides."""
    data = tmp_path / "theirs"
    if form == "COCO":
        write_coco(data)
        (data / "annotations/instances_val.json").unlink()
        images = [{"id": n, "file_name": f"{n}.png", "width": WIDTH, "height": HEIGHT} for n in range(COUNT)]
        entries = [
            {"id": 10 * n + i, "image_id": n, "category_id": (3, 8)[kind == "screw"], "bbox": [4, 2, 10, 10]}
            for n in range(COUNT)
            for i, kind in enumerate(names_in(n))
        ]
        for n in range(COUNT):
            draw(data / f"train/{n}.png")
        content = annotations(images=images, annotations=entries)
        (data / "annotations/instances_train.json").rename(data / "annotations/all.json")
        (data / "annotations/all.json").write_text(json.dumps(content))
    else:
        for number in range(COUNT):
            draw(data / f"images/{number}.png")
            if form == "YOLO":
                (data / "labels").mkdir(exist_ok=True)
                (data / f"labels/{number}.txt").write_text("\n".join(map(yolo_line, names_in(number))))
                (data / "classes.txt").write_text("nut\nscrew\n")
            else:
                (data / f"images/{number}.xml").write_text(xml(number))
    split = [sorted(boxes_of(prepare(data, tmp_path / name, {}), "val")) for name in ("one", "two")]
    assert split[0] == split[1]
    assert len(split[0]) == 2
    assert len({"0", "5"} & set(split[0])) == 1  # of the two with a screw
    others = [sorted(boxes_of(prepare(data, tmp_path / str(s), {"seed": s}), "val")) for s in range(1, 5)]
    assert any(other != split[0] for other in others)
    notes = " ".join(look_at_folder(tmp_path / "one", {}).report.notes)
    assert "2 of 10 images are for validation, stratified by class with seed 0" in notes


def spoil(path: Path, text: str) -> None:
    path.write_text(text)


@pytest.mark.parametrize(
    ("form", "file", "text", "message"),
    [
        ("YOLO", "labels/train/3.txt", "0 0.5 0.5 0.2", r"line 1 of .*train/3\.txt is '0 0.5 0.5 0.2'"),
        ("YOLO", "labels/train/3.txt", "0 0.5 0.5 0.2 0.2\nnut 1", r"line 2 of .*train/3\.txt is 'nut 1'"),
        ("YOLO", "labels/train/3.txt", "7 0.5 0.5 0.2 0.2", r"line 1 of .*train/3\.txt has class 7, want 0 to 1"),
        ("YOLO", "labels/train/3.txt", "0 20 10 4 4", "want shares of the image, 0 to 1"),
        ("YOLO", "data.yaml", "names: [nut, screw]\ntrain: elsewhere\n", "says elsewhere, which is not in the folder"),
        ("YOLO", "data.yaml", "names: {1: nut}\ntrain: images/train\n", "want 0, 1, 2"),
        ("YOLO", "data.yaml", "names: [", "data.yaml is no YAML"),
        ("Pascal VOC", "Annotations/3.xml", "<annotation>", r"Annotations/3\.xml is no XML"),
        ("Pascal VOC", "Annotations/3.xml", xml(3, "no.png").replace("3", "3"), "OK"),
        ("Pascal VOC", "Annotations/x.xml", xml(3, "no.png"), r"x\.xml names the image no\.png, which is not below"),
        ("Pascal VOC", "Annotations/3.xml", xml(3).replace("<xmin>5", "<xmin>x"), "xmin of a nut, has 'x', want a num"),
        ("Pascal VOC", "Annotations/3.xml", xml(3).replace("<xmin>5", "<xmin>30"), "want xmin < xmax"),
        ("Pascal VOC", "Annotations/3.xml", xml(3).replace("bndbox", "box"), "an object without a bndbox"),
        ("Labelme", "train/3.json", "{", r"train/3\.json is no JSON"),
        ("Labelme", "train/3.json", '{"shapes": [{"label": "nut"}], "imagePath": "3.png"}', "shape without points"),
        (
            "Labelme",
            "train/3.json",
            '{"shapes": [{"label": "nut", "points": [[1, "b"]]}], "imagePath": "3.png"}',
            "a nut, has 'b', want a number",
        ),
        ("CVAT", "annotations.xml", '<annotations><image name="q.png"/></annotations>', "names the image q.png"),
    ],
)
def test_what_is_malformed_is_named(tmp_path: Path, form: str, file: str, text: str, message: str) -> None:
    data = FORMS[form](tmp_path / "theirs")
    (data / file).write_text(text)
    if message == "OK":  # the XML file's own name leads to the image
        prepare(data, tmp_path / "ours", {})
        return
    with pytest.raises(InputError, match=message) as caught:
        prepare(data, tmp_path / "ours", {})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ours").exists()


def test_what_was_converted_stays_and_is_not_taken_for_other_data(tmp_path: Path) -> None:
    data = yolo(tmp_path / "theirs")
    ours = prepare(data, tmp_path / "ours", {})
    written = (ours / "annotations/instances_train.json").stat().st_mtime_ns
    (data / "labels/train/3.txt").write_text("")
    assert prepare(data, tmp_path / "ours", {}) == ours
    assert (ours / "annotations/instances_train.json").stat().st_mtime_ns == written
    with pytest.raises(InputError, match="holds the data of"):
        prepare(voc(tmp_path / "others"), tmp_path / "ours", {})
    with pytest.raises(InputError, match="want one file annotations/instances_train"):
        prepare(tmp_path / "ours/images/labels", tmp_path / "none", {})


def test_check_draws_any_form(tmp_path: Path) -> None:
    report, draw_sheet = check(voc(tmp_path / "theirs"), {})
    assert not report.refused
    assert len(draw_sheet().getcolors(1 << 24) or []) > 10


def test_convert_data_at_the_terminal(run: Run, tmp_path: Path) -> None:
    data = yolo(tmp_path / "theirs")
    status, found, error = run("convert-data", data, tmp_path / "ours", "--json")
    assert status == 0, error
    assert (found["from"], found["images/train"], found["objects/val"]) == ("YOLO", 7, 3)
    status, _, error = run("convert-data", data, tmp_path / "ours")
    assert (status, "already there" in error) == (2, True)
    status, _, error = run("convert-data", data, tmp_path / "copied", "--copy")
    assert status == 0, error
    assert not (tmp_path / "copied/images").is_symlink()
    for folder in ("ours", "copied"):
        look_at_folder(tmp_path / folder, {}).report.want_good()
    status, _, error = run("convert-data", tmp_path / "ours", tmp_path / "again")
    assert (status, "is a COCO folder already" in error) == (2, True)


def test_a_yolo_folder_is_trained_tested_and_left_alone(run: Run, tmp_path: Path) -> None:
    data = yolo(tmp_path / "theirs", polygon_line)
    for number in (0, 1):
        draw(data / f"images/test/{number}.png")
        (data / "labels/test").mkdir(exist_ok=True)
        (data / f"labels/test/{number}.txt").write_text("\n".join(map(polygon_line, names_in(number))))
    with (data / "data.yaml").open("a") as file:
        file.write("test: images/test\n")
    before = sorted(data.rglob("*"))
    command = ("train", "mask_rcnn_nano_shapes", "--data", data, *options("train_cfg.max_epochs=1"), "--json")
    status, made, error = run(*command)
    assert status == 0, error
    status, _, error = run(*command)  # which finds that it is done
    assert status == 0, error
    assert sorted(data.rglob("*")) == before
    status, metrics, error = run("test", made["folder"], "--split", "test", "--json")
    assert status == 0, error
    assert {"bbox/mAP", "segm/mAP"} <= metrics.keys()
    status, _, error = run("test", made["folder"], "--split", "other")
    assert status == 2
    assert "--split: got other, the data have train, val, test" in error
