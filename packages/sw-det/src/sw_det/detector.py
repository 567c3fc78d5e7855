"""Detectors to be called with images, and what they find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks

from sw_det.coco import QuietCocoDataset
from sw_det.masks import run_lengths
from sw_det.task import TASK
from sw_sparse.openmmlab.palette import class_colours
from sw_sparse.openmmlab.predictor import Predictor

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
        masks: ``[N, H, W]``, bool; None from detectors of boxes alone.
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
    masks: Tensor | None
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def names(self) -> list[str]:
        """The class of each object by name."""
        return [self.classes[label] for label in self.labels]

    def draw(self) -> Image.Image:
        """Return the image with masks, boxes, classes and scores."""
        picture = torch.from_numpy(self.image.copy()).permute(2, 0, 1).contiguous()
        if len(self):
            order = self.scores.argsort()  # the surest last, on top
            palette = class_colours(len(self.classes))
            colors: Any = [palette[self.labels[i]] for i in order]
            captions = [f"{self.names[i]} {self.scores[i]:.2f}" for i in order]
            if self.masks is not None:
                picture = draw_segmentation_masks(picture, self.masks[order], OPACITY, colors)
            picture = draw_bounding_boxes(
                picture, self.boxes[order], captions, colors, width=2, label_colors="white", fill_labels=True
            )
        return Image.fromarray(picture.permute(1, 2, 0).numpy())

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
            if self.masks is not None:
                mask = self.masks[i].numpy()
                annotation |= {"area": int(mask.sum()), "segmentation": run_lengths(mask)}
            annotations.append(annotation)
        return annotations


class Detector(Predictor[Detections]):
    """A trained detector.

    Args:
        run: a run's folder, a configuration's name, or a configuration file.
        checkpoint: weights of the whole detector; None for the run's best.
        device: such as "cpu" or "cuda:1"; None for the GPU if there is any.
        threshold: objects with a lower score are left out.
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
        model: Any = None,
    ) -> None:
        super().__init__(run, checkpoint, device, model=model)
        self.threshold = threshold

    def _classes(self) -> tuple[str, ...]:
        named: Sequence[str] | None = self.model.dataset_meta.get("classes")
        return tuple(named or QuietCocoDataset.METAINFO["classes"])  # foreign checkpoints name none

    def _result(self, image: NDArray[np.uint8], found: Any) -> Detections:
        objects = found.pred_instances.cpu()
        objects = objects[objects.scores >= self.threshold]
        objects = objects[objects.scores.argsort(descending=True, stable=True)]
        masks = objects.masks.bool() if "masks" in objects else None
        return Detections(image, objects.bboxes, objects.scores, objects.labels, masks, self.classes)
