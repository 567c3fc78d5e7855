from pathlib import Path

import pytest
from PIL import Image

from sw_sparse.openmmlab.data_report import DataReport
from sw_sparse.openmmlab.task import Task

CONFIG = """
data_root = {data_root!r}
model = dict(
    type="ToyModel",
    backbone=dict(type="ShiftwiseBackbone", model="shiftwise_pico", depths=(1, 1, 1, 1), dims=(4, 8, 16, 32)),
)
dataset = dict(type="ToyDataset", data_root=data_root)
loader = dict(num_workers=0, collate_fn=dict(type="default_collate"), dataset=dataset)
train_dataloader = dict(loader, batch_size=4, sampler=dict(type="InfiniteSampler", shuffle=False))
val_dataloader = dict(loader, batch_size=2, sampler=dict(type="DefaultSampler", shuffle=False))
test_dataloader = val_dataloader
val_evaluator = dict(type="ToyMetric")
test_evaluator = val_evaluator
train_cfg = dict(type="IterBasedTrainLoop", max_iters=6, val_interval=2)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=0.01))
auto_scale_lr = dict(base_batch_size=2)
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=1, log_metric_by_epoch=False),
    checkpoint=dict(
        type="CheckpointHook", by_epoch=False, interval=2, max_keep_ckpts=2, save_best="closeness", rule="greater"
    ),
)
log_processor = dict(by_epoch=False)
randomness = dict(seed=0)
"""


def adapt_to_data(cfg, folder):
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        cfg[name].dataset.data_root = str(folder)
    return DataReport()


def predict(model, images, folder, options):
    for source in images:
        if source.path.stat().st_size == 0:
            yield {"image": str(source.path), "error": "empty"}
            continue
        (folder / f"{source.name}.txt").write_text("seen")
        yield {"image": str(source.path), "share": float("nan")}


@pytest.fixture
def task(tmp_path, monkeypatch):
    """A task with two configurations, in a working directory of its own."""
    configs = tmp_path / "configs"
    configs.mkdir()
    (configs / "toy_sample.py").write_text(CONFIG.format(data_root="SYNTHETIC"))
    (configs / "toy.py").write_text(CONFIG.format(data_root="nowhere"))
    monkeypatch.chdir(tmp_path)
    return Task(
        command="sw-toy",
        package="toy_task",
        summary="Toys.",
        configs=configs,
        sample_config="toy_sample",
        default_config="toy",
        sample=lambda folder: folder.mkdir(parents=True),
        adapt_to_data=adapt_to_data,
        config_for=lambda folder, options: "toy",
        check=lambda folder, options: (DataReport(), lambda: Image.new("RGB", (8, 8))),
        predict=predict,
        complexity=lambda model, size: [
            {"part": "all", "parameters": 1000, "MACs": size[0] * size[1], "MACs, fused": 1}
        ],
        complexity_size=(32, 64),
        export=lambda model, path, form, size: float(Path(path).write_text(form) * 0),
    )
