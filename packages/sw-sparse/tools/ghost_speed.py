"""Measures what ghost channels are worth: a fused shift-wise layer of which a share of the channels is off.

    python packages/sw-sparse/tools/ghost_speed.py

Printed is the CPU time of one thread as a share of the layer's with no channel off, timed in turns, so that a machine
that is busy with other things tells nearly the same.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import torch
from torch import Tensor

from sw_ops import FusedShiftwiseConv2d, ShiftwiseConv2d
from sw_sparse import Sparsifier, SparsityConfig

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
            layers = [_fused(channels, kernel_size, share) for share in SHARES]
            turns = [[_seconds(layer, images) for layer in layers] for _ in range(options.turns + 1)][1:]
            ratios = [median(turn[i] / turn[0] for turn in turns) for i in range(len(SHARES))]
            print(f"{channels:22} {kernel_size:6} {size:3}       " + "".join(f"{ratio:8.2f}" for ratio in ratios))


def _fused(channels: int, kernel_size: int, share: float) -> FusedShiftwiseConv2d:
    layer = ShiftwiseConv2d(channels, kernel_size)
    if share:
        config = SparsityConfig(sparsity=share, granularity="channel", initialisation="random", update="static")
        Sparsifier(layer, torch.optim.SGD(layer.parameters(), lr=0.1), config).squash()
    return layer.eval().fuse()


@torch.inference_mode()
def _seconds(layer: FusedShiftwiseConv2d, images: Tensor) -> float:
    layer(images)  # for its weights to be in the cache
    start = time.process_time()
    for _ in range(2):
        layer(images)
    return time.process_time() - start


if __name__ == "__main__":
    main()
