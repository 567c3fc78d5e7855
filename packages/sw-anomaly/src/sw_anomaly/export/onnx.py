"""A detector as one ONNX file that takes an image as it comes from the camera and says whether it is defective.

Scaling, finding how a part lies, the method, smoothing, scoring and both thresholds are in the file, so that it runs
where neither this package nor torch is installed. Whether it says what the detector says is checked on every export.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from sw_anomaly.data.intensity import Intensity
from sw_anomaly.detector import Detector
from sw_anomaly.preprocessing.graph import ViewGraph
from sw_anomaly.preprocessing.pose import Crop
from sw_models.errors import InputError
from sw_models.files import write_atomically
from sw_ops import use_backend

NEEDED = ("onnx", "onnxscript", "onnxruntime")
OUTPUTS = ("score", "map", "is_defective", "mask")
TOLERANCE = 0.01  # of the largest value in a map: some pixels are rounded differently when images are scaled


@dataclass(frozen=True)
class Check:
    """How far the file's answers lie from the detector's, at most.

    Attributes:
        given: Number of images that were given for it, such as those of training.
        drawn: Number of images that were drawn for it.
        score: Largest difference of a score, relative to the largest value in the image's map.
        map: Largest difference of a value in a map, relative to the same.
    """

    given: int
    drawn: int
    score: float
    map: float


class Decision(nn.Module):
    """``Detector.inspect`` and the thresholds as one module: an image, [H, W, 3], to ``OUTPUTS``.

    The image is of type uint8, or of the type that deeper files have. The outputs are the score, float32 []; the map,
    float32 [H, W]; the decisions on the image, bool [], and on its pixels, bool [H, W].
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.method = detector.method.exportable()
        self.view = ViewGraph(detector.info.view, detector.intensity)
        self.image_threshold, self.pixel_threshold = detector.image_threshold, detector.pixel_threshold

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Inspect an image and decide."""
        view, put_back = self.view(image)
        score, heat = self.method(view)
        full = put_back(heat)
        return score, full, score >= self.image_threshold, full >= self.pixel_threshold


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
    for image in (*given, *(to_file(levels, detector.intensity) for levels in drawn)):
        image = _of_type(image, detector.intensity)
        score, score_map, is_defective, mask = session.run(OUTPUTS, {"image": image})
        wanted = detector.inspect(image)
        highest = float(wanted.map.max())
        score_difference = float(np.maximum(score_difference, abs(float(score) - wanted.score) / highest))
        map_difference = float(np.maximum(map_difference, np.abs(score_map - wanted.map).max() / highest))
        follows = (score >= detector.image_threshold) == is_defective
        follows = follows and bool(((score_map >= detector.pixel_threshold) == mask).all())
        agrees = score_difference <= TOLERANCE and map_difference <= TOLERANCE and np.isfinite(score)
        if not (follows and agrees):
            raise RuntimeError(
                f"the exported file disagrees with the detector: scores differ by {score_difference:.2g}, maps by "
                f"{map_difference:.2g}, decisions {'follow' if follows else 'do not follow'} the thresholds"
            )
    return Check(len(given), len(drawn), score_difference, map_difference)


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
    with torch.no_grad(), use_backend("torch"):  # the file must run where sw-ops is not installed
        program = torch.onnx.export(
            decision,
            (image,),
            input_names=["image"],
            output_names=list(OUTPUTS),
            dynamo=True,
            dynamic_shapes=(sides,),
            verbose=False,
        )
    model = cast(torch.onnx.ONNXProgram, program).model_proto  # None in the old exporter only
    about = {"category": detector.info.category, "method": detector.info.method, "model": detector.info.model}
    thresholds = {"image_threshold": detector.image_threshold, "pixel_threshold": detector.pixel_threshold}
    white = {"white": 255 if detector.intensity.white is None else detector.intensity.white}
    onnx.helper.set_model_props(model, {"sw-anomaly": json.dumps({**about, **white, **thresholds})})
    onnx.save(model, path)
