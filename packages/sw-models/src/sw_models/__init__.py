"""Backbones of shift-wise convolutions. Importing this package registers them with timm."""

from importlib.metadata import version

from sw_models.checkpoints.published import load_published_checkpoint
from sw_models.models.pyramid import NormedFeatures
from sw_models.models.shiftwise import ShiftwiseNet
from sw_models.models.shiftwise_coordatt import ShiftwiseCoordAttNet
from sw_models.models.shiftwise_v1 import ShiftwiseV1Net
from sw_models.models.slak import SLaK
from sw_models.models.unireplknet import UniRepLKNet

__version__ = version("sw-models")

__all__ = [
    "NormedFeatures",
    "SLaK",
    "ShiftwiseCoordAttNet",
    "ShiftwiseNet",
    "ShiftwiseV1Net",
    "UniRepLKNet",
    "load_published_checkpoint",
]
