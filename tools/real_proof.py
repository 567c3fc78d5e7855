"""Real photographs: our small models beside others, trained from nothing for the same CPU time on the same images.

    make real-proof
    .venvs/real-proof/bin/python tools/real_proof.py det DEEPPCB OUT [ours|peer] [--minutes 20]
    .venvs/real-proof/bin/python tools/real_proof.py seg CAMVID OUT [ours|peer] [--minutes 20]

DEEPPCB holds groups of DeepPCB with its authors' lists, trainval.txt and test.txt; the peer is RTMDet-tiny as
MMDetection has it. CAMVID has `images/` and `annotations/`, each with `training/` and `validation/`; the peer is
segmentation_models_pytorch's Unet, which is installed besides. Both have this project's recipe, one thread, and
each a schedule that takes so many minutes of CPU time, by the time of its first steps. The final weights are measured:
nothing is chosen by the images that they are measured on. What was stopped goes on by the same command.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.dataset import pseudo_collate
from mmengine.hooks import Hook
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DATASETS, HOOKS, MODELS, init_default_scope

from sw_sparse.openmmlab import schedule
from sw_sparse.openmmlab.checkpoint import newest_checkpoint
from sw_sparse.openmmlab.config import load_config, use_data
from sw_sparse.openmmlab.runner import test, train
from sw_sparse.openmmlab.settings import use_workers
from sw_sparse.openmmlab.task import Task

Side = tuple[Task, Any, Callable[[Path], dict[str, float]]]  # a configuration, and what measures its checkpoints

DEEPPCB = {"columns": "x1 y1 x2 y2 class", "image": "{}_test.jpg"}


def detector(who: str, data: Path, folder: Path, minutes: float) -> Side:
    """Return what trains a detector of defects, and what measures a checkpoint of it on the authors' test images."""
    import mmdet
    from mmengine.config import Config

    from sw_det.dataset import config_for, use_split
    from sw_det.task import TASK

    cfg = load_config(TASK, config_for(data, DEEPPCB))
    cfg.data_options.update(DEEPPCB)
    if who == "peer":
        theirs = Path(mmdet.__file__).parent / ".mim/configs/rtmdet/rtmdet_tiny_8xb32-300e_coco.py"
        cfg.model = Config.fromfile(theirs).model
        del cfg.model.backbone.init_cfg  # weights of ImageNet
    use_data(TASK, cfg, data, folder / "data")
    if size := cfg.get("suited_size"):
        schedule.use_size(cfg, size)
    init_default_scope(cfg.default_scope)
    images = batches_in(cfg, minutes, folder) * cfg.train_dataloader.batch_size
    schedule.use_epochs(cfg, max(1, round(images / len(DATASETS.build(cfg.train_dataloader.dataset)))))

    def measure(checkpoint: Path) -> dict[str, float]:
        use_split(cfg, "test")
        coco = test(cfg, checkpoint, folder / "test")
        cfg.test_evaluator.update(iou_thrs=[0.33], classwise=False)
        loose = test(cfg, checkpoint, folder / "test-33")
        return {"AP 0.33": loose["bbox/mAP"], "AP 0.5": coco["bbox/mAP_50"], "AP 0.5-0.95": coco["bbox/mAP"]}

    return TASK, cfg, measure


def segmenter(who: str, data: Path, folder: Path, minutes: float) -> Side:
    """Return what trains a segmenter of streets, and what measures a checkpoint of it on the validation images."""
    from sw_seg.task import TASK

    cfg = load_config(TASK, TASK.default_config)
    if who == "peer":
        register_unet()
        head = {"type": "UnetHead", "in_channels": 16, "channels": 16, "num_classes": 0, "align_corners": False}
        cfg.model.backbone, cfg.model.decode_head, cfg.model.auxiliary_head = {"type": "UnetBody"}, head, None
    use_data(TASK, cfg, data, folder / "data")
    init_default_scope(cfg.default_scope)
    schedule.use_iterations(cfg, batches_in(cfg, minutes, folder))

    def measure(checkpoint: Path) -> dict[str, float]:
        found = test(cfg, checkpoint, folder / "test")
        return {name: found[name] / 100 for name in ("mIoU", "mAcc", "aAcc")}

    return TASK, cfg, measure


