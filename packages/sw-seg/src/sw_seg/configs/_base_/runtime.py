"""What every training run shares, besides MMEngine's own defaults."""

custom_imports = dict(imports=["sw_seg.registration"], allow_failed_imports=False)
default_scope = "mmseg"

# How a folder of --data is read; "seed" and "val_share" are of splits that are made.
data_options = dict(max_pixels=100_000_000, zero="auto", white="auto", ignore=[], seed=0, val_share=0.2)

env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),
)
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=50, log_metric_by_epoch=False),
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=16_000, max_keep_ckpts=3, save_best="mIoU"),
)
visualizer = dict(type="SegLocalVisualizer", vis_backends=[dict(type="LocalVisBackend")], name="visualizer")
log_processor = dict(by_epoch=False)
