"""Measures what ghost channels are worth: a fused shift-wise layer of which a share of the channels is off.

    python packages/sw-sparse/tools/ghost_speed.py --threads 1

All are timed in turns in one process, so that what else the machine does meets all of them; what counts is the ratio.
"""

from __future__ import annotations

import argparse
from functools import partial
from statistics import median

import torch

from sw_ops import ShiftwiseConv2d
from sw_ops.bench.timing import Run, take_turns
from sw_sparse import Sparsifier, SparsityConfig

SHAPES = ((80, 51, 56), (160, 49, 28), (320, 47, 14), (640, 13, 7))  # of shiftwise_tiny: channels, kernel, map
SHARES = (0.0, 0.25, 0.5, 0.75, 0.9)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8, help="images at a time")
    parser.add_argument("--turns", type=int, default=15, help="of each; the median counts")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    for name, memory in (("contiguous", torch.contiguous_format), ("channels-last", torch.channels_last)):
        print(f"{name}, time as a share of the layer's with no channel off ({options.threads} threads)")
        print(" channels kernel map  off: " + "".join(f"{share:8.0%}" for share in SHARES))
        for channels, kernel_size, size in SHAPES:
            images = torch.randn(options.batch, channels, size, size).to(memory_format=memory)
            makes = {share: partial(_fused, channels, kernel_size, share, images) for share in SHARES}
            *_, (_, seconds) = take_turns(makes, options.turns, alone=False)
            ratios = [median(a / b for a, b in zip(seconds[s], seconds[0.0], strict=True)) for s in SHARES]
            print(f"{channels:9} {kernel_size:6} {size:3}       " + "".join(f"{ratio:8.2f}" for ratio in ratios))


def _fused(channels: int, kernel_size: int, share: float, images: torch.Tensor) -> Run:
    layer = ShiftwiseConv2d(channels, kernel_size)
    if share:
        config = SparsityConfig(sparsity=share, granularity="channel", initialisation="random", update="static")
        Sparsifier(layer, torch.optim.SGD(layer.parameters(), lr=0.1), config).squash()
    fused = layer.eval().fuse()

    def infer() -> None:
        with torch.inference_mode():
            fused(images)

    return infer


if __name__ == "__main__":
    main()
