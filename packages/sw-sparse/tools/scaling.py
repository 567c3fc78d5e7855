"""Compute hours and cost of the 300-epoch recipe on 8, 64 and 512 GPUs, and what limits each, into docs/scaling.md.

    python packages/sw-sparse/tools/scaling.py [--speed 32=362 --speed 64=372 --speed 128=378] [--link 25] [--price 2]

Measured here, when it runs: images a CPU core can decode and augment, the size of the gradient, the time of a mask
update. Given as arguments: the GPU's speed, the speed of the links, prices. The rest is arithmetic.
"""

from __future__ import annotations

import argparse
import io
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image

import sw_models  # noqa: F401  (registers the models)
from sw_sparse import Sparsifier, SparsityConfig
from sw_sparse.trainer.data import transform_of
from sw_sparse.trainer.recipe import read_recipe

IMAGES, GLOBAL_BATCH, EPOCHS = 1_281_167, 4096, 300
OPTIMIZER_BYTES_PER_PARAMETER = 28  # AdamW in fp32 reads weight, gradient, two moments, and writes three of them


@dataclass(frozen=True)
class Machine:
    """What the program is told about the machines."""

    gpus: int
    seconds_of_pass: tuple[float, float]
    """Fixed seconds and seconds per image of one forward and backward pass."""
    cores_per_gpu: int
    link: float
    """GB/s per GPU for the all-reduce."""
    memory: float
    """GB/s of the GPU's own memory."""
    price: float


def seconds_of_pass(speeds: dict[int, float], training_factor: float) -> tuple[float, float]:
    """Fit ``fixed + per_image * batch`` to images per second at several batch sizes (least squares)."""
    batches = np.array(list(speeds), dtype=float)
    seconds = training_factor * batches / np.array(list(speeds.values()))
    per_image, fixed = np.polyfit(batches, seconds, 1)
    return max(float(fixed), 0.0), float(per_image)


