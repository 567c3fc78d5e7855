"""Detectors to be called with images, and what they find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from sw_det.coco import QuietCocoDataset
from sw_det.masks import Region
from sw_det.task import TASK
from sw_models.errors import InputError
from sw_sparse.openmmlab.palette import class_colours
from sw_sparse.openmmlab.predictor import Predictor, import_supervision
from sw_sparse.openmmlab.tiles import tiles_of

SAME = 0.5  # of the smaller box: two that share more are one object, seen in two tiles
THRESHOLD = 0.3  # objects with a lower score are left out, unless another one is given
OPACITY = 0.45  # of the colors laid over an image


@dataclass(frozen=True)
class Detections:
    """The objects that a detector found in an image, best first.

    Attributes:
        image: ``[H, W, 3]``, uint8, RGB: what the detector saw, upright.
        boxes: ``[N, 4]``, float32: corners x1, y1, x2, y2 in pixels.
        scores: ``[N]``, float32, from 0 to 1.
        labels: ``[N]``, int64: indices in ``classes``.
        regions: the pixels of each object; None from detectors of boxes alone.
        classes: the names of all classes that the detector knows.

    Example:
        >>> detections = Detector("runs/x")("a.jpg")  # doctest: +SKIP
        >>> list(zip(detections.names, detections.scores.tolist()))  # doctest: +SKIP
        [('nut', 0.93), ('screw', 0.71)]
    """

    image: NDArray[np.uint8]
    boxes: Tensor
    scores: Tensor
    labels: Tensor
    regions: tuple[Region, ...] | None
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def masks(self) -> Tensor | None:
        """``[N, H, W]``, bool, made when it is asked for; None from detectors of boxes alone."""
        if self.regions is None:
            return None
        masks = torch.zeros(len(self), *self.image.shape[:2], dtype=torch.bool)
        for mask, region in zip(masks.numpy(), self.regions, strict=True):
            region.cut(mask)[...] = region.inside
        return masks

    @property
    def names(self) -> list[str]:
        """The class of each object by name."""
        return [self.classes[label] for label in self.labels]

    def draw(self) -> Image.Image:
        """Return the image with masks, boxes, classes and scores."""
        palette = class_colours(len(self.classes))
        names, order = self.names, self.scores.argsort().tolist()  # the surest last, on top
        pixels = self.image.copy()
        for i, region in [] if self.regions is None else [(i, self.regions[i]) for i in order]:
            part, inside = region.cut(pixels), region.inside
            part[inside] = (1 - OPACITY) * part[inside] + OPACITY * np.array(palette[self.labels[i]])
        picture = Image.fromarray(pixels)
        pen, scale = ImageDraw.Draw(picture), max(1.0, min(picture.size) / 600)
        font, line = ImageFont.load_default(11 * scale), round(2 * scale)
        for i in order:
            color, (left, top, right, bottom) = palette[self.labels[i]], self.boxes[i].tolist()
            pen.rectangle((left, top, max(left, right), max(top, bottom)), outline=color, width=line)
            text = f"{names[i]} {self.scores[i]:.2f}".encode("latin-1", "replace").decode("latin-1")
            place = (left + line, top + line)
            pen.rectangle(pen.textbbox(place, text, font), fill=color)
            pen.text(place, text, "white", font)
        return picture

    def to_supervision(self) -> Any:
        """Return ``supervision.Detections`` with boxes, masks, scores, class numbers and names.

        Raises:
            sw_models.errors.InputError: supervision is not installed.
        """
        supervision = import_supervision("sw-det")
        return supervision.Detections(
            xyxy=self.boxes.numpy(),
            mask=None if (masks := self.masks) is None else masks.numpy(),
            confidence=self.scores.numpy(),
            class_id=self.labels.numpy().astype(int),
            data={"class_name": np.array(self.names)},
        )

    def to_coco(self, image_id: int = 1, first_id: int = 1) -> list[dict[str, Any]]:
        """Return the objects as COCO annotations with scores; ``category_id`` counts classes from 1.

        Args:
            image_id: of the image in the data set.
            first_id: of the first annotation; the others count on.
        """
        annotations = []
        for i in range(len(self)):
            left, top, right, bottom = self.boxes[i].tolist()
            annotation: dict[str, Any] = {
                "id": first_id + i,
                "image_id": image_id,
                "category_id": int(self.labels[i]) + 1,
                "bbox": [round(value, 2) for value in (left, top, right - left, bottom - top)],
                "area": round((right - left) * (bottom - top), 2),
                "iscrowd": 0,
                "score": round(float(self.scores[i]), 4),
            }
            if self.regions is not None:
                region, (height, width) = self.regions[i], self.image.shape[:2]
                annotation |= {"area": int(region.inside.sum()), "segmentation": region.run_lengths(height, width)}
            annotations.append(annotation)
        return annotations


@dataclass(frozen=True)
class Part:
    """What was found in a part of an image.

    Attributes:
        found: in the part's own pixels.
        left: of the part in the image.
        top: of the part in the image.
        scale: the part's columns for each of the image's, and its rows.
    """

    found: Detections
    left: int
    top: int
    scale: tuple[float, float] = (1.0, 1.0)


def join(image: NDArray[np.uint8], parts: Sequence[Part]) -> Detections:
    """Return what was found in all parts of an image, each object once.

    Of objects of a class of which one covers half of another, the one with the higher score stays: what a tile cuts off
    lies inside what its neighbor sees whole.
    """
    boxes = torch.cat(
        [p.found.boxes / torch.tensor(2 * p.scale) + torch.tensor([p.left, p.top, p.left, p.top]) for p in parts]
    )
    scores = torch.cat([part.found.scores for part in parts])
    labels = torch.cat([part.found.labels for part in parts])
    origins = [(part, i) for part in parts for i in range(len(part.found))]
    areas = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1)
    kept: list[int] = []
    free = torch.ones(len(boxes), dtype=torch.bool)
    for i in scores.argsort(descending=True, stable=True).tolist():
        if not free[i]:
            continue
        kept.append(i)
        corners = torch.maximum(boxes[i, :2], boxes[:, :2]), torch.minimum(boxes[i, 2:], boxes[:, 2:])
        shared = (corners[1] - corners[0]).clamp(min=0).prod(dim=1)
        free &= (labels != labels[i]) | (shared <= SAME * torch.minimum(areas[i], areas))
    regions = None
    if all(part.found.regions is not None for part in parts):
        regions = tuple(_place(*origins[i]) for i in kept)
    return Detections(image, boxes[kept], scores[kept], labels[kept], regions, parts[0].found.classes)


def _place(part: Part, number: int) -> Region:
    """Return an object of a part in the whole image."""
    found: Any = part.found.regions
    return found[number].moved(part.left, part.top, part.scale)


class Detector(Predictor[Detections]):
    """A trained detector.

    Args:
        run: a run's folder, a configuration's name, or a configuration file.
        checkpoint: weights of the whole detector; None for the run's best.
        device: such as "cpu" or "cuda:1"; None for the GPU if there is any.
        threshold: objects with a lower score are left out.
        tile: pixels; images that are larger are seen in overlapping tiles of this size, and whole.
        model: MMDetection's, if it was loaded already.

    Raises:
        sw_models.errors.InputError: there is no such run, or its checkpoint does not fit.

    Example:
        >>> detector = Detector("runs/x")  # doctest: +SKIP
        >>> detector("a.jpg").draw().save("seen.png")  # doctest: +SKIP
    """

    task = TASK
    _scope = "mmdet"

    def __init__(
        self,
        run: Any = None,
        checkpoint: Any = None,
        device: str | None = None,
        *,
        threshold: float = THRESHOLD,
        tile: int | None = None,
        model: Any = None,
    ) -> None:
        super().__init__(run, checkpoint, device, tile=tile, model=model)
        self.threshold = threshold

    @property
    def threshold(self) -> float:
        """Objects with a lower score are left out."""
        return self._threshold

    @threshold.setter
    def threshold(self, score: float) -> None:
        if not 0 <= score <= 1:
            raise InputError(f"threshold: got {score}, want a score from 0 to 1")
        self._threshold = score
        head = getattr(self.model, "roi_head", None) or getattr(self.model, "bbox_head", None)
        settings = getattr(head, "test_cfg", None)
        if settings is not None and "score_thr" in settings:
            settings.score_thr = score  # or else objects that are left out would get masks, for nothing

    def _classes(self) -> tuple[str, ...]:
        named: Sequence[str] | None = self.model.dataset_meta.get("classes")
        return tuple(named or QuietCocoDataset.METAINFO["classes"])  # foreign checkpoints name none

    def _predict_tiles(self, image: NDArray[np.uint8], side: int) -> Detections:
        """Look at tiles for small objects, and at the whole image, made smaller, for large ones."""
        height, width = image.shape[:2]
        scale = min(1.0, 2 * side / max(height, width))
        size = (round(width * scale), round(height * scale))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
        parts = [Part(self._predict_whole(small), 0, 0, (size[0] / width, size[1] / height))]
        for tile in tiles_of(height, width, side):
            part = np.ascontiguousarray(image[tile.rows, tile.columns])
            parts.append(Part(self._predict_whole(part), tile.columns.start, tile.rows.start))
        return join(image, parts)

    def _result(self, image: NDArray[np.uint8], found: Any) -> Detections:
        objects = found.pred_instances.cpu()
        objects = objects[objects.scores >= self.threshold]
        objects = objects[objects.scores.argsort(descending=True, stable=True)]
        regions = tuple(Region.of(mask.numpy()) for mask in objects.masks.bool()) if "masks" in objects else None
        return Detections(image, objects.bboxes, objects.scores, objects.labels, regions, self.classes)