def register_unet() -> None:
    """Make segmentation_models_pytorch's Unet known to MMSegmentation: all but its last convolution, and that one."""
    import segmentation_models_pytorch as smp
    from mmengine.model import BaseModule
    from mmseg.models.decode_heads.decode_head import BaseDecodeHead
    from mmseg.registry import MODELS

    @MODELS.register_module()
    class UnetBody(BaseModule):
        def __init__(self) -> None:
            super().__init__()
            unet = smp.Unet(encoder_weights=None)
            self.encoder, self.decoder = unet.encoder, unet.decoder

        def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
            return [self.decoder(self.encoder(images))]

    @MODELS.register_module()
    class UnetHead(BaseDecodeHead):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(dropout_ratio=0, **kwargs)
            self.conv_seg = torch.nn.Conv2d(self.channels, self.out_channels, 3, padding=1)

        def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
            return self.cls_seg(maps[0])


@HOOKS.register_module()
class CpuTimeHook(Hook):
    """Writes down the CPU time that a session has trained, whenever it may end."""

    def before_train(self, runner: Any) -> None:
        """Begin."""
        self.start = time.process_time()

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Write, in minutes."""
        (Path(runner.work_dir) / f"minutes-{os.getpid()}.txt").write_text(str((time.process_time() - self.start) / 60))


def batches_in(cfg: Any, minutes: float, folder: Path) -> int:
    """Return how many batches are trained in so much CPU time, by the second of two, or as was found before."""
    stored = folder / "batches.txt"
    if stored.is_file():
        return int(stored.read_text())
    dataset, model = DATASETS.build(cfg.train_dataloader.dataset), MODELS.build(cfg.model)
    model = revert_sync_batchnorm(model).train()
    for _ in range(2):
        start = time.process_time()
        batch = pseudo_collate([dataset[number] for number in range(cfg.train_dataloader.batch_size)])
        model.parse_losses(model(**model.data_preprocessor(batch, True), mode="loss"))[0].backward()
        seconds = time.process_time() - start
    stored.write_text(str(max(1, int(60 * minutes / seconds))))
    return int(stored.read_text())


def run(who: str, build: Callable[..., Side], data: Path, out: Path, minutes: float) -> dict[str, Any]:
    """Train and measure one side, or go on with it, or read what came out before."""
    result = out / f"{who}.json"
    if not result.is_file():
        folder = out / who
        folder.mkdir(parents=True, exist_ok=True)
        task, cfg, measure = build(who, data, folder, minutes)
        use_workers(cfg, 0)
        cfg.train_cfg.val_interval = 1_000_000  # at the end alone
        cfg.custom_hooks = [*cfg.custom_hooks, {"type": "CpuTimeHook"}]
        summary = train(task, cfg, folder)
        checkpoint = newest_checkpoint(folder)
        assert checkpoint is not None
        spent = sum(float(file.read_text()) for file in folder.glob("minutes-*.txt"))
        images = summary["iterations"] * cfg.train_dataloader.batch_size
        figures = {"CPU minutes": spent, "images seen": images, **measure(checkpoint)}
        result.write_text(json.dumps(figures, indent=1))
    return json.loads(result.read_text())


def main() -> None:
    """Run what is asked for, and print one table of all that is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["det", "seg"])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("who", nargs="?", choices=["ours", "peer"])
    parser.add_argument("--minutes", type=float, default=20)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    build = {"det": detector, "seg": segmenter}[asked.kind]
    sides = [asked.who] if asked.who else ["ours", "peer"]
    table = {who: run(who, build, asked.data.resolve(), asked.out, asked.minutes) for who in sides}
    names = list(next(iter(table.values())))
    print("".join([" " * 6, *(f"{name:>14}" for name in names)]))
    for who, figures in table.items():
        shown = [f"{figures[name]:14.0f}" if "seen" in name else f"{figures[name]:14.3f}" for name in names]
        print(f"{who:6}" + "".join(shown))


if __name__ == "__main__":
    main()
