"""Export of detectors in deployed form."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timm.utils import reparameterize_model
from torch import Tensor, nn

from sw_det.deployed import DeployedOneStage, DeployedTwoStage
from sw_models.errors import InputError
from sw_models.files import write_atomically
from sw_ops import use_backend

NAMES = ("boxes", "scores", "labels", "masks")
_THRESHOLDS = (0.05, 0.01, 0.001, 0.0)  # those to try until there are objects to compare
_TOLERANCE = 1e-3


def export(detector: Any, path: Path, form: str, size: int) -> float:
    """Write a detector's deployed form, see :mod:`.deployed`, once what was written has been run and compared.

    Args:
        detector: MMDetection's, of the R-CNN or RTMDet family.
        path: the file to write.
        form: "onnx", with inputs "image" and "threshold" and outputs named :data:`NAMES`, "torchscript" or "exported".
        size: height and width of the image, in pixels; a multiple of 32.

    Returns:
        The largest difference between the file's objects and those that MMDetection itself finds in an image: of boxes
        as a share of the size, of scores, or the share of mask pixels that differ.

    Raises:
        InputError: the detector or the size is of another kind, or the file finds other objects.
    """
    if size % 32:
        raise InputError(f"--size: got {size}, want a multiple of 32")
    deployed = _deployed(reparameterize_model(detector), size).eval()
    image = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), use_backend("torch"), warnings.catch_warnings():  # it must run where sw-ops is not installed
        warnings.simplefilter("ignore")  # tracing asks about every decision that depends on a shape
        threshold, wanted = _what_is_seen(detector, image)
        inputs = image, torch.tensor([threshold])
        differences = []

        def write(temporary: Path) -> None:
            found = dict(zip(NAMES, _WRITERS[form](deployed, inputs, temporary), strict=False))
            differences.append(_difference(deployed, found, wanted))
            if not differences[0] < _TOLERANCE:
                raise InputError(f"--run: the {form} file's objects differ from the detector's by {differences[0]:.1e}")

        write_atomically(path, write)
    return differences[0]


def _deployed(detector: Any, size: int) -> nn.Module:
    name = type(detector).__name__
    if type(getattr(detector, "roi_head", None)).__name__ in ("StandardRoIHead", "CascadeRoIHead"):
        return DeployedTwoStage(detector, size)
    if name == "RTMDet":
        return DeployedOneStage(detector, size)
    raise InputError(f"--run: no export of a {name}, want a detector of the R-CNN or RTMDet family")


def _what_is_seen(detector: Any, image: Tensor) -> tuple[float, Any]:
    """Return MMDetection's objects in an image, and the score that they exceed: a lower one until there are any."""
    from mmdet.structures import DetDataSample

    detector = copy.deepcopy(detector)
    shape = tuple(image.shape[2:])
    sample = DetDataSample(metainfo={"img_shape": shape, "ori_shape": shape, "scale_factor": (1.0, 1.0)})
    sample.set_metainfo({"batch_input_shape": shape, "pad_shape": shape})
    settings = (detector.roi_head if hasattr(detector, "roi_head") else detector.bbox_head).test_cfg
    for threshold in _THRESHOLDS:
        settings.score_thr = threshold
        objects = detector.predict(image, [sample], rescale=False)[0].pred_instances
        if len(objects):
            return threshold, objects
    raise InputError("--run: the detector sees nothing at all, so its file cannot be checked")


def _difference(deployed: Any, found: dict[str, Tensor], wanted: Any) -> float:
    """Compare each wanted object with the nearest of its class; equal scores may be in another order."""
    if len(found["boxes"]) != len(wanted):
        return float("inf")
    largest = 0.0
    for i in range(len(wanted)):
        distances = (found["boxes"] - wanted.bboxes[i]).abs().amax(dim=1) / deployed.size
        distances[found["labels"] != wanted.labels[i]] = float("inf")
        distance, j = distances.min(dim=0)
        largest = max(largest, float(distance), float((found["scores"][j] - wanted.scores[i]).abs()))
        if "masks" in found:
            pasted = deployed.paste(found["masks"][j], found["boxes"][j])
            largest = max(largest, float(((pasted > 0.5) != wanted.masks[i]).float().mean()))
    return largest


def _write_onnx(model: nn.Module, inputs: tuple[Tensor, Tensor], path: Path) -> list[Tensor]:
    import onnxruntime

    names = list(NAMES[: len(model(*inputs))])
    torch.onnx.export(  # by tracing, which is the way that follows numbers of objects in every version of torch
        model, inputs, str(path), input_names=["image", "threshold"], output_names=names,
        dynamic_axes={name: {0: "objects"} for name in names}, opset_version=17, dynamo=False,
    )  # fmt: skip
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    values = session.run(None, {"image": inputs[0].numpy(), "threshold": inputs[1].numpy()})
    return [torch.from_numpy(np.asarray(value)) for value in values]


def _write_torchscript(model: nn.Module, inputs: tuple[Tensor, Tensor], path: Path) -> list[Tensor]:
    torch.jit.trace(model, inputs, check_trace=False).save(str(path))
    return list(torch.jit.load(str(path))(*inputs))


def _write_exported(model: nn.Module, inputs: tuple[Tensor, Tensor], path: Path) -> list[Tensor]:
    buffer = io.BytesIO()  # as a file it would want a name that ends in .pt2
    torch.export.save(torch.export.export(model, inputs), buffer)
    path.write_bytes(buffer.getvalue())
    return list(torch.export.load(buffer).module()(*inputs))


_WRITERS: dict[str, Callable[[nn.Module, tuple[Tensor, Tensor], Path], list[Tensor]]] = {
    "onnx": _write_onnx,
    "torchscript": _write_torchscript,
    "exported": _write_exported,
}
