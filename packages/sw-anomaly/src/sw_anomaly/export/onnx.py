"""A detector as one ONNX file that takes an image as it comes from the camera and says whether it is defective.

Scaling, finding how a part lies, the method, smoothing, scoring and both thresholds are in the file, so that it runs
where neither this package nor torch is installed; other thresholds are taken as inputs. Whether it says what the
detector says is checked on every export.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sw_anomaly.data.intensity import Intensity
from sw_anomaly.detector import Detector
from sw_anomaly.evaluation.evaluate import Verdict, decide
from sw_anomaly.methods.base import Inspection
from sw_anomaly.preprocessing.graph import ViewGraph
from sw_anomaly.preprocessing.pose import Crop
from sw_anomaly.preprocessing.scaling import onnx_translations
from sw_models.errors import InputError
from sw_models.files import write_atomically
from sw_ops import to_onnx, use_backend

NEEDED = ("onnx", "onnxscript", "onnxruntime")
THRESHOLDS = ("image_threshold", "pixel_threshold")  # inputs that may be left out
OUTPUTS = ("score", "map", "is_defective", "mask")
RATES = (0.005, 0.01, 0.02, 0.05, 0.1)  # of false alarms, whose thresholds the file tells
TOLERANCE = 0.01  # of a threshold, or of what is found where that is more


@dataclass(frozen=True)
class Check:
    """How far the file's answers lie from the detector's, at most.

    Attributes:
        given: Number of images that were given for it, such as those of training.
        drawn: Number of images that were drawn for it.
        score: Largest difference of a score, relative to the threshold, or to the score where that is higher.
        map: Largest difference of a value in a map, relative to the threshold of pixels, or to the highest value. What
            a bank remembers is at no distance from it but what rounding leaves, which is nothing to be relative to.
    """

    given: int
    drawn: int
    score: float
    map: float


class Decision(nn.Module):
    """``Detector.inspect`` and ``decide`` as one module: an image, [H, W, 3], and ``THRESHOLDS`` to ``OUTPUTS``.

    The image is of type uint8, or of the type that deeper files have; the thresholds are float32 []. The outputs are
    the score, float32 []; the map, float32 [H, W]; the decisions on the image, bool [], and on its pixels, bool [H, W].
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.method = detector.method.exportable()
        self.view = ViewGraph(detector.info.view, detector.intensity)

    def forward(self, image: Tensor, image_threshold: Tensor, pixel_threshold: Tensor) -> tuple[Tensor, ...]:
        """Inspect an image and decide."""
        view, put_back = self.view(image)
        score, heat = self.method(view)
        full = put_back(heat)
        is_defective = score >= image_threshold
        return score, full, is_defective, is_defective & (full >= torch.minimum(pixel_threshold, full.max()))


def export_detector(detector: Detector, path: Path, images: Sequence[np.ndarray] = ()) -> Check:
    """Write a detector to an ONNX file once it has been run and its answers agree with the detector's.

    Args:
        detector: What is written.
        path: The file.
        images: What it is run on beside drawn images, each [H, W, 3] as ``load_image`` gives it.

    Returns:
        How far the answers lie apart.

    Raises:
        InputError: If what export needs is not installed.
        RuntimeError: If the answers do not agree; then nothing is written.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise InputError(f"export needs {', '.join(missing)}; install sw-anomaly[onnx]")
    if detector.info.view.tiles:
        raise InputError("export: got a detector that inspects images in tiles, want one trained with --tile off")
    decision = Decision(detector).eval()
    checked: list[Check] = []

    def write(partial: Path) -> None:
        _write(decision, detector, partial)
        checked.append(check_file(partial, detector, images))

    write_atomically(path, write)
    return checked[0]


def check_file(path: Path, detector: Detector, given: Sequence[np.ndarray] = ()) -> Check:
    """Run an exported file on given and on drawn images; raises ``RuntimeError`` where it disagrees."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    score_difference = map_difference = 0.0
    crop, side = detector.info.view.crop, detector.image_size
    drawn = [*_draw_noise(side), *(_draw_parts(crop, side) if crop else ())]
    for number, image in enumerate((*given, *(to_file(levels, detector.intensity) for levels in drawn))):
        image = _of_type(image, detector.intensity)
        score, score_map, is_defective, mask = session.run(OUTPUTS, {"image": image})
        wanted = detector.inspect(image)
        score_scale = max(wanted.score, detector.image_threshold)
        map_scale = max(float(wanted.map.max()), detector.pixel_threshold)
        score_difference = float(np.maximum(score_difference, abs(float(score) - wanted.score) / score_scale))
        map_difference = float(np.maximum(map_difference, np.abs(score_map - wanted.map).max() / map_scale))
        agrees = score_difference <= TOLERANCE and map_difference <= TOLERANCE and bool(np.isfinite(score))
        verdict = decide(detector, Inspection(float(score), score_map)) if agrees else Verdict(is_defective, mask)
        follows = verdict.is_defective == is_defective and np.array_equal(verdict.pixels, mask)
        follows = follows and (number > 0 or _takes_thresholds(session, image, score, score_map))
        if not (follows and agrees):
            raise RuntimeError(
                f"the exported file disagrees with the detector: scores differ by {score_difference:.2g}, maps by "
                f"{map_difference:.2g}, decisions {'follow' if follows else 'do not follow'} the thresholds"
            )
    return Check(len(given), len(drawn), score_difference, map_difference)


