"""A detector as one ONNX file that takes an image as it comes from the camera and says whether it is defective.

Scaling, the method, smoothing, scoring and both thresholds are in the file, so that it runs where neither this package
nor torch is installed. What is not: finding how a part lies. A detector that aligns parts cannot be exported.

The modules here say in tensors what the methods' `heat` says; whether they say the same is checked on every export.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from timm.utils import reparameterize_model
from torch import Tensor, nn

from sw_anomaly.detector import SCORED_SHARE, TrainedDetector, smooth_map
from sw_anomaly.errors import InputError
from sw_anomaly.files import write_atomically
from sw_anomaly.patchcore import PatchCore
from sw_anomaly.segmenter import Segmenter, network_input
from sw_ops import use_backend

NEEDED = ("onnx", "onnxscript", "onnxruntime")
OUTPUTS = ("score", "map", "is_defective", "mask")
TOLERANCE = 0.01  # of the largest value in a map: images are rounded differently when they are scaled


@dataclass(frozen=True)
class Check:
    """How far the file's answers lie from the detector's, relative to the largest value in its map, at most."""

    images: int
    score: float
    map: float


class _UNetHeat(nn.Module):
    """`Segmenter.heat` of views [1, 3, S, S] in 0..255, before it is smoothed: [1, 1, S, S]."""

    def __init__(self, method: Segmenter) -> None:
        super().__init__()
        self.model = reparameterize_model(method.model).cpu()
        self.reference = nn.Buffer(torch.from_numpy(method.reference).permute(2, 0, 1)[None] / 255)

    def forward(self, views: Tensor) -> Tensor:
        logits = self.model(network_input(views / 255, self.reference))
        return torch.sigmoid(F.interpolate(logits, views.shape[2:], mode="bilinear"))


class _PatchCoreHeat(nn.Module):
    """`PatchCore.heat` of views [1, 3, S, S] in 0..255, before it is smoothed: [1, 1, S, S]."""

    def __init__(self, method: PatchCore) -> None:
        super().__init__()
        self.backbone = reparameterize_model(method.backbone).cpu()
        config = cast(Any, method.backbone).pretrained_cfg
        self.mean, self.std = (nn.Buffer(torch.tensor(config[key]).view(1, 3, 1, 1)) for key in ("mean", "std"))
        self.good = nn.Buffer(torch.from_numpy(method.features))

    def forward(self, views: Tensor) -> Tensor:
        maps = self.backbone((views / 255 - self.mean) / self.std)
        maps = [F.avg_pool2d(level, 3, stride=1, padding=1, count_include_pad=False) for level in maps]
        size = maps[0].shape[2:]
        found = torch.cat([F.interpolate(level, size, mode="bilinear") for level in maps], dim=1)[0].flatten(1).T
        squared = found.square().sum(1) + (self.good.square().sum(1) - 2 * found @ self.good.T).amin(1)
        return F.interpolate(squared.clamp(min=0).sqrt().view(1, 1, *size), views.shape[2:], mode="bilinear")


HEATS: dict[type, Callable[[Any], nn.Module]] = {Segmenter: _UNetHeat, PatchCore: _PatchCoreHeat}


class Decision(nn.Module):
    """What `TrainedDetector.inspect` does, and the thresholds, as one module: an image, uint8 [H, W, 3], to `OUTPUTS`.

    These are the score, float32 []; the map, float32 [H, W]; the decisions on the image, bool [], and on its pixels,
    bool [H, W]. Raises `InputError` if the detector cannot be exported.
    """

    def __init__(self, detector: TrainedDetector) -> None:
        super().__init__()
        if type(detector.method) not in HEATS:
            raise InputError(f"the method {detector.info.method!r} cannot be exported; unet or patchcore is wanted")
        if detector.info.framing.crop is not None:
            raise InputError("the detector aligns parts, which ONNX cannot; train with --align off to export")
        self.heat = HEATS[type(detector.method)](detector.method)
        self.image_size = detector.image_size
        self.image_threshold, self.pixel_threshold = detector.image_threshold, detector.pixel_threshold

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Inspect an image and decide."""
        height, width, _ = image.shape
        view = _scale(image.permute(2, 0, 1)[None].float(), (self.image_size, self.image_size)).round()
        heat = smooth_map(self.heat(view), self.image_size)
        score = heat.flatten().topk(max(round(SCORED_SHARE * heat.numel()), 1)).values.mean()
        full = _scale(heat, (height, width))[0, 0]
        return score, full, score >= self.image_threshold, full >= self.pixel_threshold


def export_detector(detector: TrainedDetector, path: Path) -> Check:
    """Write the detector to the ONNX file `path` once it has been run and its answers agree with the detector's.

    Raises `InputError` if the detector cannot be exported, and `RuntimeError` if the answers do not agree.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise InputError(f"export needs {', '.join(missing)}; install sw-anomaly[export]")
    decision = Decision(detector).eval()
    checked: list[Check] = []

    def write(partial: Path) -> None:
        _write(decision, detector, partial)
        checked.append(check_file(partial, detector))

    write_atomically(path, write)
    return checked[0]


def check_file(path: Path, detector: TrainedDetector) -> Check:
    """Run an exported file on noise of several sizes; raises `RuntimeError` where it disagrees with the detector."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    score_difference = map_difference = 0.0
    side = detector.image_size
    sizes = [(side, side), (side + side // 3, side), (side // 2, side // 2 + 3)]
    for height, width in sizes:
        coarse = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
        image = np.ascontiguousarray(coarse.repeat(8, axis=0).repeat(8, axis=1)[:height, :width])
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
    return Check(len(sizes), score_difference, map_difference)


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


def _scale(images: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)
