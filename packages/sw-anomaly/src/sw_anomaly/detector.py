"""A trained detector: what it says about one image, and the file that holds it."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sw_anomaly.data.intensity import Intensity
from sw_anomaly.data.splits import Protocol
from sw_anomaly.methods.base import HeatMethod, Inspection, Method
from sw_anomaly.methods.correction import Correction
from sw_anomaly.methods.ensemble import Ensemble
from sw_anomaly.methods.patch_bank import PatchBank
from sw_anomaly.methods.patchcore import PatchCore
from sw_anomaly.methods.unet.method import UNetMethod
from sw_anomaly.metrics.thresholds import CONFIDENCE, GoodScores, images_needed, threshold_at
from sw_anomaly.preprocessing.pose import Crop
from sw_anomaly.preprocessing.view import View
from sw_models.checkpoints.tensor_file import read_tensor_file, write_tensors
from sw_models.errors import InputError

FORMAT = "sw-anomaly-4"
FORMERS = {  # read as well, and judged as they were
    "sw-anomaly-3": "probabilities as scores, padding left out of neighborhoods",
    "sw-anomaly-2": "and other names of tensors, no intensity, no checksum",
}
OLDEST = "sw-anomaly-2"
MAX_SIDE = 16384  # pixels along a view
DAMAGE = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    RuntimeError,
    RecursionError,
)  # of a damaged file
WANTED = "want a checkpoint.safetensors written by `sw-anomaly train`"
PARTS: dict[str, Any] = {"unet": UNetMethod, "bank": PatchBank, "patchcore": PatchCore}
WITH_NETWORK = ("unet", "patchcore")
CORRECTION = "correction."  # what begins the names of a part's tensors that were learned from wrong verdicts
METHODS = ("unet", "bank", "unet+bank", "patchcore", "unet+patchcore")


@dataclass(frozen=True)
class DetectorInfo:
    """What a checkpoint says besides its tensors.

    Attributes:
        category: Name of the category.
        method: One of ``METHODS``.
        model: The networks of those parts of the method that have one, joined by a plus.
        protocol: Who saw what.
        seed: What all that was random followed from.
        training_images: Digest of all good training images of the category, held-out ones included.
        seen: The ``picture_digest`` of every image that fitting used.
        view: How images come before the method.
        intensity: The scale that images are read on.
        alignment: What the images said about aligning the parts.
        tiling: What their size said about inspecting them in tiles.
        suspicious: Good training images that look defective, of which nothing is remembered.
        corrected: Number of wrong verdicts that were learned from.
        image_threshold: Images that score this much are called defective.
        pixel_threshold: Pixels of defective images that score this much are called defective.
        good: What it says of the good training images; None in former checkpoints.
    """

    category: str
    method: str
    model: str
    protocol: Protocol
    seed: int
    training_images: str
    seen: tuple[str, ...]
    view: View
    intensity: Intensity
    alignment: str
    image_threshold: float
    pixel_threshold: float
    good: GoodScores | None = None
    tiling: str = ""
    suspicious: tuple[str, ...] = ()
    corrected: int = 0

    @property
    def networks(self) -> dict[str, str]:
        """The network of each part of the method that has one."""
        having = [part for part in self.method.split("+") if part in WITH_NETWORK]
        return dict(zip(having, self.model.split("+"), strict=False))  # without any the model is "none"


class Detector:
    """A method for the views of one category, with thresholds.

    Example:
        >>> detector = sw_anomaly.load_detector("runs/bottle/001/checkpoint.safetensors")
        >>> inspection = detector.inspect(sw_anomaly.load_image("part.png"))
        >>> inspection.score >= detector.image_threshold
    """

    def __init__(self, method: Method, info: DetectorInfo) -> None:
        self.method = method
        self.info = info

    @property
    def parts(self) -> dict[str, Method]:
        """The methods that it consists of, by name."""
        if isinstance(self.method, Ensemble):
            return {name: cast(Method, part) for name, part in self.method.parts.items()}
        return {self.info.method: self.method}

    @property
    def image_threshold(self) -> float:
        """Images that score this much are called defective."""
        return self.info.image_threshold

    @property
    def pixel_threshold(self) -> float:
        """Pixels that score this much are called defective."""
        return self.info.pixel_threshold

    @property
    def level(self) -> float:
        """What the maps of good images show in most places."""
        return self.info.good.level if self.info.good else 0.0

    @property
    def image_size(self) -> int:
        """Side in pixels to which images are scaled."""
        return self.info.view.image_size

    @property
    def intensity(self) -> Intensity:
        """The scale that images are read on."""
        return self.info.intensity

    def inspect(self, image: np.ndarray) -> Inspection:
        """Inspect an image.

        Args:
            image: Of any size, [H, W, 3] as ``load_image`` gives it.

        Returns:
            The score, and a map of the image's size.

        Raises:
            InputError: If the image is deeper than those of training, or the score is not finite.
        """
        viewed = self.info.view.apply(self.info.intensity.levels(image))
        found = self.method.inspect(viewed.pixels)
        return Inspection(found.score, viewed.put_back(found.map))

    def keeping(self, rate: float) -> Detector:
        """Return the same detector with the lowest thresholds that keep a rate of false alarms.

        Args:
            rate: Share of the good images, above 0 and below 1; ``promise`` tells how far that can be relied on.

        Raises:
            InputError: If the rate is another number, or the checkpoint does not hold scores of good images.
        """
        check_rate(rate)
        good = self.info.good
        if good is None:
            raise InputError("--false-alarms: the checkpoint is of a former version and holds no scores; train again")
        image, pixel = threshold_at(good.scores, rate), threshold_at(good.peaks, rate)
        return Detector(self.method, replace(self.info, image_threshold=image, pixel_threshold=pixel))

    def promise(self, rate: float | None = None) -> str:
        """Say what holds of false alarms at the threshold in force, and with how many images a rate could be."""
        good = self.info.good
        if good is None or not good.held_out:
            return "false alarms: nothing can be promised without held-out good images"
        kept = good.promise(self.image_threshold)
        text = (
            f"{good.reached(self.image_threshold)} of {good.held_out} held-out good images reach the threshold: "
            f"at most {100 * kept:.1f} % false alarms, with {100 * CONFIDENCE:.0f} % confidence"
        )
        if rate is not None and kept > rate:
            text += f"; {100 * rate:g} % takes {images_needed(rate)} held-out images"
        return text

    def save(self, path: Path) -> None:
        """Write everything to one sealed safetensors file, whole or not at all."""
        write_tensors(path, self.method.state(), {"format": FORMAT, "info": json.dumps(asdict(self.info))})


def check_rate(rate: float) -> None:
    """Raise ``InputError`` if this is no rate of false alarms that can be asked for."""
    if not 0 < rate < 1:
        raise InputError(f"--false-alarms: got {rate:g}, want a rate above 0 and below 1, such as 0.02")


def load_detector(path: Path | str) -> Detector:
    """Read a checkpoint.

    Args:
        path: A ``checkpoint.safetensors`` that ``sw-anomaly train`` wrote.

    Returns:
        The detector, on the GPU if there is one.

    Raises:
        InputError: If the file is anything else, or is not as it was written.
    """
    path = Path(path)
    if "sha256" not in (metadata := _read_metadata(path)) and metadata["format"] != OLDEST:
        raise InputError(f"checkpoint {path} is damaged: got no SHA-256; {WANTED}")
    state, _ = read_tensor_file(path)
    broken = [name for name, tensor in state.items() if tensor.is_floating_point() and not _is_finite(tensor)]
    if broken:
        raise InputError(f"checkpoint {path}: got values that are not finite in {broken[0]!r}, want numbers")
    info = _parse_info(path, metadata)
    if info.method not in METHODS:
        raise InputError(f"checkpoint {path}: got the method {info.method!r}, want one of {', '.join(METHODS)}")
    if metadata["format"] == OLDEST:
        state = _rename_oldest(state, info.method)
    try:
        return Detector(_restore(info, state, former=metadata["format"] != FORMAT), info)
    except InputError as error:
        raise InputError(f"checkpoint {path} {error}") from error
    except DAMAGE as error:
        raise InputError(f"checkpoint {path} does not hold what {info.method} needs ({error!r}); {WANTED}") from error


def read_info(path: Path) -> DetectorInfo:
    """Return the description in a checkpoint; raises ``InputError`` if the file is not one."""
    return _parse_info(path, _read_metadata(path))


def _read_metadata(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise InputError(f"checkpoint {path} is not a file; {WANTED}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise InputError(f"checkpoint {path} is not a safetensors file ({error}); {WANTED}") from error
    if metadata.get("format") not in (FORMAT, *FORMERS):
        kind = metadata.get("format", "unknown")
        raise InputError(f"checkpoint {path} holds something else (its format is {kind!r}); {WANTED}")
    return metadata


def _is_finite(tensor: Tensor) -> bool:
    wide = tensor.float() if tensor.element_size() == 1 else tensor  # torch cannot ask types of 8 bits
    return bool(wide.isfinite().all())


def _parse_info(path: Path, metadata: dict[str, str]) -> DetectorInfo:
    try:
        info = json.loads(metadata["info"])
        view = info.pop("framing" if metadata["format"] == OLDEST else "view")
        crop = Crop(**{**view["crop"], "ground": tuple(view["crop"]["ground"])}) if view["crop"] else None
        parsed = {
            "view": View(view["image_size"], crop, view.get("tiles", False)),
            "intensity": Intensity(**info.get("intensity", {})),
            "protocol": Protocol(**info["protocol"]),
            "seen": tuple(info["seen"]),
            "suspicious": tuple(info.get("suspicious", ())),
            "good": _parse_good(info.get("good")),
        }
        return _checked(DetectorInfo(**{**info, **parsed}))
    except DAMAGE as error:
        raise InputError(f"checkpoint {path} has a description that is damaged ({error!r}); {WANTED}") from error


def _parse_good(good: dict[str, Any] | None) -> GoodScores | None:
    if good is None:
        return None
    parsed = GoodScores(**{**good, "scores": tuple(good["scores"]), "peaks": tuple(good["peaks"])})
    numbers = (*parsed.scores, *parsed.peaks, parsed.level)
    if not all(type(number) in (int, float) and math.isfinite(number) for number in numbers):
        raise ValueError("a score that is no finite number")
    if not parsed.scores or len(parsed.scores) != len(parsed.peaks):
        raise ValueError("scores that are none, or not as many as peaks")
    if type(parsed.held_out) is not int or not 0 <= parsed.held_out <= len(parsed.scores):
        raise ValueError("a number of held-out images that is not one")
    return parsed


def _checked(info: DetectorInfo) -> DetectorInfo:
    """Return the description, if its values are of the types and in the ranges that detectors write."""
    crop, white = info.view.crop, info.intensity.white
    texts = [
        info.category,
        info.method,
        info.model,
        info.training_images,
        info.alignment,
        info.tiling,
        info.protocol.name,
        *info.seen,
        *info.suspicious,
    ]
    sizes = [info.view.image_size, *((crop.height, crop.width) if crop else ())]
    counts = [info.seed, info.corrected, info.protocol.defects, *([crop.margin] if crop else ())]
    numbers = [info.image_threshold, info.pixel_threshold, *(crop.ground if crop else ()), *([white] if white else ())]
    if type(info.view.tiles) is not bool:
        raise ValueError("tiles that are neither true nor false")
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("a name that is no text")
    if not all(type(size) is int and 0 < size <= MAX_SIDE for size in sizes):
        raise ValueError(f"a size that is not from 1 to {MAX_SIDE}")
    if not all(type(number) is int and number >= 0 for number in counts):
        raise ValueError("a number that is not whole")
    if not all(type(number) in (int, float) and math.isfinite(number) for number in numbers):
        raise ValueError("a threshold or a level that is no finite number")
    return info


def _restore(info: DetectorInfo, state: dict[str, Tensor], former: bool) -> Method:
    names = info.method.split("+")
    if len(names) == 1:
        return _restore_part(info.method, info, state, former)
    parts = {name: _restore_part(name, info, _below(f"parts.{name}.", state), former) for name in names}
    return Ensemble(parts, state["units"].numpy())


def _restore_part(name: str, info: DetectorInfo, state: dict[str, Tensor], former: bool) -> Method:
    learned = _below(CORRECTION, state)
    own = {key: tensor for key, tensor in state.items() if not key.startswith(CORRECTION)}
    method: HeatMethod = PARTS[name].from_state(own, info.networks.get(name, "none"), info.view.image_size, former)
    method.tiles = info.view.tiles
    if learned:
        method.correction = Correction(**learned).to(next(method.buffers()).device)
    return method


def _below(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}


def _rename_oldest(state: dict[str, Tensor], method: str) -> dict[str, Tensor]:
    """Tensors by the names that they have now."""
    network = {"unet": "model.", "patchcore": "backbone.", "bank": ""}
    whole = ("reference", "features", "units")
    renamed = {}
    for key, tensor in state.items():
        part, _, name = key.rpartition("/")
        prefix = "" if name in whole else network[part or method]
        renamed[(f"parts.{part}." if part else "") + prefix + name] = tensor
    return renamed
