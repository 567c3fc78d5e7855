"""UPerNet with ShiftwiseNet-S, as published: ADE20K, 160,000 iterations. Name ImageNet weights with --checkpoint."""

_base_ = ["upernet_tiny.py"]

model = dict(
    backbone=dict(model="shiftwise_small"),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384),
)
