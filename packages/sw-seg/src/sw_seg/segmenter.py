"""Segmenters to be called with images, and what they see."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from sw_models.errors import InputError
from sw_seg.task import TASK
from sw_sparse.openmmlab.palette import class_colours
from sw_sparse.openmmlab.predictor import Predictor, import_supervision
from sw_sparse.openmmlab.tiles import tiles_of

OPACITY = 0.55  # of the colors laid over an image
_LINE = 22  # pixels of a line of the legend, of an image of a few hundred pixels


@dataclass(frozen=True)
class Segmentation:
    """The class of every pixel of an image.

    Attributes:
        image: ``[H, W, 3]``, uint8, RGB: what the segmenter saw, upright.
        labels: ``[H, W]``, int64: indices in ``classes``.
        classes: the names of all classes that the segmenter knows.
        palette: a color for each class, red, green and blue.

    Example:
        >>> segmentation = Segmenter("runs/x")("a.jpg")  # doctest: +SKIP
        >>> segmentation.names  # doctest: +SKIP
        ['road', 'sky', 'car']
    """

    image: NDArray[np.uint8]
    labels: Tensor
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]

    @property
    def shares(self) -> dict[str, float]:
        """The share of the pixels of each class that occurs, largest first."""
        counts = torch.bincount(self.labels.ravel(), minlength=len(self.classes))
        order = counts.argsort(descending=True, stable=True).tolist()
        return {self.classes[i]: int(counts[i]) / self.labels.numel() for i in order if counts[i]}

    @property
    def names(self) -> list[str]:
        """The classes that occur, that of most pixels first."""
        return list(self.shares)

    def to_coco(self, image_id: int = 1, first_id: int = 1) -> list[dict[str, Any]]:
        """Return the region of each class that occurs as a COCO annotation; ``category_id`` counts classes from 1.

        Args:
            image_id: of the image in the data set.
            first_id: of the first annotation; the others count on.
        """
        annotations = []
        for number, (label, mask) in enumerate(self._regions()):
            (left, top, right, bottom) = _box(mask)
            annotations.append(
                {
                    "id": first_id + number,
                    "image_id": image_id,
                    "category_id": label + 1,
                    "bbox": [left, top, right - left, bottom - top],
                    "area": int(mask.sum()),
                    "iscrowd": 0,
                    "segmentation": _run_lengths(mask),
                }
            )
        return annotations

    def to_supervision(self) -> Any:
        """Return ``supervision.Detections`` with a mask for each class that occurs.

        Raises:
            sw_models.errors.InputError: supervision is not installed.
        """
        supervision = import_supervision("sw-seg")
        regions = list(self._regions())
        return supervision.Detections(
            xyxy=np.array([_box(mask) for _, mask in regions], dtype=np.float32).reshape(-1, 4),
            mask=np.array([mask for _, mask in regions]),
            class_id=np.array([label for label, _ in regions], dtype=int),
            data={"class_name": np.array([self.classes[label] for label, _ in regions])},
        )

    def _regions(self) -> Iterator[tuple[int, NDArray[np.bool_]]]:
        """Yield each class that occurs with its mask."""
        labels = self.labels.numpy()
        yield from ((int(label), labels == label) for label in np.unique(labels))

    def draw(self) -> Image.Image:
        """Return the image in the classes' colors, beside it those that occur, largest first."""
        palette = np.array(self.palette, dtype=np.uint8)
        height, width = self.labels.shape
        scale = max(1.0, min(height, width) / 600)
        line, font = round(_LINE * scale), ImageFont.load_default(14 * scale)
        colors = Image.fromarray(palette[self.labels.numpy()])
        mixed = Image.blend(Image.fromarray(self.image), colors, OPACITY)
        texts = {name: f"{name}  {share:.1%}" for name, share in self.shares.items()}
        legend = round(44 * scale) + max(int(font.getlength(text)) for text in texts.values())
        picture = Image.new("RGB", (width + legend, max(height, line * len(texts) + 12)), "white")
        picture.paste(mixed, (0, 0))
        pen = ImageDraw.Draw(picture)
        box = round(16 * scale)
        for number, (name, text) in enumerate(texts.items()):
            x, y = width + 10, 8 + line * number
            pen.rectangle((x, y, x + box, y + box), fill=self.palette[self.classes.index(name)])
            pen.text((x + round(1.5 * box), y), text, fill="black", font=font)
        return picture


def _box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of what is in a mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _run_lengths(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Return COCO's uncompressed run lengths, which go down the columns and begin with what is outside."""
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff([0, *edges.tolist(), flat.size]).tolist()
    return {"size": list(mask.shape), "counts": [0, *counts] if flat[0] else counts}


class Segmenter(Predictor[Segmentation]):
    """A trained segmenter.

    Args:
        run: a run's folder, a configuration's name, or a configuration file.
        checkpoint: weights of the whole segmenter; None for the run's best.
        device: such as "cpu" or "cuda:1"; None for the GPU if there is any.
        tile: pixels; images that are larger are seen in overlapping tiles of this size.
        model: MMSegmentation's, if it was loaded already.

    Raises:
        sw_models.errors.InputError: there is no such run, or its checkpoint does not fit.

    Example:
        >>> segmenter = Segmenter("runs/x")  # doctest: +SKIP
        >>> segmenter("a.jpg").draw().save("seen.png")  # doctest: +SKIP
    """

    task = TASK
    _scope = "mmseg"

    def _classes(self) -> tuple[str, ...]:
        return tuple(self.model.dataset_meta["classes"])

    @cached_property
    def _palette(self) -> tuple[tuple[int, int, int], ...]:
        count = len(self.classes)
        palette = self.model.dataset_meta.get("palette") or class_colours(count)
        try:
            colors = np.array(palette, dtype=np.uint8)[:count].reshape(count, 3).tolist()
        except (ValueError, TypeError, OverflowError) as error:
            raise InputError(f"checkpoint: got a palette that has not a color for each of {count} classes") from error
        return tuple((r, g, b) for r, g, b in colors)

    def _predict_tiles(self, image: NDArray[np.uint8], side: int) -> Segmentation:
        """Take each pixel's class from the tile in whose middle it is nearest."""
        height, width = image.shape[:2]
        labels = torch.zeros(height, width, dtype=torch.int64)
        for tile in tiles_of(height, width, side):
            found = self._predict_whole(np.ascontiguousarray(image[tile.rows, tile.columns]))
            above, left = tile.rows.start, tile.columns.start
            rows = slice(tile.own_rows.start - above, tile.own_rows.stop - above)
            columns = slice(tile.own_columns.start - left, tile.own_columns.stop - left)
            labels[tile.own_rows, tile.own_columns] = found.labels[rows, columns]
        return Segmentation(image, labels, self.classes, self._palette)

    def _result(self, image: NDArray[np.uint8], found: Any) -> Segmentation:
        return Segmentation(image, found.pred_sem_seg.data[0].cpu().long(), self.classes, self._palette)
