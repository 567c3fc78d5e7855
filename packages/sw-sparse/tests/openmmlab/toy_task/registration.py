import multiprocessing
import random
import signal
import subprocess

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS
from torch import nn
from torch.utils.data import Dataset

import sw_models.openmmlab  # noqa: F401


@MODELS.register_module()
class ToyModel(BaseModel):
    def __init__(self, backbone, dropout=0.0, init_cfg=None):
        super().__init__(init_cfg=init_cfg)
        self.dropout = nn.Dropout(dropout)
        self.backbone = MODELS.build(backbone)
        self.head = nn.Linear(32, 1)

    def forward(self, images, target, mode="tensor"):
        output = self.head(self.dropout(self.backbone(images)[-1].mean((2, 3)))).squeeze(1)
        if mode == "loss":
            return {"loss": (output - target).square().mean()}
        return list(zip(output, target, strict=True))


@DATASETS.register_module()
class ToyDataset(Dataset):
    def __init__(self, data_root, length=4, noise=0.0, side=32):
        if length < 1:
            raise FileNotFoundError(f"no images in {data_root}")
        self.data_root, self.length = data_root, length
        self.noise, self.side = noise, side
        self.metainfo = {"classes": ("toy",)}

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        images = torch.randn(3, self.side, self.side, generator=generator)
        images = images + self.noise * (np.random.rand() + random.random() + torch.rand(1))  # noqa: NPY002
        return {"images": images.float(), "target": torch.tensor(float(index % 2))}


@METRICS.register_module()
class ToyMetric(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results += [(a - b).square().item() for a, b in data_samples]

    def compute_metrics(self, results):
        return {"closeness": 1 / (1 + sum(results))}


@HOOKS.register_module()
class InterruptHook(Hook):
    """Ends a run as Ctrl-C would, or sends another signal, after so many iterations."""

    priority = "VERY_LOW"

    def __init__(self, after, signal=None):
        self.after, self.signal = after, signal

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 != self.after:
            return
        if self.signal is None:
            raise KeyboardInterrupt
        for worker in multiprocessing.active_children():
            subprocess.run(["kill", f"-{self.signal}", str(worker.pid)], check=True)  # as schedulers do
        signal.raise_signal(self.signal)
