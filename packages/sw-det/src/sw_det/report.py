"""What the report of a run says of a detector: precision and recall of classes, confusions, the worst images."""

from __future__ import annotations

import io
from collections import Counter
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pycocotools import mask as rle
from pycocotools.cocoeval import COCOeval
from torch import Tensor
from torchvision.ops import box_iou

from sw_det.coco import UsableCoco
from sw_det.detector import THRESHOLD, Detections, Detector
from sw_det.masks import Region
from sw_models.images import MAX_PIXELS
from sw_models.sources import read_image
from sw_sparse.openmmlab.data_report import progress_bar, spread_out
from sw_sparse.openmmlab.palette import class_colours
from sw_sparse.openmmlab.report import MOST_IMAGES, WORST, Section, draw_matrix, side_by_side

_LEAST = 0.05  # score of what counts for average precision
_OVERLAP = 0.5  # intersection over union of an object that was found
_NOTHING = "nothing"


@dataclass(frozen=True)
class _Seen:
    """What was found in an image, and what is there."""

    entry: dict[str, Any]
    boxes: Tensor
    scores: Tensor
    labels: Tensor
    truth: Tensor
    truth_labels: Tensor

    def match(self) -> tuple[list[tuple[int, int]], list[int], list[int]]:
        """Return pairs of an object and what was found there, what was missed, and what is not there."""
        sure = [i for i in self.scores.argsort(descending=True, stable=True).tolist() if self.scores[i] >= THRESHOLD]
        overlaps = box_iou(self.truth, self.boxes)
        free = set(range(len(self.truth)))
        pairs, wrong = [], []
        for i in sure:
            best = max(free, key=lambda t: (float(overlaps[t, i]), -t), default=None)
            if best is not None and overlaps[best, i] >= _OVERLAP:
                pairs.append((best, i))
                free.remove(best)
            else:
                wrong.append(i)
        return pairs, sorted(free), wrong

    @property
    def faults(self) -> int:
        """How many objects were missed, made up, or taken for others."""
        pairs, missed, wrong = self.match()
        return len(missed) + len(wrong) + sum(int(self.truth_labels[t] != self.labels[i]) for t, i in pairs)


def sections(model: Any, cfg: Any) -> list[Section]:
    """Return what the report of a run says.

    Args:
        model: MMDetection's, with the run's best checkpoint.
        cfg: its configuration; other data than COCO's get no figures.
    """
    dataset = cfg.val_dataloader.dataset
    if dataset.type != "QuietCocoDataset":
        return []
    with redirect_stdout(io.StringIO()):
        coco = UsableCoco(dataset.ann_file)
    root = Path(dataset.data_prefix["img"])
    max_pixels = dataset.get("max_pixels", MAX_PIXELS)
    detector = Detector(model=model, threshold=_LEAST)
    numbers = coco.get_cat_ids(cat_names=detector.classes)
    entries = spread_out([coco.imgs[number] for number in sorted(coco.imgs)], MOST_IMAGES)
    seen = []
    with progress_bar("looking at the worst images") as progress:
        for done, entry in enumerate(entries, start=1):
            found = detector.predict(read_image(root / entry["file_name"], max_pixels))
            seen.append(_compare(entry, found, coco, numbers))
            progress(done, len(entries))
    detector.threshold = THRESHOLD
    pictures = []
    for one in sorted(seen, key=lambda one: -one.faults)[:WORST]:
        if one.faults:
            found = detector.predict(read_image(root / one.entry["file_name"], max_pixels))
            truth = _truth(found, one, coco)
            pictures.append(
                (f"{one.entry['file_name']}: {one.faults} faults", side_by_side(truth.draw(), found.draw()))
            )
    note = (
        f"{len(entries):,} of {len(coco.imgs):,} validation images; an object is found where IoU is {_OVERLAP} or more"
    )
    matrix = draw_matrix(_confusion(seen, len(numbers)), [*detector.classes, _NOTHING], [*detector.classes, _NOTHING])
    rows, curves = _precision(coco, seen, numbers, detector.classes)
    return [
        Section("Classes", [note], rows, [("Precision and recall at IoU 0.5", curves)]),
        Section(
            "Confusions", [f"boxes with a score of {THRESHOLD} or more, in shares of each row"], (), [("", matrix)]
        ),
        Section("The worst images", ["ground truth on the left, what was found on the right"], (), pictures),
    ]


