"""A detector as one ONNX file that takes an image as it comes from the camera and says whether it is defective.

Scaling, finding how a part lies, the method, smoothing, scoring and both thresholds are in the file, so that it runs
where neither this package nor torch is installed. Whether it says what the detector says is checked on every export.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from sw_anomaly.detector import TrainedDetector, scored, smooth_map
from sw_anomaly.export.heat import HEATS
from sw_anomaly.export.view import Frame
from sw_anomaly.methods.ensemble import Combined
from sw_anomaly.preprocessing.pose import Crop
from sw_models.errors import InputError
from sw_models.files import write_atomically
from sw_ops import use_backend

NEEDED = ("onnx", "onnxscript", "onnxruntime")
OUTPUTS = ("score", "map", "is_defective", "mask")
TOLERANCE = 0.01  # of the largest value in a map: some pixels are rounded differently when images are scaled


@dataclass(frozen=True)
class Check:
    """How far the file's answers lie from the detector's, relative to the largest value in its map, at most."""

    images: int
    score: float
    map: float


class Decision(nn.Module):
    """``TrainedDetector.inspect`` and the thresholds as one module: an image, uint8 [H, W, 3], to ``OUTPUTS``.

    These are the score, float32 []; the map, float32 [H, W]; the decisions on the image, bool [], and on its pixels,
    bool [H, W].
    """

    def __init__(self, detector: TrainedDetector) -> None:
        super().__init__()
        method = detector.method
        parts = list(method.parts.values()) if isinstance(method, Combined) else [method]
        self.heats = nn.ModuleList(HEATS[type(part)](part) for part in parts)
        self.units = method.units.tolist() if isinstance(method, Combined) else [1.0]
        self.frame = Frame(detector.info.framing)
        self.image_size = detector.image_size
        self.image_threshold, self.pixel_threshold = detector.image_threshold, detector.pixel_threshold

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Inspect an image and decide."""
        view, put_back = self.frame(image)
        heats = [smooth_map(heat(view), self.image_size)[0, 0] for heat in self.heats]
        highest = [heat.flatten().topk(scored(heat.numel(), self.image_size)).values.mean() for heat in heats]
        score = sum(mean / unit for mean, unit in zip(highest, self.units, strict=True))
        full = put_back(sum(heat / unit for heat, unit in zip(heats, self.units, strict=True)))
        return score, full, score >= self.image_threshold, full >= self.pixel_threshold


def export_detector(detector: TrainedDetector, path: Path) -> Check:
    """Write the detector to the ONNX file ``path`` once it has been run and its answers agree with the detector's.

    Raises ``InputError`` if what export needs is not installed, and ``RuntimeError`` if the answers do not agree.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise InputError(f"export needs {', '.join(missing)}; install sw-anomaly[onnx]")
    decision = Decision(detector).eval()
    checked: list[Check] = []

    def write(partial: Path) -> None:
        _write(decision, detector, partial)
        checked.append(check_file(partial, detector))

    write_atomically(path, write)
    return checked[0]


def check_file(path: Path, detector: TrainedDetector) -> Check:
    """Run an exported file on drawn images; raises ``RuntimeError`` where it disagrees with the detector."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    score_difference = map_difference = 0.0
    crop, side = detector.info.framing.crop, detector.image_size
    images = [*_draw_noise(side), *(_draw_parts(crop, side) if crop else ())]
    for image in images:
        score, score_map, is_defective, mask = session.run(OUTPUTS, {"image": image})
        wanted = detector.inspect(image)
        highest = float(wanted.map.max())
        score_difference = max(score_difference, abs(float(score) - wanted.score) / highest)
        map_difference = max(map_difference, float(np.abs(score_map - wanted.map).max()) / highest)
        follows = (score >= detector.image_threshold) == is_defective
        follows = follows and bool(((score_map >= detector.pixel_threshold) == mask).all())
        if not follows or max(score_difference, map_difference) > TOLERANCE:
            raise RuntimeError(
                f"the exported file disagrees with the detector: scores differ by {score_difference:.2g}, maps by "
                f"{map_difference:.2g}, decisions {'follow' if follows else 'do not follow'} the thresholds"
            )
    return Check(len(images), score_difference, map_difference)


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


def _write(decision: Decision, detector: TrainedDetector, path: Path) -> None:
    import onnx

    image = torch.zeros(detector.image_size + 32, detector.image_size + 16, 3, dtype=torch.uint8)
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
    onnx.helper.set_model_props(model, {"sw-anomaly": json.dumps({**about, **thresholds})})
    onnx.save(model, path)
