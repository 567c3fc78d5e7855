"""Measures what ghost channels are worth: fused layers, and a network, of which a share of the channels is off.

    python packages/sw-sparse/tools/ghost_speed.py

Printed is the CPU time of one thread as a share of that with no channel off, timed in turns, so that a machine
that is busy with other things tells nearly the same.
"""

from __future__ import annotations

import argparse
import time
from statistics import median
from typing import Any

import timm
import torch
from torch import Tensor, nn

import sw_models  # noqa: F401  (its models, in timm)
from sw_ops import FusedShiftwiseConv2d, ShiftwiseConv2d
from sw_ops.bench.timing import Run
from sw_sparse import Sparsifier, SparsityConfig
from sw_sparse.trainer.artifacts import deployed_run

SHAPES = ((80, 51, 56), (160, 49, 28), (320, 47, 14), (640, 13, 7))  # of shiftwise_tiny: channels, kernel, map
SHARES = (0.0, 0.25, 0.5, 0.75, 0.9)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8, help="images at a time")
    parser.add_argument("--turns", type=int, default=15, help="of each; the median counts")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)

    for name, memory in (("contiguous", torch.contiguous_format), ("channels-last", torch.channels_last)):
        print(f"{name:13} channels kernel map  off: " + "".join(f"{share:8.0%}" for share in SHARES))
        for channels, kernel_size, size in SHAPES:
            images = torch.randn(options.batch, channels, size, size).to(memory_format=memory)
            runs = [_layer_run(ShiftwiseConv2d(channels, kernel_size), share, images) for share in SHARES]
            print(f"{channels:22} {kernel_size:6} {size:3}       " + _shares_of_time(runs, options.turns))
    images = torch.randn(2, 3, 224, 224)
    runs = [deployed_run(_with_channels_off(timm.create_model("shiftwise_tiny"), share), images) for share in SHARES]
    print("shiftwise_tiny, deployed, channels-last  " + _shares_of_time(runs, options.turns))


def _layer_run(layer: ShiftwiseConv2d, share: float, images: Tensor) -> Run:
    fused: FusedShiftwiseConv2d = _with_channels_off(layer, share).fuse()

    def infer() -> None:
        with torch.inference_mode():
            fused(images)

    return infer


def _with_channels_off(model: nn.Module, share: float) -> Any:
    if share:
        config = SparsityConfig(sparsity=share, granularity="channel", initialisation="random", update="static")
        Sparsifier(model, torch.optim.SGD(model.parameters(), lr=0.1), config).squash()
    return model.eval()


def _shares_of_time(runs: list[Run], turns: int) -> str:
    seconds = [[_seconds(run) for run in runs] for _ in range(turns + 1)][1:]
    ratios = [median(turn[i] / turn[0] for turn in seconds) for i in range(len(runs))]
    return "".join(f"{ratio:8.2f}" for ratio in ratios)


def _seconds(run: Run) -> float:
    run()  # for its weights to be in the cache
    start = time.process_time()
    run()
    run()
    return time.process_time() - start


if __name__ == "__main__":
    main()