def _compare(entry: dict[str, Any], found: Detections, coco: UsableCoco, numbers: list[int]) -> _Seen:
    objects = coco.loadAnns(coco.getAnnIds(imgIds=[entry["id"]], iscrowd=False))
    corners = [(x, y, x + w, y + h) for x, y, w, h in (one["bbox"] for one in objects)]
    labels = [numbers.index(one["category_id"]) for one in objects]
    return _Seen(
        entry,
        found.boxes,
        found.scores,
        found.labels,
        torch.tensor(corners, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(labels, dtype=torch.int64),
    )


def _truth(found: Detections, one: _Seen, coco: UsableCoco) -> Detections:
    """Return what is there as if it had been found."""
    regions = None
    if found.regions is not None:
        objects = coco.loadAnns(coco.getAnnIds(imgIds=[one.entry["id"]], iscrowd=False))
        regions = tuple(Region.of(rle.decode(coco.annToRLE(thing)).astype(bool)) for thing in objects)
    scores = torch.ones(len(one.truth))
    return Detections(found.image, one.truth, scores, one.truth_labels, regions, found.classes)


def _confusion(seen: list[_Seen], classes: int) -> NDArray[np.int64]:
    """Return how often an object of a class (or nothing) was taken for one of another (or for nothing)."""
    counts = np.zeros((classes + 1, classes + 1), dtype=np.int64)
    for one in seen:
        pairs, missed, wrong = one.match()
        for t, i in pairs:
            counts[one.truth_labels[t], one.labels[i]] += 1
        for t in missed:
            counts[one.truth_labels[t], classes] += 1
        for i in wrong:
            counts[classes, one.labels[i]] += 1
    return counts


def _precision(
    coco: UsableCoco, seen: list[_Seen], numbers: list[int], classes: tuple[str, ...]
) -> tuple[list[dict[str, Any]], Figure]:
    """Return a row for each class that occurs, and its curve of precision over recall."""
    figure = Figure(figsize=(6, 4.5))
    axes = figure.subplots()
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    found = [
        {
            "image_id": one.entry["id"],
            "category_id": numbers[int(label)],
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": float(score),
        }
        for one in seen
        for (x1, y1, x2, y2), score, label in zip(one.boxes.tolist(), one.scores, one.labels, strict=True)
    ]
    occurring = Counter(int(label) for one in seen for label in one.truth_labels)
    precision = np.zeros((10, 101, len(numbers), 4, 3))
    if found:
        with redirect_stdout(io.StringIO()):
            measured = COCOeval(coco, coco.loadRes(found), "bbox")
            measured.params.imgIds = [one.entry["id"] for one in seen]
            measured.params.catIds = numbers
            measured.evaluate()
            measured.accumulate()
        precision = measured.eval["precision"]
    rows = []
    for index, name in enumerate(classes):
        if not occurring[index]:
            continue
        of_class = precision[:, :, index, 0, -1]
        rows.append({"class": name, "objects": occurring[index], "AP": of_class.mean(), "AP50": of_class[0].mean()})
        rows[-1] |= {key: float(rows[-1][key]) for key in ("AP", "AP50")}
        if len(rows) <= 20:
            axes.plot(
                np.linspace(0, 1, 101), of_class[0], label=name, color=np.array(class_colours(index + 1)[-1]) / 255
            )
    if rows:
        axes.legend(fontsize="x-small", loc="lower left")
    figure.tight_layout()
    return rows, figure
