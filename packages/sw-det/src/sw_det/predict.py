"""What a detector sees in images: pictures for people, COCO annotations for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import Compose, pseudo_collate
from PIL import Image
from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks

from sw_det.coco import QuietCocoDataset
from sw_det.masks import run_lengths
from sw_models.errors import InputError
from sw_sparse.openmmlab.palette import class_colours

THRESHOLD = 0.3  # instances with a lower score are left out
OPACITY = 0.45  # of the colours laid over an image


def predict(model: Any, images: Sequence[Path], folder: Path) -> Iterator[dict[str, Any]]:
    """Write ``<name>.png``, the image with masks, boxes, classes and scores, for each image, and ``predictions.json``.

    ``predictions.json`` is a COCO data set of what was seen: its annotations have a "score", and its categories are the
    model's classes, counted from 1.

    Args:
        model: MMDetection's, with ``cfg`` and ``dataset_meta``; without classes in it they are COCO's.
        images: files with different names.
        folder: an existing, empty folder.

    Yields:
        For each image "image", "picture" and "instances", its annotations.
    """
    steps = [step for step in model.cfg.test_dataloader.dataset.pipeline if step["type"] != "LoadAnnotations"]
    pipeline = Compose(steps)
    classes = model.dataset_meta.get("classes") or QuietCocoDataset.METAINFO["classes"]  # foreign checkpoints name none
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, file in enumerate(images, start=1):
        instances = _detect(model, pipeline, file, number)
        picture = folder / f"{file.stem}.png"
        with Image.open(file) as image:
            _draw(image, instances, classes).save(picture)
            entries.append({"id": number, "file_name": str(file), "width": image.width, "height": image.height})
        found = [_annotation(instances[i], number, len(annotations) + 1 + i) for i in range(len(instances))]
        annotations += found
        yield {"image": str(file), "picture": str(picture), "instances": found}
    categories = [{"id": i, "name": name} for i, name in enumerate(classes, start=1)]
    content = {"images": entries, "annotations": annotations, "categories": categories}
    (folder / "predictions.json").write_text(json.dumps(content))


def _detect(model: Any, pipeline: Compose, file: Path, number: int) -> Any:
    """Return an image's instances: ``bboxes`` [N, 4], ``labels`` [N], ``scores`` [N] and maybe ``masks`` [N, H, W]."""
    try:
        batch = pseudo_collate([pipeline({"img_path": str(file), "img_id": number})])
    except Exception as error:  # whatever decoders raise for broken files
        raise InputError(f"images: {file} cannot be read as an image ({error})") from error
    with torch.no_grad():
        instances = model.test_step(batch)[0].pred_instances.cpu()
    return instances[instances.scores >= THRESHOLD]


def _draw(image: Image.Image, instances: Any, classes: Sequence[str]) -> Image.Image:
    picture = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()
    if len(instances):
        instances = instances[instances.scores.argsort()]  # the surest last, on top
        palette = class_colours(len(classes))
        colours: Any = [palette[label] for label in instances.labels]
        names = [f"{classes[n]} {score:.2f}" for n, score in zip(instances.labels, instances.scores, strict=True)]
        if "masks" in instances:
            picture = draw_segmentation_masks(picture, instances.masks.bool(), OPACITY, colours)
        picture = draw_bounding_boxes(
            picture, instances.bboxes, names, colours, width=2, label_colors="white", fill_labels=True
        )
    return Image.fromarray(picture.permute(1, 2, 0).numpy())


def _annotation(instance: Any, image: int, number: int) -> dict[str, Any]:
    left, top, right, bottom = instance.bboxes[0].tolist()
    annotation = {
        "id": number,
        "image_id": image,
        "category_id": int(instance.labels[0]) + 1,
        "bbox": [round(value, 2) for value in (left, top, right - left, bottom - top)],
        "area": round((right - left) * (bottom - top), 2),
        "iscrowd": 0,
        "score": round(float(instance.scores[0]), 4),
    }
    if "masks" in instance:
        mask = instance.masks[0].numpy()
        annotation |= {"area": int(mask.sum()), "segmentation": run_lengths(mask)}
    return annotation