def row(machine: Machine, loader_speed: float, parameters: int, update: float) -> dict[str, float]:
    """Return seconds of the parts of one optimizer step, and what the run comes to."""
    share = GLOBAL_BATCH // machine.gpus
    batch = min(share, 64)
    fixed, per_image = machine.seconds_of_pass
    one_pass = fixed + per_image * batch
    compute = share // batch * one_pass
    loader = share / (loader_speed * machine.cores_per_gpu)
    all_reduce = 2 * (machine.gpus - 1) / machine.gpus * 4 * parameters / (machine.link * 1e9)
    # The last backward pass, two thirds of it, hides the all-reduce of all but the gradient's last bucket.
    exposed = max(all_reduce - one_pass * 2 / 3, 0.0)
    optimizer = OPTIMIZER_BYTES_PER_PARAMETER * parameters / (machine.memory * 1e9)
    step = max(compute, loader) + exposed + optimizer + update / 100
    hours = EPOCHS * (IMAGES // GLOBAL_BATCH) * step / 3600
    return {
        "batch": batch, "passes": share // batch, "compute": compute, "loader": loader, "all-reduce": all_reduce,
        "exposed": exposed, "optimizer": optimizer, "masks": update / 100, "step": step, "hours": hours,
        "cost": hours * machine.gpus * machine.price,
    }  # fmt: skip


def advice(figures: dict[str, float]) -> str:
    """Say what limits a step, and which option to turn then."""
    if figures["loader"] > figures["compute"]:
        return "data loader: `--workers`, more cores, images stored at a smaller size"
    if figures["exposed"] > 0.1 * figures["step"]:
        return "all-reduce: `--accumulate`, faster links"
    if figures["optimizer"] > 0.1 * figures["step"]:
        return "optimizer: larger `--batch-size` with its `--lr`"
    return "computation: `--amp bf16`, `--channels-last`, `--compile`"


def measure_loader(seconds: float = 5.0) -> float:
    """Return images per second that one core decodes and augments as the recipe does (500 x 375 JPEG)."""
    noise = np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize((500, 375), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    transform = transform_of(read_recipe("sw_t", {"data_dir": "."}), training=True)
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        transform(Image.open(io.BytesIO(file.getvalue())).convert("RGB"))
        count += 1
    return count / (time.perf_counter() - start)


def measure_model() -> tuple[int, float]:
    """Return the number of parameters of SW-T and the seconds of an update of its masks, on this machine's CPU."""
    model = timm.create_model("shiftwise_tiny")
    optimizer = torch.optim.AdamW(model.parameters())
    settings = SparsityConfig(targets="*.conv.weights.*", granularity="shared_filter", update_every=1)
    sparsifier = Sparsifier(model, optimizer, settings)
    optimizer.step()
    start = time.perf_counter()
    sparsifier.step()
    return sum(p.numel() for p in model.parameters()), time.perf_counter() - start


def report(arguments: argparse.Namespace) -> str:
    """Return the page."""
    speeds = {int(b): float(s) for b, s in (pair.split("=") for pair in arguments.speed)}
    fit = seconds_of_pass(speeds, arguments.training_factor)
    loader_speed = measure_loader()
    parameters, update = measure_model()
    lines = [
        "# SW-T, 300 epochs: on paper",
        "",
        "Written by `python packages/sw-sparse/tools/scaling.py`; run it again with your machines' figures.",
        f"The batch of one optimizer step is {GLOBAL_BATCH} images on any number of GPUs, {IMAGES:,} images an epoch.",
        "",
        "Measured when it ran, on one CPU core:",
        "",
        f"- data loader: {loader_speed:.0f} images/s (500 x 375 JPEG, RandAugment, 224 px)",
        f"- gradient: {4 * parameters / 1e6:.1f} MB ({parameters:,} parameters, fp32)",
        f"- update of all masks: {update:.3f} s, every 100 steps",
        "",
        "Given to it:",
        "",
        "- GPU: " + ", ".join(f"{s:g} images/s at batch {b}" for b, s in speeds.items())
        + f" forward (published, A100, fp32); a training pass takes {arguments.training_factor:g} times as long",
        f"- {arguments.cores} CPU cores, {arguments.memory:g} GB/s of memory, {arguments.link:g} GB/s of links per GPU",
        f"- {arguments.price:g} per GPU hour",
        "",
        "| GPUs | per step | compute s | loader s | all-reduce s | exposed s | optimizer s | step s | hours | cost "
        "| limit, and what to turn |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for gpus in (8, 64, 512):
        machine = Machine(gpus, fit, arguments.cores, arguments.link, arguments.memory, arguments.price)
        f = row(machine, loader_speed, parameters, update)
        lines.append(
            f"| {gpus} | {f['passes']:.0f} x {f['batch']:.0f} | {f['compute']:.3f} | {f['loader']:.3f} | "
            f"{f['all-reduce']:.4f} | {f['exposed']:.4f} | {f['optimizer']:.4f} | {f['step']:.3f} | {f['hours']:.1f} | "
            f"{f['cost']:,.0f} | {advice(f)} |"
        )
    return "\n".join([*lines, "", _NOTES.format(**crossovers(arguments, fit, loader_speed, parameters, update)), ""])


def crossovers(
    arguments: argparse.Namespace, fit: tuple[float, float], loader_speed: float, parameters: int, update: float
) -> dict[str, str]:
    """Return where each part becomes the limit, on 512 GPUs and in general."""
    on_512 = Machine(512, fit, arguments.cores, arguments.link, arguments.memory, arguments.price)
    one_pass = row(on_512, loader_speed, parameters, update)["compute"]
    hidden_by = 2 * 4 * parameters / (one_pass * 2 / 3) / 1e9
    return {
        "cores": f"{1 / (fit[1] * loader_speed):.1f}",
        "faster": f"{loader_speed * arguments.cores * fit[1]:.1f}",
        "link": f"{hidden_by:.2f}",
    }


_NOTES = """Where the limits lie:

- The **data loader** needs {cores} cores per GPU; with those given above a GPU may be {faster} times as fast before it
  waits for images. Then turn `--workers`, store smaller images, or take `--dataset wds/...`.
- The **all-reduce** hides behind the last backward pass of a step. On 512 GPUs, 8 images each, that takes links of
  {link} GB/s per GPU. Below that, `--accumulate` with a larger total batch (and `--lr`) halves how often it happens.
- The **optimizer** is the same work on every GPU however many there are: it counts once the rest of a step is small.
- Masks are broadcast only when they change, as bits, and compared by a hash: a few kilobytes every 100 steps."""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speed", action="append", metavar="BATCH=IMAGES_PER_S", help="forward speed of a GPU")
    parser.add_argument("--training-factor", type=float, default=3.0, help="time of a training pass over a forward one")
    parser.add_argument("--cores", type=int, default=8, help="CPU cores per GPU")
    parser.add_argument("--link", type=float, default=25.0, help="GB/s per GPU for the all-reduce")
    parser.add_argument("--memory", type=float, default=1500.0, help="GB/s of a GPU's memory")
    parser.add_argument("--price", type=float, default=2.0, help="of a GPU hour")
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[1] / "docs" / "scaling.md")
    arguments = parser.parse_args()
    arguments.speed = arguments.speed or ["32=362", "64=372", "128=378"]
    torch.set_num_threads(1)
    page = report(arguments)
    arguments.output.parent.mkdir(exist_ok=True)
    arguments.output.write_text(page)
    print(page)
