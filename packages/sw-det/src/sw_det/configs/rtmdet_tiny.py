"""RTMDet with ShiftwiseNet-T, by RTMDet's recipe without mixtures of images: 300 epochs of COCO. Not published."""

_base_ = ["_base_/models/rtmdet_nano.py", "_base_/coco.py", "_base_/runtime.py"]

model = dict(
    backbone=dict(model="shiftwise_tiny", drop_path_rate=0.1, layer_scale_init=1e-6),
    neck=dict(in_channels=[160, 320, 640], out_channels=96),
    bbox_head=dict(in_channels=96, feat_channels=96),
    test_cfg=dict(nms_pre=3000, score_thr=0.001, nms=dict(iou_threshold=0.65), max_per_img=300),
)

pad = dict(type="Pad", size=(640, 640), pad_val=dict(img=(114, 114, 114)))
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="RandomResize", scale=(640, 640), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type="RandomCrop", crop_size=(640, 640)),
    dict(type="YOLOXHSVRandomAug"),
    dict(type="RandomFlip", prob=0.5),
    pad,
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(640, 640), keep_ratio=True),
    pad,
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
train_dataloader = dict(batch_size=32, batch_sampler=None, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(batch_size=5, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(metric=["bbox"])
test_evaluator = dict(metric=["bbox"])

epochs = 300
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=epochs, val_interval=10)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-5, by_epoch=False, begin=0, end=1000),
    dict(
        type="CosineAnnealingLR",
        by_epoch=True,
        begin=epochs // 2,
        end=epochs,
        T_max=epochs // 2,
        eta_min=2e-4,
        convert_to_iter_based=True,
    ),
]
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=4e-3, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0, bypass_duplicate=True),
)
auto_scale_lr = dict(enable=True, base_batch_size=256)
custom_hooks = [dict(type="EMAHook", ema_type="ExpMomentumEMA", momentum=0.0002, update_buffers=True, priority=49)]
