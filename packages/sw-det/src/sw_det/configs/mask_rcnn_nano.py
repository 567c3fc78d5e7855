"""Mask R-CNN small enough to be trained from nothing on two CPU cores. No published model."""

_base_ = ["_base_/models/mask_rcnn_nano.py", "_base_/nano.py"]
