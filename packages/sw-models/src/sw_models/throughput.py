"""Images per second of several models, measured in turns so that whatever else the machine does meets all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

import timm
import torch
from timm.utils import reparameterize_model


@dataclass(frozen=True)
class Setting:
    """What is measured: a model, how many images at a time, in which precision, deployed or as one training step."""

    model: str
    batch: int
    precision: str
    train: bool
    compiled: bool


@dataclass(frozen=True)
class Speed:
    """The median of several turns of one setting."""

    setting: Setting
    images_per_second: float
    milliseconds: float


def measure(
    settings: Iterable[Setting], size: int = 224, turns: int = 5, device: str = "cpu"
) -> Iterator[tuple[int, list[Speed]]]:
    """Run every setting once to warm up, then all of them in turns; yield (runs done, speeds so far) after each run.

    Every run is timed by itself and ends when the device has finished. Inference is in channels-last memory and in
    the deployed form; training is a forward and a backward pass.
    """
    runs = {setting: _prepare(setting, size, device) for setting in settings}
    seconds: dict[Setting, list[float]] = {setting: [] for setting in runs}
    done = 0
    for turn in range(turns + 1):
        for setting, run in runs.items():
            _synchronise(device)
            start = time.perf_counter()
            run()
            _synchronise(device)
            if turn:  # the first turn is the warm-up
                seconds[setting].append(time.perf_counter() - start)
            done += 1
            yield done, [_speed(setting, taken) for setting, taken in seconds.items() if taken]


def _speed(setting: Setting, seconds: list[float]) -> Speed:
    middle = median(seconds)
    return Speed(setting, setting.batch / middle, 1000 * middle)


def _prepare(setting: Setting, size: int, device: str) -> Callable[[], Any]:
    dtype = getattr(torch, setting.precision)
    model: Any = timm.create_model(setting.model)
    images = torch.randn(setting.batch, 3, size, size).to(device, memory_format=torch.channels_last)
    if setting.train:
        model = model.to(device, memory_format=torch.channels_last).train()
    else:
        deployed: Any = reparameterize_model(model.eval())
        model = deployed.to(device, dtype, memory_format=torch.channels_last)
        images = images.to(dtype)
    forward: Callable[..., Any] = torch.compile(model) if setting.compiled else model

    def infer() -> None:
        with torch.inference_mode():
            forward(images)

    def step() -> None:
        model.zero_grad()
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            loss = forward(images).float().square().mean()
        loss.backward()

    return step if setting.train else infer


def _synchronise(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
