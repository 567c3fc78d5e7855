"""``sw-det check``: a data folder looked at whole, and drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from pycocotools import mask as rle

from sw_det.dataset import CocoFolder, look_at_folder
from sw_det.formats import prepare
from sw_models.images import MAX_PIXELS
from sw_models.sources import read_image
from sw_sparse.openmmlab.data_report import DataReport, cell_scale, contact_sheet, spread_out
from sw_sparse.openmmlab.palette import class_colours

_SHOWN = 18  # images of each split


def check(data: Path, options: Mapping[str, Any]) -> tuple[DataReport, Callable[[], Image.Image]]:
    """Return what is in a data folder, and a function that draws some of it.

    Raises:
        InputError: there is no such folder, or an annotation file is malformed.
    """
    converted = TemporaryDirectory()
    folder = look_at_folder(prepare(data, Path(converted.name), options), options)
    max_pixels = options.get("max_pixels", MAX_PIXELS)
    title = f"{data.name}: images as they are trained on"

    def draw() -> Image.Image:
        with converted:
            return contact_sheet(_cells(folder, max_pixels), title)

    return folder.report, draw


def _cells(folder: CocoFolder, max_pixels: int) -> Iterator[tuple[str, Image.Image]]:
    classes = folder.annotations["train"].classes
    colors = dict(zip(classes, class_colours(len(classes)), strict=True))
    for name, found in folder.annotations.items():
        names = {category["id"]: category["name"] for category in found.content["categories"]}
        of_image: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in found.content["images"]}
        for annotation in found.content["annotations"]:
            of_image[annotation["image_id"]].append(annotation)
        for image in spread_out(found.content["images"], _SHOWN):
            shown = read_image(folder.splits[name].images / image["file_name"], max_pixels)
            picture = _draw(Image.fromarray(shown), of_image[image["id"]], names, colors)
            yield f"{name}: {image['file_name']}", picture


def _draw(
    image: Image.Image,
    annotations: list[dict[str, Any]],
    names: Mapping[int, str],
    colors: Mapping[str, tuple[int, int, int]],
) -> Image.Image:
    """Return a small image with masks, boxes and classes; boxes of crowds are thin."""
    width, height = image.size
    scale = cell_scale(width, height)
    picture = image.resize((max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.BILINEAR)
    for annotation in annotations:
        if annotation["segmentation"]:
            mask = Image.fromarray(_mask(annotation["segmentation"], height, width) * 110).resize(picture.size)
            picture.paste(colors[names[annotation["category_id"]]], (0, 0), mask)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(11)
    for annotation in annotations:
        name = names[annotation["category_id"]]
        x, y, w, h = (value * scale for value in annotation["bbox"])
        pen.rectangle((x, y, x + w, y + h), outline=colors[name], width=1 if annotation["iscrowd"] else 2)
        text = name.encode("latin-1", "replace").decode("latin-1")
        pen.rectangle(pen.textbbox((x + 2, y), text, font), fill=colors[name])
        pen.text((x + 2, y), text, "white", font)
    return picture


def _mask(segmentation: Any, height: int, width: int) -> Any:
    encoded = rle.frPyObjects(segmentation, height, width) if not _is_compressed(segmentation) else segmentation
    return rle.decode(rle.merge(encoded) if isinstance(encoded, list) else encoded)


def _is_compressed(segmentation: Any) -> bool:
    return isinstance(segmentation, dict) and isinstance(segmentation["counts"], str)
