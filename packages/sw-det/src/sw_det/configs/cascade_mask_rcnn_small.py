"""Cascade Mask R-CNN on ShiftwiseNet-S by the published recipe."""

_base_ = ["cascade_mask_rcnn_tiny.py"]

model = dict(backbone=dict(model="shiftwise_small"), neck=dict(in_channels=[96, 192, 384, 768]))
