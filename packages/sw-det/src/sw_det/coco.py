"""COCO data and its average precision in OpenMMLab's registries, with standard output left to the program."""

from __future__ import annotations

import io
import math
from contextlib import redirect_stdout
from typing import Any

import sw_models.openmmlab  # noqa: F401 - first of all: it stands in for MMCV's compiled module

# isort: split
from mmdet.datasets import CocoDataset
from mmdet.evaluation import CocoMetric
from mmengine.registry import DATASETS, METRICS


@DATASETS.register_module()
class QuietCocoDataset(CocoDataset):
    """MMDetection's COCO data set; pycocotools, which reads it, prints nothing."""

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the images and what is annotated in them."""
        with redirect_stdout(io.StringIO()):
            return super().load_data_list()


@METRICS.register_module()
class BoxAndMaskMetric(CocoMetric):
    """Average precision of boxes and masks, by pycocotools; from 0 to 1.

    Args:
        **kwargs: of MMDetection's ``CocoMetric``; with ``classwise`` the average precision of each class that occurs
            is among the metrics.
    """

    default_prefix = None
    metrics: list[str]

    def __init__(self, **kwargs: Any) -> None:
        with redirect_stdout(io.StringIO()):
            super().__init__(**kwargs)

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Return "bbox/mAP", "bbox/mAP_50", ..., "bbox/<class>", and the same of "segm"."""
        wanted = self.metrics
        measured: dict[str, float] = {}
        try:
            for kind in wanted:
                self.metrics = [kind]  # both kinds would name the classes alike
                with redirect_stdout(io.StringIO()):
                    found = super().compute_metrics(results) or {"mAP": 0.0, "mAP_50": 0.0}  # nothing was detected
                for name, value in found.items():
                    measured[f"{kind}/{name.removeprefix(f'{kind}_').removesuffix('_precision')}"] = float(value)
        finally:
            self.metrics = wanted
        return {name: value for name, value in measured.items() if not math.isnan(value) and value >= 0}
