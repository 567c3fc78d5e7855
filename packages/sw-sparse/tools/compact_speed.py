"""Measures what half the units are worth: a network beside its compact form, deployed, in PyTorch and onnxruntime.

    python packages/sw-sparse/tools/compact_speed.py --model shiftwise_tiny --onnx

Half the units of every layer that has any are switched off at random, which is what decides speed; accuracy is another
matter. Both forms are timed in turns in one process, so that what else the machine does meets both.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import timm
import torch
from timm.utils import reparameterize_model
from torch import nn

import sw_models  # noqa: F401  (its models, in timm)
from sw_models.analysis.flops import count_macs
from sw_models.export import export_model
from sw_ops.bench.timing import take_turns
from sw_sparse import Sparsifier, SparsityConfig, save_compact


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="shiftwise_tiny", help="of timm")
    parser.add_argument("--sparsity", type=float, default=0.5, help="share of the units that is off")
    parser.add_argument("--size", type=int, default=224, help="of the images")
    parser.add_argument("--batch", type=int, default=4, help="images at a time")
    parser.add_argument("--turns", type=int, default=7, help="of each form; the median counts")
    parser.add_argument("--onnx", action="store_true", help="export both and time them with onnxruntime, too")
    options = parser.parse_args()

    torch.manual_seed(0)
    dense = timm.create_model(options.model).eval()
    config = SparsityConfig(sparsity=options.sparsity, granularity="unit", initialisation="random", update="static")
    inputs = (torch.zeros(2, 3, options.size, options.size),)
    sparsifier = Sparsifier(dense, torch.optim.SGD(dense.parameters(), lr=0.1), config, inputs=inputs)
    forms = {"dense": dense, "compact": sparsifier.compact(dense)}

    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"{name}.safetensors" for name in forms}
        for name, model in forms.items():
            save_compact(model, files[name])
        for name, model in forms.items():
            numbers = sum(parameter.numel() for parameter in model.parameters())
            macs = count_macs(model, options.size)["total"]
            print(f"{name:8} {numbers / 1e6:7.2f} M parameters  {macs / 1e9:6.2f} GMACs  "
                  f"{files[name].stat().st_size / 2**20:7.1f} MiB")  # fmt: skip
        images = torch.randn(options.batch, 3, options.size, options.size)
        makes: dict[str, partial[Callable[[], None]]] = {
            f"PyTorch {name}": partial(_in_torch, model, images) for name, model in forms.items()
        }
        if options.onnx:
            for name, model in forms.items():
                export_model(model, Path(folder) / f"{name}.onnx", "onnx", size=options.size)
                makes[f"onnxruntime {name}"] = partial(_in_onnxruntime, Path(folder) / f"{name}.onnx", images)
        *_, (_, seconds) = take_turns(makes, options.turns, turn_seconds=0.5, alone=False)
    for runtime in ("PyTorch", "onnxruntime")[: 1 + options.onnx]:
        times = [median(seconds[f"{runtime} {name}"]) for name in forms]
        print(f"{runtime:12} {options.batch / times[0]:7.1f} -> {options.batch / times[1]:7.1f} images/s, "
              f"{times[0] / times[1]:.2f}x")  # fmt: skip


def _in_torch(model: nn.Module, images: torch.Tensor) -> Callable[[], None]:
    deployed: Any = reparameterize_model(model)
    deployed = deployed.to(memory_format=torch.channels_last)
    images = images.to(memory_format=torch.channels_last)

    def infer() -> None:
        with torch.inference_mode():
            deployed(images)

    return infer


def _in_onnxruntime(path: Path, images: torch.Tensor) -> Callable[[], None]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    array: Any = np.asarray(images)

    def infer() -> None:
        session.run(None, {"image": array})

    return infer


if __name__ == "__main__":
    main()
