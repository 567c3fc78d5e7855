"""RTMDet, a one-stage detector of boxes, small enough to be trained from nothing on two CPU cores. Not published."""

_base_ = ["_base_/models/rtmdet_nano.py", "_base_/nano_boxes.py"]
