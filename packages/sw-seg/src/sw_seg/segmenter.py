"""Segmenters to be called with images, and what they see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from sw_seg.task import TASK
from sw_sparse.openmmlab.predictor import Predictor

OPACITY = 0.55  # of the colors laid over an image
_LINE = 22  # pixels of a line of the legend


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

    def draw(self) -> Image.Image:
        """Return the image in the classes' colors, beside it those that occur, largest first."""
        palette = np.array(self.palette, dtype=np.uint8)
        mixed = (1 - OPACITY) * self.image.astype(np.float32) + OPACITY * palette[self.labels.numpy()]
        font = ImageFont.load_default(14)
        texts = {name: f"{name}  {share:.1%}" for name, share in self.shares.items()}
        height, width = self.labels.shape
        legend = 44 + max(int(font.getlength(text)) for text in texts.values())
        picture = Image.new("RGB", (width + legend, max(height, _LINE * len(texts) + 12)), "white")
        picture.paste(Image.fromarray(mixed.astype(np.uint8)), (0, 0))
        pen = ImageDraw.Draw(picture)
        for line, (name, text) in enumerate(texts.items()):
            x, y = width + 10, 8 + _LINE * line
            pen.rectangle((x, y, x + 16, y + 16), fill=self.palette[self.classes.index(name)])
            pen.text((x + 24, y), text, fill="black", font=font)
        return picture


class Segmenter(Predictor[Segmentation]):
    """A trained segmenter.

    Args:
        run: a run's folder, a configuration's name, or a configuration file.
        checkpoint: weights of the whole segmenter; None for the run's best.
        device: such as "cpu" or "cuda:1"; None for the GPU if there is any.
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

    def _result(self, image: NDArray[np.uint8], found: Any) -> Segmentation:
        palette = tuple((int(r), int(g), int(b)) for r, g, b in self.model.dataset_meta["palette"])
        return Segmentation(image, found.pred_sem_seg.data[0].cpu().long(), self.classes, palette)
