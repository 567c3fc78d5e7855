"""UPerNet with ShiftwiseNet-T, as published: ADE20K, 160,000 iterations. Name ImageNet weights with --checkpoint."""

_base_ = ["_base_/upernet.py", "_base_/ade20k.py", "_base_/schedule_160k.py", "_base_/runtime.py"]
