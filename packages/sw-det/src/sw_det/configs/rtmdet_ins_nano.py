"""RTMDet-Ins, a one-stage detector: the backbone is tied to no head. No published model."""

_base_ = ["_base_/models/rtmdet_ins_nano.py", "_base_/nano.py"]
