"""Does the large kernel pay at a small scale? One skeleton, several kinds of layer, one budget, several seeds.

    python tools/small_scale.py                                     handwritten digits, no download, minutes
    python tools/small_scale.py --data DIR --input-size 96          photographs: DIR holds train.tar and val.tar
    python tools/small_scale.py --network resnet18                  a ResNet, and what `sw_models.swap` makes of it

Trains `shiftwise_pico` as it is and with plain depthwise convolutions of 13x13, 7x7 and 3x3 in the place of its
shift-wise ones, or a ResNet-18 as it is and with shift-wise layers in the place of its 3x3 convolutions, all dense and
with the same recipe; prints test accuracy (validation accuracy where the data have no
third split) with its standard deviation over the seeds, and draws it against parameters and training time. A run that
was interrupted is continued by the same command.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track
from rich.table import Table
from timm.models import register_model
from torch import nn

import sw_models
from sw_models.errors import InputError
from sw_ops import ShiftwiseConv2d
from sw_sparse.trainer.loop import train
from sw_sparse.trainer.recipe import read_recipe

SCALED: dict[str, Any] = {"layer_scale_init": 0.1}
NETWORKS: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {  # a model and its arguments, by kind of layer
    "shiftwise_pico": {
        "shift-wise 51-49-47-13": ("shiftwise_pico", SCALED),
        "dense 13x13": ("shiftwise_pico_depthwise", {**SCALED, "depthwise": 13}),
        "dense 7x7": ("shiftwise_pico_depthwise", {**SCALED, "depthwise": 7}),
        "dense 3x3": ("shiftwise_pico_depthwise", {**SCALED, "depthwise": 3}),
    },
    "resnet18": {"dense 3x3": ("resnet18", {}), "shift-wise 13": ("resnet18_swapped", {"kernel_size": 13})},
}
PHOTOGRAPHS: dict[str, Any] = {
    "dataset": "tar",
    "test_split": None,
    "crop_pct": 1.0,
    "scale": (0.35, 1.0),
    "hflip": 0.5,
    "smoothing": 0.1,
}


@register_model
def shiftwise_pico_depthwise(pretrained: bool = False, *, depthwise: int, **kwargs: Any) -> nn.Module:
    """Build `shiftwise_pico` with dense depthwise convolutions of this width for its shift-wise ones."""
    model = timm.create_model("shiftwise_pico", pretrained, **kwargs)
    for name, layer in [pair for pair in model.named_modules() if isinstance(pair[1], ShiftwiseConv2d)]:
        channels = layer.channels
        plain = nn.Conv2d(channels, channels, depthwise, padding=depthwise // 2, groups=channels, bias=False)
        nn.init.trunc_normal_(plain.weight, std=0.02)
        model.set_submodule(name, plain)
    return model


@register_model
def resnet18_swapped(pretrained: bool = False, *, kernel_size: int, **kwargs: Any) -> nn.Module:
    """Build `resnet18` with shift-wise layers of this reach for its 3x3 convolutions."""
    return sw_models.swap(timm.create_model("resnet18", pretrained, **kwargs), kernel_size)


@dataclass(frozen=True)
class Result:
    """One kind of layer: parameters in thousands, accuracies in percent and training times in seconds, by seed."""

    label: str
    parameters: float
    accuracies: list[float]
    seconds: list[float]


def run(label: str, seed: int, arguments: argparse.Namespace) -> tuple[float, float, float]:
    """Train one network; return its parameters in thousands, its accuracy in percent, and the seconds it took."""
    model, model_args = NETWORKS[arguments.network][label]
    output = arguments.output / f"{label.replace(' ', '-')}-seed{seed}"
    flags: dict[str, Any] = {
        "model": model,
        "model_args": model_args,
        "epochs": arguments.epochs,
        "sparsity": 0.0,
        "trackers": (),
        "keep": 1,
        "seed": seed,
        "output": str(output),
    }
    if arguments.data:
        flags |= {**PHOTOGRAPHS, "data_dir": str(arguments.data), "input_size": arguments.input_size}
    summary = train(read_recipe("digits", flags))
    network = timm.create_model(model, **model_args)
    history = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    accuracy = summary.get("test_top1", summary["top1"])
    parameters = sum(p.numel() for n, p in network.named_parameters() if not n.startswith(("head.fc", "fc.")))
    return parameters / 1e3, accuracy, sum(epoch["seconds"] for epoch in history)


def draw(results: list[Result], path: Path) -> None:
    """Draw accuracy against parameters and against training time, with the standard deviation over the seeds."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for result in results:
        mean, deviation = mean_and_deviation(result.accuracies)
        places = (result.parameters, statistics.mean(result.seconds))
        for one, place in zip(axes, places, strict=True):
            one.errorbar(place, mean, deviation, fmt="o", capsize=4, label=result.label)
    axes[0].set(xlabel="parameters without classifier, thousands", ylabel="top-1 accuracy, %")
    axes[1].set(xlabel="training time, seconds")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(results), frameon=False)
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.grid(alpha=0.3)
    figure.savefig(path, dpi=130)


def mean_and_deviation(values: list[float]) -> tuple[float, float]:
    """Return the mean, and the standard deviation (0 for a single value)."""
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def main() -> int:
    """Run the experiment; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=NETWORKS, default="shiftwise_pico")
    parser.add_argument("--data", type=Path, help="folder with train.tar and val.tar; digits without it")
    parser.add_argument("--input-size", type=int, default=96, help="side of the photographs in pixels")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, help="folder, runs/small_scale-NETWORK without it")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    arguments = parser.parse_args()
    arguments.output = arguments.output or Path(f"runs/small_scale-{arguments.network}")
    kinds = NETWORKS[arguments.network]
    screen = Console(stderr=True)
    results = []
    try:
        seeds = range(arguments.seeds)
        jobs = [(label, seed) for label in kinds for seed in seeds]
        done = [run(*job, arguments) for job in track(jobs, "trainings", console=screen)]
    except InputError as error:
        screen.print(f"small_scale: {error}", style="red", markup=False, soft_wrap=True)
        return 2
    for index, label in enumerate(kinds):
        parameters, accuracies, times = zip(*done[index * len(seeds) : (index + 1) * len(seeds)], strict=True)
        results.append(Result(label, parameters[0], list(accuracies), list(times)))
    draw(results, arguments.output / "small_scale.png")
    text = json.dumps({"threads": torch.get_num_threads(), "results": [asdict(r) for r in results]}, indent=2)
    (arguments.output / "small_scale.json").write_text(text + "\n")
    if arguments.json:
        print(text)
    else:
        table = Table("layer", "parameters, k", "top-1, %", "training, s")
        for result in results:
            accuracy, spread = mean_and_deviation(result.accuracies)
            seconds = statistics.mean(result.seconds)
            table.add_row(result.label, f"{result.parameters:.0f}", f"{accuracy:.2f} ± {spread:.2f}", f"{seconds:.0f}")
        Console().print(table)
        print(f"results and picture: {arguments.output}/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
