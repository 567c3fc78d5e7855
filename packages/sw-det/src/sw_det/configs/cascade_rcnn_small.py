"""Cascade R-CNN on ShiftwiseNet-S, for boxes without masks."""

_base_ = ["cascade_rcnn_tiny.py"]

model = dict(backbone=dict(model="shiftwise_small"), neck=dict(in_channels=[96, 192, 384, 768]))
