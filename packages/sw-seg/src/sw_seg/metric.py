"""Intersection over union, by class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmseg.evaluation import IoUMetric
from mmseg.registry import METRICS


@METRICS.register_module()
class ClassIoUMetric(IoUMetric):
    """MMSegmentation's mIoU, mAcc and aAcc in per cent, and IoU and accuracy of each class that occurs."""

    def compute_metrics(self, results: Sequence[Any]) -> dict[str, float]:
        """Return "mIoU", "mAcc", "aAcc", then "IoU/<class>" and "Acc/<class>"."""
        areas = [sum(area) for area in zip(*results, strict=True)]
        with np.errstate(invalid="ignore"):
            values = self.total_area_to_metrics(*areas, ["mIoU"])
        metrics = {
            "mIoU": 100 * _mean(values["IoU"]),
            "mAcc": 100 * _mean(values["Acc"]),
            "aAcc": 100 * float(values["aAcc"]),
        }
        for kind in ("IoU", "Acc"):
            for name, value in zip(self.dataset_meta["classes"], values[kind], strict=True):
                if not np.isnan(value):
                    metrics[f"{kind}/{name}"] = 100 * float(value)
        return metrics


def _mean(values: np.ndarray) -> float:
    """Return the mean of what is defined; NaN where nothing is, without a word from NumPy."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")
