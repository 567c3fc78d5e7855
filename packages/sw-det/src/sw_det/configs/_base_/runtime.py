"""What every training run shares, besides MMEngine's own defaults."""

custom_imports = dict(imports=["sw_det.registration"], allow_failed_imports=False)
default_scope = "mmdet"

# How a folder of --data is read; "seed" and "val_share" are of splits that are made.
data_options = dict(max_pixels=100_000_000, masks="auto", seed=0, val_share=0.2)

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),
)
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=50),
    checkpoint=dict(type="CheckpointHook", interval=1, max_keep_ckpts=3, save_best="bbox/mAP"),
)
visualizer = dict(type="DetLocalVisualizer", vis_backends=[dict(type="LocalVisBackend")], name="visualizer")
log_processor = dict(type="LogProcessor", window_size=50, by_epoch=True)
