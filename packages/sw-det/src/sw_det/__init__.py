"""Object detection and instance segmentation with ShiftwiseConv backbones.

Three lines use a trained detector::

    from sw_det import Detector

    detector = Detector("runs/mask_rcnn_nano_shapes")
    detections = detector("image.jpg")

Imported before MMDetection or after it, as by a configuration that says ``custom_imports =
dict(imports=["sw_det"])``, it registers everything that configurations name; ``--help`` does not wait for that.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from sw_models.registration import import_after

if TYPE_CHECKING:
    from sw_det.detector import Detections, Detector

__all__ = ["Detections", "Detector", "__version__"]
__version__ = version("sw-det")

import_after("mmdet", "sw_det.registration")


def __getattr__(name: str) -> Any:
    if name in ("Detections", "Detector"):
        return getattr(import_module("sw_det.detector"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
