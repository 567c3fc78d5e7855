"""Semantic segmentation with ShiftwiseConv backbones.

Three lines use a trained segmenter::

    from sw_seg import Segmenter

    segmenter = Segmenter("runs/upernet_nano_shapes")
    segmentation = segmenter("image.jpg")

Imported before MMSegmentation or after it, as by a configuration that says ``custom_imports =
dict(imports=["sw_seg"])``, it registers everything that configurations name; ``--help`` does not wait for that.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from sw_models.registration import import_after

if TYPE_CHECKING:
    from sw_seg.segmenter import Segmentation, Segmenter

__all__ = ["Segmentation", "Segmenter", "__version__"]
__version__ = version("sw-seg")

import_after("mmseg", "sw_seg.registration")


def __getattr__(name: str) -> Any:
    if name in ("Segmentation", "Segmenter"):
        return getattr(import_module("sw_seg.segmenter"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
