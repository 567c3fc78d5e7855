"""Industrial anomaly detection on ShiftwiseConv: see good parts only, find the defects in others.

>>> import sw_anomaly
>>> detector = sw_anomaly.load_detector("runs/bottle/001/checkpoint.safetensors")
>>> detector.inspect(sw_anomaly.load_image("part.png")).score
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sw_anomaly.data.category import Category, LabelledImage
    from sw_anomaly.data.images import load_image, load_mask
    from sw_anomaly.data.layouts import read_category
    from sw_anomaly.detector import Detector, DetectorInfo, load_detector
    from sw_anomaly.evaluation.evaluate import Evaluation, evaluate
    from sw_anomaly.methods.base import Inspection
    from sw_anomaly.metrics.ranking import rank_images, rank_pixels, region_overlap

__version__ = version("sw-anomaly")
__all__ = [
    "Category",
    "Detector",
    "DetectorInfo",
    "Evaluation",
    "Inspection",
    "LabelledImage",
    "evaluate",
    "load_detector",
    "load_image",
    "load_mask",
    "rank_images",
    "rank_pixels",
    "read_category",
    "region_overlap",
]
_HOMES = {  # imported when first asked for: torch takes a second, and `sw-anomaly --help` needs none of it
    "Category": "data.category",
    "Detector": "detector",
    "DetectorInfo": "detector",
    "Evaluation": "evaluation.evaluate",
    "Inspection": "methods.base",
    "LabelledImage": "data.category",
    "evaluate": "evaluation.evaluate",
    "load_detector": "detector",
    "load_image": "data.images",
    "load_mask": "data.images",
    "rank_images": "metrics.ranking",
    "rank_pixels": "metrics.ranking",
    "read_category": "data.layouts",
    "region_overlap": "metrics.ranking",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
