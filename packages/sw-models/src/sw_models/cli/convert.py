"""``sw-models convert``."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from rich.progress import Progress
from torch import nn

from sw_models.checkpoints.load import write_state_dict
from sw_models.cli.common import AsJson, Kernels, kernels_of
from sw_models.console import print_rows
from sw_models.errors import InputError
from sw_models.files import want_new_file
from sw_models.published import load_published_checkpoint


def convert(
    published: Path, out: Path, kernel_sizes: Kernels = "51,49,47,13", small_kernel: int = 3, as_json: AsJson = False
) -> None:
    """Convert a published checkpoint to this package's names, run the result once, and print its SHA-256."""
    with Progress(transient=True) as progress:
        want_new_file("OUT", out)
        if out.suffix != ".safetensors":
            raise InputError(f"OUT: got {out.name}, want a name that ends in .safetensors")
        task = progress.add_task("reading", total=3)
        model = load_published_checkpoint(published, kernels_of(kernel_sizes), small_kernel)
        progress.update(task, advance=1, description="running")
        first = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
        with torch.no_grad():
            outputs = model(torch.zeros(1, first.in_channels, 64, 64))
        if not all(torch.isfinite(o).all() for o in (outputs if isinstance(outputs, list) else [outputs])):
            raise InputError(f"PUBLISHED: the network of {published} gives values that are not finite")
        progress.update(task, advance=1, description="writing")
        write_state_dict(model.state_dict(), out)
        found = {
            "file": str(out),
            "network": type(model).__name__,
            "parameters": sum(p.numel() for p in model.parameters()),
            "sha256": hashlib.sha256(out.read_bytes()).hexdigest(),
        }
    print_rows([found], as_json, "converted")
