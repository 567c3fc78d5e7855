"""Does the shift-wise operator help to find defects? ``sw-anomaly`` with plain depthwise convolutions in its place.

python packages/sw-anomaly/tools/plain_kernels.py SIZE eval --category screw --data DIR ...

SIZE is the width of the plain kernels in ``swnano``, in pixels; what follows is as for ``sw-anomaly``. The checkpoints
that come of it can only be read by this program.
"""

from __future__ import annotations

import sys
from functools import partial

from torch import nn

from sw_anomaly.cli import app
from sw_anomaly.methods.unet.networks import MODELS, UNet, swnano
from sw_ops import ShiftwiseConv2d


def plain_swnano(size: int, in_channels: int = 3) -> UNet:
    """``swnano`` with a depthwise convolution of ``size`` x ``size`` for each shift-wise layer."""
    model = swnano(in_channels)
    for name, layer in [pair for pair in model.named_modules() if isinstance(pair[1], ShiftwiseConv2d)]:
        plain = nn.Conv2d(layer.channels, layer.channels, size, padding="same", groups=layer.channels, bias=False)
        nn.init.trunc_normal_(plain.weight, std=0.02)
        model.set_submodule(name, plain)
    return model


def main() -> None:
    """Run the command with the plain network under the name of the other."""
    if len(sys.argv) < 3 or not sys.argv[1].isdecimal() or int(sys.argv[1]) % 2 == 0:
        sys.exit(f"plain_kernels: SIZE: got {' '.join(sys.argv[1:2]) or 'nothing'}, want an odd width and a command")
    size = int(sys.argv.pop(1))
    MODELS["swnano"] = partial(plain_swnano, size)
    app()


if __name__ == "__main__":
    main()
