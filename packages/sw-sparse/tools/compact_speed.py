"""Measures what half the units are worth: a network beside its compact form, deployed, in PyTorch and onnxruntime.

    python packages/sw-sparse/tools/compact_speed.py --model shiftwise_tiny --onnx

Half the units of every layer that has any are switched off at random, which is what decides speed; accuracy is another
matter. Timed is the CPU time of one thread, in turns, so that a machine that is busy with other things tells nearly the
same ratio.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import timm
import torch
from matplotlib.figure import Figure

import sw_models  # noqa: F401  (its models, in timm)
from sw_models.analysis.flops import count_macs
from sw_models.checkpoints.load import write_state_dict
from sw_models.export import export_model
from sw_ops.bench.timing import Run
from sw_sparse import Sparsifier, SparsityConfig, save_compact
from sw_sparse.trainer.artifacts import deployed_run


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="shiftwise_tiny", help="of timm")
    parser.add_argument("--sparsity", type=float, default=0.5, help="share of the units that is off")
    parser.add_argument("--size", type=int, default=224, help="of the images")
    parser.add_argument("--batch", type=int, default=4, help="images at a time")
    parser.add_argument("--turns", type=int, default=7, help="of each form; the median counts")
    parser.add_argument("--onnx", action="store_true", help="export both and time them with onnxruntime, too")
    parser.add_argument("--figure", type=Path, help="draw speed and size into this PNG")
    options = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(0)
    dense = timm.create_model(options.model).eval()
    config = SparsityConfig(sparsity=options.sparsity, granularity="unit", initialisation="random", update="static")
    inputs = (torch.zeros(2, 3, options.size, options.size),)
    sparsifier = Sparsifier(dense, torch.optim.SGD(dense.parameters(), lr=0.1), config, inputs=inputs)
    forms = {"dense": dense, "compact": sparsifier.compact(dense)}

    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"{name}.safetensors" for name in forms}
        write_state_dict(dense.state_dict(), files["dense"])
        save_compact(forms["compact"], files["compact"])
        sizes = [file.stat().st_size / 2**20 for file in files.values()]
        for name, model in forms.items():
            numbers = sum(parameter.numel() for parameter in model.parameters())
            macs = count_macs(model, options.size)["total"]
            print(f"{name:8} {numbers / 1e6:7.2f} M parameters  {macs / 1e9:6.2f} GMACs  "
                  f"{files[name].stat().st_size / 2**20:7.1f} MiB")  # fmt: skip
        images = torch.randn(options.batch, 3, options.size, options.size)
        runs: dict[str, Run] = {f"PyTorch {name}": deployed_run(model, images) for name, model in forms.items()}
        if options.onnx:
            for name, model in forms.items():
                export_model(model, Path(folder) / f"{name}.onnx", "onnx", size=options.size)
                runs[f"onnxruntime {name}"] = _in_onnxruntime(Path(folder) / f"{name}.onnx", images)
        turns = [{name: _seconds(run) for name, run in runs.items()} for _ in range(options.turns + 1)][1:]
    drawn = {"size of the file": sizes[1] / sizes[0]}
    for runtime in ("PyTorch", "onnxruntime")[: 1 + options.onnx]:
        pairs = [(turn[f"{runtime} dense"], turn[f"{runtime} compact"]) for turn in turns]
        before, after = (options.batch / median(times) for times in zip(*pairs, strict=True))
        drawn[f"images/s, {runtime}"] = median(dense / compact for dense, compact in pairs)
        print(f"{runtime:12} {before:7.1f} -> {after:7.1f} images/s, {drawn[f'images/s, {runtime}']:.2f}x")
    if options.figure:
        _draw(drawn, f"{options.model}, {options.sparsity:.0%} of the hidden units off", options.figure)


def _seconds(run: Run) -> float:
    run()  # for its weights to be in the cache
    start = time.process_time()
    run()
    return time.process_time() - start


def _draw(shares: dict[str, float], title: str, path: Path) -> None:
    figure = Figure(figsize=(8, 2.2), layout="constrained")
    axes = figure.subplots()
    axes.barh(list(shares), [1.0] * len(shares), height=0.75, color="lightgray", label="dense")
    bars = axes.barh(list(shares), list(shares.values()), height=0.45, label="compact")
    axes.bar_label(bars, fmt="%.2fx", padding=4)
    axes.set(title=title, xlim=(0, 1.25 * max(1.0, *shares.values())))
    axes.legend()
    figure.savefig(path, dpi=110)


def _in_onnxruntime(path: Path, images: torch.Tensor) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    array: Any = np.asarray(images)

    def infer() -> None:
        session.run(None, {"image": array})

    return infer


if __name__ == "__main__":
    main()