def _takes_thresholds(session: Any, image: np.ndarray, score: np.ndarray, score_map: np.ndarray) -> bool:
    """Whether an image is good just above its score, and defective at it, where its hottest pixels are."""

    def run(*thresholds: np.ndarray) -> tuple[bool, np.ndarray]:
        given = {name: np.asarray(value) for name, value in zip(THRESHOLDS, thresholds, strict=True)}
        return session.run(OUTPUTS[2:], {"image": image, **given})

    highest = score_map.max()
    (above, none), (at, hottest) = run(np.nextafter(score, np.float32(np.inf)), highest * 0), run(score, highest)
    return not above and not none.any() and bool(at) and np.array_equal(hottest, score_map >= highest)


def input_type(intensity: Intensity) -> torch.dtype:
    """Return the type of the image that an exported file takes: that of the files which training saw."""
    if intensity.white is None:
        return torch.uint8
    return torch.float32 if intensity.white == 1 or intensity.white > 65535 else torch.uint16


def _of_type(image: np.ndarray, intensity: Intensity) -> np.ndarray:
    """Return a file's image, 8-bit ones among deeper ones on their scale, of the type that an exported file takes."""
    if image.dtype == np.uint8 and intensity.white is not None:
        return to_file(image, intensity)
    return image.astype(str(input_type(intensity)).removeprefix("torch."))


def to_file(levels: np.ndarray, intensity: Intensity) -> np.ndarray:
    """Return an image, levels uint8 [H, W, 3], as a file of the depth that training saw holds it."""
    kind = str(input_type(intensity)).removeprefix("torch.")
    values = levels * ((intensity.white or 255) / 255)
    return (values if kind == "float32" else np.rint(values)).astype(kind)


def _draw_noise(side: int) -> Iterator[np.ndarray]:
    """Images of coloured blocks, of several sizes."""
    rng = np.random.default_rng(0)
    for height, width in ((side, side), (side + side // 3, side), (side // 2, side // 2 + 3)):
        coarse = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
        yield np.ascontiguousarray(coarse.repeat(8, axis=0).repeat(8, axis=1)[:height, :width])


def _draw_parts(crop: Crop, side: int) -> Iterator[np.ndarray]:
    """Wedges as long as the parts that fill the crop, in several poses."""
    length, width, ground = crop.height - 2 * crop.margin, crop.width - 2 * crop.margin, np.array(crop.ground)
    rows, columns = np.mgrid[:side, :side] - side / 2
    for turn in (0.3, 2.0, 4.5):
        along, across = rows * np.cos(turn) + columns * np.sin(turn), columns * np.cos(turn) - rows * np.sin(turn)
        wedge = (np.abs(along) < length / 2) & (np.abs(across) < width / 2 * (0.7 - 0.6 * along / length))
        yield np.where(wedge[..., None], (ground + 128) % 256, ground).astype(np.uint8)


def _write(decision: Decision, detector: Detector, path: Path) -> None:
    import onnx

    image = torch.zeros(detector.image_size + 32, detector.image_size + 16, 3, dtype=input_type(detector.intensity))
    sides = {0: torch.export.Dim("height", min=16, max=16384), 1: torch.export.Dim("width", min=16, max=16384)}
    thresholds = dict(zip(THRESHOLDS, (detector.image_threshold, detector.pixel_threshold), strict=True))
    with torch.no_grad(), use_backend("torch"):  # the file must run where sw-ops is not installed
        model = to_onnx(
            decision,
            (image, *(torch.tensor(value, dtype=torch.float32) for value in thresholds.values())),
            input_names=["image", *thresholds],
            output_names=list(OUTPUTS),
            dynamic_shapes=(sides, None, None),
            custom_translation_table=onnx_translations(),
        )
    for name, value in thresholds.items():  # an input of an initializer's name may be left out
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(value, dtype=np.float32), name))
    about = {
        "category": detector.info.category,
        "method": detector.info.method,
        "model": detector.info.model,
        "white": 255 if detector.intensity.white is None else detector.intensity.white,
        **thresholds,
        "false_alarms": _thresholds_by_rate(detector),
    }
    onnx.helper.set_model_props(model, {"sw-anomaly": json.dumps(about)})
    onnx.save(model, path)


def _thresholds_by_rate(detector: Detector) -> dict[str, dict[str, float]]:
    """Return the thresholds that keep some rates of false alarms; none of former checkpoints."""
    if detector.info.good is None:
        return {}
    kept = {rate: detector.keeping(rate) for rate in RATES}
    return {
        f"{rate:g}": dict(zip(THRESHOLDS, (one.image_threshold, one.pixel_threshold), strict=True))
        for rate, one in kept.items()
    }
