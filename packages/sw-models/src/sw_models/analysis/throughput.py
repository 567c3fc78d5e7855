"""Images per second of several models, measured in turns so that whatever else the machine does meets all alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any, Literal

import timm
import torch
from timm.utils import reparameterize_model
from torch import Tensor

from sw_ops import onnxruntime_library, to_onnx
from sw_ops.bench.candidates import LAYOUTS
from sw_ops.bench.timing import Run, take_turns

Runtime = Literal["pytorch", "torch.compile", "onnxruntime"]


@dataclass(frozen=True)
class Setting:
    """What is measured: a model, how many images at a time, in which precision and memory layout, and what runs it.

    Deployed, or as one training step, which is a forward and a backward pass.
    """

    model: str
    batch: int
    precision: str
    layout: str
    train: bool
    runtime: Runtime


@dataclass(frozen=True)
class Speed:
    """The median of several turns of one setting."""

    setting: Setting
    images_per_second: float
    milliseconds: float


def measure(
    settings: Iterable[Setting], size: int = 224, turns: int = 5, device: str = "cpu"
) -> Iterator[tuple[int, list[Speed]]]:
    """Warm every setting up, then measure all of them in turns; yield (turns done, speeds so far) after each turn.

    A call ends when the device has finished. On the CPU every setting has a process of its own.

    Raises:
        ChildProcessError: if a setting cannot be run on the CPU.
    """
    makes = {setting: partial(_make, setting, size, device) for setting in settings}
    for done, seconds in take_turns(makes, turns, turn_seconds=1, alone=device == "cpu"):
        yield done, [_speed(setting, taken) for setting, taken in seconds.items() if taken]


def _speed(setting: Setting, seconds: list[float]) -> Speed:
    middle = median(seconds)
    return Speed(setting, setting.batch / middle, 1000 * middle)


def _make(setting: Setting, size: int, device: str) -> Run:
    dtype, memory_format = getattr(torch, setting.precision), LAYOUTS[setting.layout]
    model: Any = timm.create_model(setting.model)
    images = torch.randn(setting.batch, 3, size, size).to(device, memory_format=memory_format)
    if setting.train:
        model = model.to(device, memory_format=memory_format).train()
    else:
        deployed: Any = reparameterize_model(model.eval())
        model = deployed.to(device, dtype, memory_format=memory_format)
        images = images.to(dtype)
    if setting.runtime == "onnxruntime":
        return _in_onnxruntime(model, images)
    forward: Callable[..., Any] = torch.compile(model) if setting.runtime == "torch.compile" else model

    def infer() -> None:
        with torch.inference_mode():
            forward(images)

    def step() -> None:
        model.zero_grad()
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            loss = forward(images).float().square().mean()
        loss.backward()

    return step if setting.train else infer


def _in_onnxruntime(deployed: Any, images: Tensor) -> Run:
    """Make the file of a model, run on a CPU with the kernels of sw-ops."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
    options.register_custom_ops_library(onnxruntime_library())
    file = to_onnx(deployed, (images,), input_names=["image"]).SerializeToString()
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    pixels = images.numpy()

    def infer() -> None:
        session.run(None, {"image": pixels})

    return infer
