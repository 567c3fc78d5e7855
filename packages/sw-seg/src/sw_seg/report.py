"""What the report of a run says of a segmenter: IoU of classes, confusions, the worst images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmseg.registry import DATASETS
from numpy.typing import NDArray

from sw_models.sources import read_image
from sw_seg.labels import IGNORED, read_values
from sw_seg.segmenter import Segmentation, Segmenter
from sw_sparse.openmmlab.data_report import progress_bar, spread_out
from sw_sparse.openmmlab.report import MOST_IMAGES, WORST, Section, draw_matrix, side_by_side


def sections(model: Any, cfg: Any) -> list[Section]:
    """Return what the report of a run says.

    Args:
        model: MMSegmentation's, with the run's best checkpoint.
        cfg: its configuration; other data than this package's folders get no figures.
    """
    if cfg.val_dataloader.dataset.type != "SegFolderDataset":
        return []
    dataset: Any = DATASETS.build(cfg.val_dataloader.dataset)
    pairs = spread_out(dataset.folder.pairs(dataset.split), MOST_IMAGES)
    segmenter = Segmenter(model=model)
    classes = segmenter.classes
    total = np.zeros((len(classes), len(classes)), dtype=np.int64)
    scores: list[float] = []
    with progress_bar("looking at the worst images") as progress:
        for done, (image, label) in enumerate(pairs, start=1):
            found = segmenter.predict(read_image(image, dataset.max_pixels)).labels.numpy()
            counts = _confusion(_truth(label, dataset), found, len(classes))
            total += counts
            scores.append(float(np.nanmean(_overlaps(counts))) if counts.any() else 1.0)
            progress(done, len(pairs))
    pictures = []
    for place in np.argsort(scores, kind="stable")[:WORST].tolist():
        image, label = pairs[place]
        found_there = segmenter.predict(read_image(image, dataset.max_pixels))
        truth = _truth(label, dataset)
        both = side_by_side(_painted(found_there, truth), _painted(found_there, found_there.labels.numpy()))
        pictures.append((f"{Path(image).name}: mIoU {100 * scores[place]:.1f} %", both))
    rows = [
        {"class": name, "share of pixels": float(share), "IoU, %": 100 * float(overlap)}
        for name, share, overlap in zip(classes, total.sum(axis=1) / max(total.sum(), 1), _overlaps(total), strict=True)
        if share
    ]
    note = f"{len(pairs):,} of {len(dataset):,} validation images"
    return [
        Section("Classes", [note], rows),
        Section("Confusions", ["pixels, in shares of each row"], (), [("", draw_matrix(total, classes, classes))]),
        Section("The worst images", ["ground truth on the left, what was found on the right"], (), pictures),
    ]


def _truth(label: Path, dataset: Any) -> NDArray[np.uint8]:
    """Return the indices of classes in a label map."""
    values = read_values(label, dataset.max_pixels)
    indices = np.full(values.shape, IGNORED, dtype=np.uint8)
    for index, value in enumerate(dataset.values):
        indices[values == value] = index
    return indices


def _confusion(truth: NDArray[np.uint8], found: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    known = truth != IGNORED
    both = truth[known].astype(np.int64) * classes + found[known]
    return np.bincount(both, minlength=classes * classes).reshape(classes, classes)


def _overlaps(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the IoU of each class; NaN for one that neither is there nor was found."""
    union = counts.sum(axis=0) + counts.sum(axis=1) - np.diag(counts)
    return np.where(union > 0, np.diag(counts) / np.maximum(union, 1), np.nan)


def _painted(found: Segmentation, labels: NDArray[Any]) -> Any:
    """Return an image in the colors of classes; pixels of no class are white."""
    shown = Segmentation(
        found.image, torch.from_numpy(labels.astype(np.int64)), (*found.classes, *[""] * (256 - len(found.classes))),
        (*found.palette, *[(255, 255, 255)] * (256 - len(found.palette))),
    )  # fmt: skip
    return shown.draw().crop((0, 0, labels.shape[1], labels.shape[0]))
