"""The embedded sample: drawn shapes as a data folder. SYNTHETIC, for trying the program and not for results."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from sw_sparse.openmmlab.sample_shapes import CLASSES, draw, label_map

SIZES = {"training": 256, "validation": 64}  # images
SIZE = 128  # pixels, height and width


def write_sample(folder: Path) -> None:
    """Draw the sample into a new folder."""
    for split, count in SIZES.items():
        images, labels = folder / "images" / split, folder / "labels" / split
        for subfolder in (images, labels):
            subfolder.mkdir(parents=True)
        for index in range(count):
            image, instances = draw(index, seed=list(SIZES).index(split), size=SIZE)
            Image.fromarray(image).save(images / f"{index:04}.png")
            Image.fromarray(label_map(instances, SIZE)).save(labels / f"{index:04}.png")
    (folder / "classes.txt").write_text("\n".join(("background", *CLASSES)) + "\n")
    (folder / "SYNTHETIC.txt").write_text("Drawn by sw-seg; no photographs. For trying the program, not for results.\n")
