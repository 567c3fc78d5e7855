"""Backbones of shift-wise convolutions. Importing this package registers them with timm, before it or after it."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from sw_models.registration import import_after

if TYPE_CHECKING:
    from sw_models.models.pyramid import NormedFeatures
    from sw_models.models.shiftwise import ShiftwiseNet
    from sw_models.models.shiftwise_coordatt import ShiftwiseCoordAttNet
    from sw_models.models.shiftwise_v1 import ShiftwiseV1Net
    from sw_models.models.slak import SLaK
    from sw_models.models.unireplknet import UniRepLKNet
    from sw_models.published import load_published_checkpoint
    from sw_models.swapping import swap

__version__ = version("sw-models")

_MODULES = {
    "NormedFeatures": "sw_models.models.pyramid",
    "SLaK": "sw_models.models.slak",
    "ShiftwiseCoordAttNet": "sw_models.models.shiftwise_coordatt",
    "ShiftwiseNet": "sw_models.models.shiftwise",
    "ShiftwiseV1Net": "sw_models.models.shiftwise_v1",
    "UniRepLKNet": "sw_models.models.unireplknet",
    "load_published_checkpoint": "sw_models.published",
    "swap": "sw_models.swapping",
}

__all__ = [
    "NormedFeatures",
    "SLaK",
    "ShiftwiseCoordAttNet",
    "ShiftwiseNet",
    "ShiftwiseV1Net",
    "UniRepLKNet",
    "load_published_checkpoint",
    "swap",
]

import_after("timm", "sw_models.models")


def __getattr__(name: str) -> Any:
    """Import PyTorch when it is needed: the commands' ``--help`` need not wait for it."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
