"""Export of detectors in deployed form."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from scipy.optimize import linear_sum_assignment
from timm.utils import reparameterize_model
from torch import Tensor, nn

from sw_det.deployed import DeployedOneStage, DeployedTwoStage
from sw_models.errors import InputError
from sw_models.export import TOLERANCE, Format, Signature, write_checked
from sw_ops import use_backend

NAMES = ("boxes", "scores", "labels", "masks")
_THRESHOLDS = (0.05, 0.01, 0.001, 0.0)  # those to try until there are objects to compare
_ROUNDING = 3e-6  # a few times that of float32: of a layer's results, as a share of 1 plus their size
_MOST_UNCERTAIN = 0.05  # of scores, which a file is not held to


def export(detector: Any, path: Path, form: Format, size: int) -> float:
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
        InputError: the detector or the size is of another kind, the file finds other objects, or the detector's scores
            depend so much on rounding that nobody could tell.
    """
    if size % 32:
        raise InputError(f"--size: got {size}, want a multiple of 32")
    deployed = _deployed(reparameterize_model(detector), size).eval()
    image = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), use_backend("torch"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MMDetection calls torch.meshgrid as PyTorch 1 had it
        threshold, wanted, stable, uncertain = _what_is_seen(detector, image)
        names = NAMES[: len(deployed(image, torch.tensor([threshold])))]

    def difference(found: list[Tensor]) -> float:
        return _difference(deployed, dict(zip(names, found, strict=True)), wanted, stable, uncertain)

    inputs = {"image": image, "threshold": torch.tensor([threshold])}
    signature = Signature(inputs, names, varying={name: {0: "objects"} for name in names})
    classes = getattr(detector, "dataset_meta", {}).get("classes")
    return write_checked(deployed, signature, path, form, difference, classes)


def match_objects(
    boxes: Tensor, scores: Tensor, labels: Tensor, wanted: Any, size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Pair found objects with wanted ones of their class, one to one, so that all pairs together are nearest.

    Orders do not matter: among objects of nearly equal scores they are decided by rounding.

    Args:
        boxes: of the found objects, ``[N, 4]`` in pixels.
        scores: ``[N]``.
        labels: ``[N]``.
        wanted: MMDetection's ``InstanceData`` with ``bboxes``, ``scores`` and ``labels``.
        size: of the image, in pixels.

    Returns:
        Indices of found objects, indices of their partners, and the larger of the differences in box (as a share of the
        size) and in score; infinite where the only partner left is of another class.
    """
    apart = (boxes[:, None] - wanted.bboxes).abs().amax(dim=2) / size
    distances = torch.maximum(apart, (scores[:, None] - wanted.scores).abs())
    other_class = labels[:, None] != wanted.labels
    pairs = linear_sum_assignment(distances.masked_fill(other_class, 1e6).numpy())
    found, partner = (torch.from_numpy(indices) for indices in pairs)
    return found, partner, distances.masked_fill(other_class, float("inf"))[found, partner]


def _deployed(detector: Any, size: int) -> nn.Module:
    name = type(detector).__name__
    if type(getattr(detector, "roi_head", None)).__name__ in ("StandardRoIHead", "CascadeRoIHead"):
        return DeployedTwoStage(detector, size)
    if name == "RTMDet":
        return DeployedOneStage(detector, size)
    raise InputError(f"--run: no export of a {name}, want a detector of the R-CNN or RTMDet family")


def _what_is_seen(detector: Any, image: Tensor) -> tuple[float, Any, Tensor, float]:
    """Return a score, MMDetection's objects above it, which are no accident of rounding, and how uncertain scores are.

    The score is lowered until there are any objects. Where candidates have nearly equal scores, as before a detector
    has learned anything, rounding decides which of them are kept; such objects are not found again by a detector whose
    layers are changed by as little, and its scores, in falling order, are others by as much as is returned last.
    """
    from mmdet.structures import DetDataSample

    detector = copy.deepcopy(detector)
    shape = tuple(image.shape[2:])
    sample = DetDataSample(metainfo={"img_shape": shape, "ori_shape": shape, "scale_factor": (1.0, 1.0)})
    sample.set_metainfo({"batch_input_shape": shape, "pad_shape": shape})
    settings = (detector.roi_head if hasattr(detector, "roi_head") else detector.bbox_head).test_cfg
    for threshold in _THRESHOLDS:
        settings.score_thr = threshold
        objects = detector.predict(image, [copy.deepcopy(sample)], rescale=False)[0].pred_instances
        if not len(objects):
            continue
        stable, uncertain = torch.ones(len(objects), dtype=torch.bool), 0.0
        for seed in range(4):
            with _rounded_otherwise(detector, seed):
                again = detector.predict(image, [copy.deepcopy(sample)], rescale=False)[0].pred_instances
            found = torch.full((len(objects),), float("inf"))
            _, partner, distance = match_objects(again.bboxes, again.scores, again.labels, objects, shape[0])
            found[partner] = distance
            stable &= found < TOLERANCE
            uncertain = max(uncertain, _apart_by_rank(again.scores, objects.scores))
        if uncertain > _MOST_UNCERTAIN:
            raise InputError(
                f"--run: rounding alone changes the detector's scores by {uncertain:.2g}, want at most "
                f"{_MOST_UNCERTAIN:g}, or its file cannot be checked"
            )
        return threshold, objects, stable, uncertain
    raise InputError("--run: the detector sees nothing at all, so its file cannot be checked")


@contextmanager
def _rounded_otherwise(detector: nn.Module, seed: int) -> Iterator[None]:
    """Change what every convolution and linear layer returns by about what another order of additions would."""
    generator = torch.Generator().manual_seed(seed)

    def change(layer: nn.Module, given: Any, output: Tensor) -> Tensor:
        return output + _ROUNDING * (1 + output.abs()) * torch.randn(output.shape, generator=generator)

    layers = [layer for layer in detector.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    handles = [layer.register_forward_hook(change) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _difference(deployed: Any, found: dict[str, Tensor], wanted: Any, stable: Tensor, uncertain: float) -> float:
    """Compare the stable objects with the file's, and all scores; the other objects may be others of equal score."""
    boxes, scores, labels = found["boxes"], found["scores"], found["labels"]
    missing = abs(len(boxes) - len(wanted))
    if missing > int((~stable).sum()):
        return float("inf")
    largest = max(0.0, _apart_by_rank(scores, wanted.scores) - uncertain)
    matched = torch.zeros(len(wanted), dtype=torch.bool)
    for i, j, distance in zip(*match_objects(boxes, scores, labels, wanted, deployed.size), strict=True):
        matched[j] = True
        if not stable[j]:
            continue
        largest = max(largest, float(distance))
        if "masks" in found:
            pasted = deployed.paste(found["masks"][i], boxes[i])
            largest = max(largest, float(((pasted > 0.5) != wanted.masks[j]).float().mean()))
    return float("inf") if (stable & ~matched).any() else largest


def _apart_by_rank(scores: Tensor, others: Tensor) -> float:
    """Return the largest difference of two lists of scores, each in falling order, as far as both go."""
    ranked = min(len(scores), len(others))
    ordered = (one.sort(descending=True).values[:ranked] for one in (scores, others))
    return float((next(ordered) - next(ordered)).abs().max()) if ranked else 0.0
