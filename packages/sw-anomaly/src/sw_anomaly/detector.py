"""A trained detector: what it says about one image, and the file that holds it.

A detector frames an image (see ``framing``), lets its method heat up what looks defective, and decides. What methods
have in common is here; what each makes of a view is in a file of its own.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from sw_anomaly.data.splits import Protocol
from sw_anomaly.metrics.ranking import rank_images, rank_pixels
from sw_anomaly.preprocessing.pose import Crop
from sw_anomaly.preprocessing.view import Framing
from sw_models.errors import InputError
from sw_models.files import write_atomically

FORMAT = "sw-anomaly-2"
SMOOTHING = 0.008  # standard deviation of the Gaussian that smooths a map, in widths of the image
SCORED_SHARE = 0.0005  # an image's score is the mean of its highest pixels, so many of a square of `image_size`


@dataclass(frozen=True)
class Inspection:
    """What a detector says about an image: a score and a map of scores, float32 [H, W], none below 0."""

    score: float
    map: np.ndarray


class Method(ABC):
    """What tells defective from good places in the views of one category."""

    @abstractmethod
    def inspect(self, view: np.ndarray) -> Inspection:
        """Inspect a view, uint8 [h, w, 3]; the map is of its size."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """All that has to be saved; no two share memory."""


class HeatMethod(Method):
    """A method whose score follows from its map, for images scaled to ``image_size``."""

    image_size: int

    @abstractmethod
    def heat(self, view: np.ndarray) -> np.ndarray:
        """How defective each place of a view, uint8 [h, w, 3], looks: float32 [h, w], none below 0."""

    def inspect(self, view: np.ndarray) -> Inspection:
        """Inspect a view: the score is the mean of the highest heat."""
        heat = self.heat(view)
        return Inspection(score(heat, self.image_size), heat)


@dataclass(frozen=True)
class Thresholds:
    """Scores from which an image or a pixel is called defective, and the pixels' average precision."""

    image: float
    pixel: float
    pixel_ap: float


@dataclass(frozen=True)
class DetectorInfo:
    """What a checkpoint says besides its tensors."""

    category: str
    method: str
    model: str  # the method's network, if it has one
    protocol: Protocol
    seed: int
    training_images: str  # digest of all good training images of the category, held-out ones included
    seen: tuple[str, ...]  # the `picture_digest` of every image that fitting used
    framing: Framing
    alignment: str  # what the images said about aligning the parts
    image_threshold: float
    pixel_threshold: float


class TrainedDetector:
    """A method for the views of one category, with thresholds."""

    def __init__(self, method: Method, info: DetectorInfo) -> None:
        self.method = method
        self.info = info

    @property
    def image_threshold(self) -> float:
        """Images that score this much are called defective."""
        return self.info.image_threshold

    @property
    def pixel_threshold(self) -> float:
        """Pixels that score this much are called defective."""
        return self.info.pixel_threshold

    @property
    def image_size(self) -> int:
        """Side in pixels to which images are scaled."""
        return self.info.framing.image_size

    def inspect(self, image: np.ndarray) -> Inspection:
        """Inspect an image, uint8 [H, W, 3] of any size."""
        framed = self.info.framing.frame(image)
        found = self.method.inspect(framed.pixels)
        return Inspection(found.score, framed.put_back(found.map))

    def save(self, path: Path) -> None:
        """Write everything to one safetensors file, whole or not at all."""
        metadata = {"format": FORMAT, "info": json.dumps(asdict(self.info))}
        write_atomically(path, lambda partial: save_file(self.method.tensors(), partial, metadata))


def read_info(path: Path) -> DetectorInfo:
    """The description in a checkpoint; raises ``InputError`` if the file is not one."""
    wanted = "a checkpoint.safetensors written by `sw-anomaly train` is wanted"
    if not path.is_file():
        raise InputError(f"checkpoint {path} is not a file; {wanted}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise InputError(f"checkpoint {path} is not a safetensors file ({error}); {wanted}") from error
    if metadata.get("format") != FORMAT:
        kind = metadata.get("format", "unknown")
        raise InputError(f"checkpoint {path} holds something else (its format is {kind!r}); {wanted}")
    info = json.loads(metadata["info"])
    crop = info["framing"]["crop"]
    crop = Crop(**{**crop, "ground": tuple(crop["ground"])}) if crop else None
    framing = Framing(info["framing"]["image_size"], crop)
    return DetectorInfo(
        **{**info, "framing": framing, "protocol": Protocol(**info["protocol"]), "seen": tuple(info["seen"])}
    )


def default_device() -> torch.device:
    """The GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def smooth_map(maps: Tensor, image_size: int) -> Tensor:
    """Maps [B, 1, h, w] smoothed by a Gaussian, of a width that is relative to the image's."""
    sigma = SMOOTHING * image_size
    return gaussian_blur(maps, 2 * math.ceil(3 * sigma) + 1, sigma)


def score(heat: np.ndarray, image_size: int) -> float:
    """The mean of the highest values in the heat, float32 [h, w], of a view."""
    count = scored(heat.size, image_size)
    return float(np.partition(heat.ravel(), -count)[-count:].mean())


def scored(pixels: int, image_size: int) -> int:
    """How many of the pixels of a view count for its score."""
    return min(max(round(SCORED_SHARE * image_size**2), 1), pixels)


def calibrate(inspections: Sequence[Inspection], masks: Sequence[np.ndarray]) -> Thresholds:
    """The thresholds of highest F1 on inspected views and their masks, bool [h, w]."""
    images = rank_images([inspection.score for inspection in inspections], [bool(mask.any()) for mask in masks])
    pixels = rank_pixels([inspection.map for inspection in inspections], masks)
    return Thresholds(images.f1_max()[1], pixels.f1_max()[1], pixels.average_precision())
