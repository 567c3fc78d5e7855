"""The architectures, a file each; importing any of them registers all with timm."""

from sw_models.models import shiftwise, shiftwise_coordatt, shiftwise_v1, slak, unireplknet

__all__ = ["shiftwise", "shiftwise_coordatt", "shiftwise_v1", "slak", "unireplknet"]
