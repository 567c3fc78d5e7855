"""UPerNet with ShiftwiseNet-N, for CPUs: crops of 256 pixels, batches of 8, 4,000 iterations. No published model."""

_base_ = ["upernet_tiny.py"]

crop_size = (256, 256)
scale = (1024, 256)
model = dict(
    data_preprocessor=dict(size=crop_size),
    # The published layer scale of 1e-6 would keep the blocks out of a training this short.
    backbone=dict(model="shiftwise_nano", drop_path_rate=0.0, layer_scale_init=0.1),
    decode_head=dict(in_channels=[24, 48, 96, 192], channels=64),
    auxiliary_head=dict(in_channels=96, channels=32),
    # The kernels are wider than the maps of a crop, so a whole image would be something that was not trained on.
    test_cfg=dict(crop_size=crop_size, stride=(170, 170)),
)

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="RandomResize", scale=scale, ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type="RandomCrop", crop_size=crop_size, cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotoMetricDistortion"),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=scale, keep_ratio=True),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]
train_dataloader = dict(batch_size=8, num_workers=1, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(num_workers=1, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

iterations = 4_000
warm_up = 100
train_cfg = dict(max_iters=iterations, val_interval=500)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-2, by_epoch=False, begin=0, end=warm_up),
    dict(type="PolyLR", power=1.0, eta_min=0.0, by_epoch=False, begin=warm_up, end=iterations),
]
auto_scale_lr = dict(base_batch_size=8)
default_hooks = dict(checkpoint=dict(interval=500))
# The weights that are measured and kept are averages over about the last tenth of the iterations so far.
custom_hooks = [dict(type="EMAHook", ema_type="MomentumAnnealingEMA", gamma=10, update_buffers=True, priority=49)]
