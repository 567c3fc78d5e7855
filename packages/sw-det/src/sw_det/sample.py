"""The embedded sample: drawn shapes as a COCO folder. SYNTHETIC, for trying the program and not for results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image

from sw_det.masks import Region
from sw_sparse.openmmlab import sample_shapes as shapes

SPLITS = {"train": 320, "val": 64}  # images in each
SIZE = 160  # pixels along each side of an image


def write_sample(folder: Path) -> None:
    """Draw the sample into a new folder."""
    for seed, (split, count) in enumerate(SPLITS.items()):
        _write_split(folder, split, count, seed)
    (folder / "SYNTHETIC.txt").write_text("Drawn by sw-det; no photographs. For trying the program, not for results.\n")


def _write_split(folder: Path, split: str, count: int, seed: int) -> None:
    (folder / split).mkdir(parents=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(1, count + 1):
        picture, instances = shapes.draw(number, seed, SIZE)
        name = f"{number:04}.png"
        Image.fromarray(picture).save(folder / split / name)
        images.append({"id": number, "file_name": name, "width": SIZE, "height": SIZE})
        annotations += [_annotation(instance, number, len(annotations) + i) for i, instance in enumerate(instances, 1)]
    categories = [{"id": i, "name": name} for i, name in enumerate(shapes.CLASSES, start=1)]
    content = {"info": {"description": "SYNTHETIC"}, "images": images, "annotations": annotations}
    (folder / "annotations").mkdir(exist_ok=True)
    path = folder / "annotations" / f"instances_{split}.json"
    path.write_text(json.dumps({**content, "categories": categories}))


def _annotation(instance: shapes.Instance, image: int, number: int) -> dict[str, Any]:
    pixels = Region.of(instance.mask).run_lengths(SIZE, SIZE) if instance.crowd else [list(instance.polygon)]
    return {
        "id": number,
        "image_id": image,
        "category_id": instance.category + 1,
        "bbox": list(instance.box),
        "area": int(instance.mask.sum()),
        "iscrowd": int(instance.crowd),
        "segmentation": pixels,
    }
