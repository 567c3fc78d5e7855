"""COCO for small detectors: images of about 320 pixels, 50 epochs of them in batches of 8."""

_base_ = ["coco.py", "runtime.py"]

least_object = 16  # pixels: images are larger where many objects would be smaller

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="RandomChoiceResize", scales=[(512, side) for side in range(256, 385, 32)], keep_ratio=True),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(512, 320), keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
train_dataloader = dict(batch_size=8, num_workers=1, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(num_workers=1, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

epochs = 50
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=epochs, val_interval=2)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=0, end=epochs, eta_min=1e-5, convert_to_iter_based=True),
]
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3, betas=(0.9, 0.999), weight_decay=0.05),
    # RTMDet has the same convolutions on all levels.
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0, bypass_duplicate=True),
)
auto_scale_lr = dict(enable=True, base_batch_size=8)
# The weights that are measured and kept are averages over about the last tenth of the iterations so far.
custom_hooks = [dict(type="EMAHook", ema_type="MomentumAnnealingEMA", gamma=10, update_buffers=True, priority=49)]
