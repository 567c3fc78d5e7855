"""The smallest Mask R-CNN on the embedded sample of drawn shapes (SYNTHETIC), in minutes on two CPU cores."""

_base_ = ["_base_/models/mask_rcnn_nano.py", "_base_/shapes.py"]
