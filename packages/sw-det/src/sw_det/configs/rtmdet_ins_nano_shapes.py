"""The smallest RTMDet-Ins on the embedded sample of drawn shapes (SYNTHETIC), in minutes on two CPU cores."""

_base_ = ["_base_/models/rtmdet_ins_nano.py", "_base_/shapes.py"]

# It begins more slowly than Mask R-CNN, whose anchors are of the shapes' sizes.
epochs = 20
train_cfg = dict(max_epochs=epochs, val_interval=5)
optim_wrapper = dict(optimizer=dict(lr=2e-3))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=0, end=epochs, eta_min=1e-5, convert_to_iter_based=True),
]
