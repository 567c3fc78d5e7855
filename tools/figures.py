"""Draw the figures of docs/ that no command of a package draws by itself.

python tools/figures.py stripes OUT.png                    the small kernels, the table of shifts, the stripes
python tools/figures.py samples FOLDER                     check-det.png and check-seg.png: what ``check`` draws
python tools/figures.py shrink PICTURE.png                 what a command drew, small enough for a page
python tools/figures.py anomaly OUT.png CHECKPOINT         from images to verdicts, on the embedded bottle
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image

import sw_anomaly
import sw_det.sample
import sw_seg.sample
from sw_anomaly.sample.write import write_sample
from sw_ops import ShiftTable, assemble_stripes


def draw_stripes(out: Path) -> None:
    """Draw one channel: 17 kernels of 3x3, where 4 shuffles put them, and the three kernels that come out."""
    table = ShiftTable.shuffled(channels=1, kernel_size=51, small_kernel=3, n_rep=4)
    weight = torch.randn(17, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    stripes = assemble_stripes(weight, table)
    strongest = float(max(part.abs().max() for part in (stripes.horizontal, stripes.vertical)))
    colors: dict[str, Any] = {"cmap": "RdBu_r", "vmin": -strongest, "vmax": strongest}

    figure = plt.figure(figsize=(9, 6.2), layout="constrained")
    places: list[Any] = [
        ["kernels"] * 4,
        ["horizontal"] * 3 + ["vertical"],
        ["stripe"] * 3 + ["vertical"],
        ["square"] * 3 + ["vertical"],
    ]
    axes: dict[str, Any] = figure.subplot_mosaic(places, height_ratios=[0.6, 1.5, 0.8, 0.8])
    gap = np.full((3, 1), np.nan)
    row = np.concatenate([part for slot in weight[:, 0] for part in (slot.numpy(), gap)][:-1], axis=1)
    axes["kernels"].imshow(row, **colors)
    axes["kernels"].set_title("the 17 small kernels of one channel: slots 0 to 16", fontsize=10)

    slots = table.horizontal[0].numpy()
    axes["horizontal"].imshow(slots, cmap="viridis", aspect="auto")
    for shuffle, places in enumerate(slots):
        for place, slot in enumerate(places):
            axes["horizontal"].text(place, shuffle, slot, ha="center", va="center", color="white", fontsize=7)
    axes["horizontal"].set_title("which slot each of 4 shuffles puts where, from left to right", fontsize=10)
    axes["horizontal"].set_yticks(range(4), [f"shuffle {number}" for number in range(1, 5)], fontsize=8)
    axes["horizontal"].set_xticks(range(17), table.offsets, fontsize=7)
    axes["horizontal"].set_xlabel("shift, pixels", fontsize=8)

    axes["stripe"].imshow(stripes.horizontal[0].numpy(), **colors)
    axes["stripe"].set_title("their sum: the horizontal stripe, 3x51", fontsize=10)
    axes["vertical"].imshow(stripes.vertical[0].numpy(), **colors)
    axes["vertical"].set_title("the vertical\nstripe, 51x3", fontsize=10)
    axes["square"].imshow(stripes.square[0].numpy(), **colors)
    axes["square"].set_title("the square, 3x3: one slot of each shuffle", fontsize=10)
    for name in ("kernels", "stripe", "vertical", "square"):
        axes[name].set_xticks([])
        axes[name].set_yticks([])
    figure.savefig(out, dpi=140)


def shrink(picture: Path, rows: int | None = None) -> None:
    """Keep a picture's first rows, 1,000 columns and 128 colors: it is looked at on a page."""
    with Image.open(picture) as whole:
        top = whole.convert("RGB").crop((0, 0, whole.width, min(rows or whole.height, whole.height)))
    top.thumbnail((1000, 1000))
    top.quantize(128).save(picture, optimize=True)


def draw_samples(folder: Path) -> None:
    """Draw the samples of sw-det and sw-seg as their ``check`` commands do."""
    for program, write in (("det", sw_det.sample.write_sample), ("seg", sw_seg.sample.write_sample)):
        with tempfile.TemporaryDirectory() as scratch:
            write(Path(scratch) / "SYNTHETIC")
            check = str(Path(sys.executable).with_name(f"sw-{program}"))
            out = str(folder.resolve() / f"check-{program}.png")
            subprocess.run([check, "check", "SYNTHETIC", "--out", out], cwd=scratch, check=True)
            shrink(Path(out), rows=560)


def draw_anomaly(out: Path, checkpoint: Path) -> None:
    """Draw test images of the sample, what a detector maps, and what it says."""
    detector = sw_anomaly.load_detector(checkpoint)
    with tempfile.TemporaryDirectory() as folder:
        write_sample(Path(folder) / "sample")
        test = Path(folder) / "sample/bottle/test"
        kinds = sorted(path for path in test.iterdir() if path.is_dir())
        shown = [sorted(kind.glob("*.png"))[0] for kind in kinds]
        images = [sw_anomaly.load_image(path) for path in shown]
    figure, axes = plt.subplots(3, len(shown), figsize=(2.1 * len(shown), 6.6), layout="constrained")
    inspections = [detector.inspect(image) for image in images]
    heat = {"cmap": "inferno", "vmin": 0, "vmax": 2 * detector.pixel_threshold}  # as in the report
    for column, path, image, found in zip(axes.T, shown, images, inspections, strict=True):
        pixels = detector.intensity.levels(image)
        defective = found.score >= detector.image_threshold
        column[0].imshow(pixels)
        column[0].set_title(f"image: {path.parent.name}", fontsize=9)
        column[1].imshow(found.map, **heat)
        column[1].set_title("map", fontsize=9)
        column[2].imshow(pixels)
        if defective:
            column[2].contour(found.map >= detector.pixel_threshold, levels=[0.5], colors="cyan", linewidths=1)
        verdict = "defective" if defective else "good"
        column[2].set_title(f"{found.score:.2f}: {verdict}", fontsize=9, color="firebrick" if defective else "green")
        for axis in column:
            axis.set_axis_off()
    figure.suptitle(f"SYNTHETIC images; threshold {detector.image_threshold:.2f}", fontsize=10)
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["stripes", out]:
            draw_stripes(Path(out))
        case ["shrink", picture]:
            shrink(Path(picture))
        case ["samples", folder]:
            draw_samples(Path(folder))
        case ["anomaly", out, checkpoint]:
            draw_anomaly(Path(out), Path(checkpoint))
        case _:
            sys.exit(__doc__)
