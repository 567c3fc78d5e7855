"""COCO data and its average precision in OpenMMLab's registries, with standard output left to the program."""

from __future__ import annotations

import io
import math
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

import sw_models.openmmlab  # noqa: F401 - first of all: it stands in for MMCV's compiled module

# isort: split
from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO
from mmdet.evaluation import CocoMetric
from mmengine.registry import DATASETS, METRICS

from sw_det.annotations import read_annotations
from sw_models.images import MAX_PIXELS
from sw_sparse.openmmlab.loading import with_upright_images


class UsableCoco(COCO):
    """An annotation file without what cannot be used, see :mod:`sw_det.annotations`.

    Args:
        annotation_file: the JSON file.
    """

    def __init__(self, annotation_file: str) -> None:
        super().__init__()
        self.dataset = read_annotations(Path(annotation_file), need_objects=False).content
        self.createIndex()
        self.img_ann_map, self.cat_img_map = self.imgToAnns, self.catToImgs

    def get_cat_ids(self, cat_names: Any = (), sup_names: Any = (), cat_ids: Any = ()) -> list[int]:
        """Return the ids of categories, in the order of ``cat_names``: the model's, not the file's."""
        found = super().get_cat_ids(cat_names, sup_names, cat_ids)
        order = {name: place for place, name in enumerate(cat_names or ())}
        return sorted(found, key=lambda number: order.get(self.cats[number]["name"], 0))


@DATASETS.register_module()
class QuietCocoDataset(CocoDataset):
    """MMDetection's COCO data set, of what can be used; pycocotools, which reads it, prints nothing.

    Args:
        *args: of MMDetection's ``CocoDataset``.
        max_pixels: of an image.
        **kwargs: of MMDetection's ``CocoDataset``.
    """

    COCOAPI = UsableCoco

    def __init__(self, *args: Any, max_pixels: int = MAX_PIXELS, **kwargs: Any) -> None:
        kwargs["pipeline"] = with_upright_images(kwargs.get("pipeline", []), max_pixels)
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the images and what is annotated in them."""
        with redirect_stdout(io.StringIO()):
            return super().load_data_list()


@METRICS.register_module()
class BoxAndMaskMetric(CocoMetric):
    """Average precision of boxes and masks, by pycocotools; from 0 to 1.

    Args:
        **kwargs: of MMDetection's ``CocoMetric``; with ``classwise`` the average precision of each class that occurs
            is among the metrics, and with ``iou_thrs=[0.33]`` "mAP" is for that overlap.
    """

    default_prefix = None
    metrics: list[str]

    def __init__(self, **kwargs: Any) -> None:
        file = kwargs.pop("ann_file", None)
        if kwargs.get("iou_thrs") is not None:
            kwargs["iou_thrs"] = np.asarray(kwargs["iou_thrs"], dtype=float).reshape(-1)  # pycocotools needs an array
        with redirect_stdout(io.StringIO()):
            super().__init__(**kwargs)
            if file is not None:
                self._coco_api = UsableCoco(file)

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Return "bbox/mAP", "bbox/mAP_50", ..., "bbox/<class>", and the same of "segm"."""
        wanted = self.metrics
        measured: dict[str, float] = {}
        try:
            for kind in wanted:
                self.metrics = [kind]  # both kinds would name the classes alike
                found = {"mAP": 0.0, "mAP_50": 0.0}
                if any(len(seen["labels"]) for _, seen in results):  # or else MMDetection logs an error for each kind
                    with redirect_stdout(io.StringIO()):
                        found = super().compute_metrics(results)
                for name, value in found.items():
                    measured[f"{kind}/{name.removeprefix(f'{kind}_').removesuffix('_precision')}"] = float(value)
                if not self._coco_api.getAnnIds(iscrowd=False):
                    measured |= {f"{kind}/mAP": math.nan, f"{kind}/mAP_50": math.nan}  # of no objects
        finally:
            self.metrics = wanted
        overall = [f"{kind}/{name}" for kind in wanted for name in ("mAP", "mAP_50")]
        return {
            name: value if value >= 0 else math.nan  # pycocotools has -1 for what is not defined
            for name, value in measured.items()
            if name in overall or value >= 0
        }
