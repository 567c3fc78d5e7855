"""Large images with small defects: textures of 2,000x1,500 pixels, good or with a few dots, in MVTec AD's layout.

python packages/sw-anomaly/tools/draw_dots.py DIR [--width 10] [--contrast 60] [--seed 0]
sw-anomaly eval --category dots --data DIR

A texture has grains of two sizes without any order, under uneven light. A dot is darker than its surroundings by the
contrast, in levels of 256; the texture's own standard deviation is 25.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

SHAPE = (1500, 2000)
GRAINS = {1.0: 15.0, 4.0: 20.0}  # standard deviations: widths in pixels, and what each adds to the levels
TRAIN_GOOD, TEST_GOOD, TEST_DOTS = 8, 10, 10
MOST_DOTS = 3  # in an image


def draw_texture(rng: np.random.Generator) -> np.ndarray:
    """Draw a good image, float [H, W]."""
    down, across = np.meshgrid(*(np.linspace(-1, 1, side) for side in SHAPE), indexing="ij")
    turn = rng.uniform(0, 2 * np.pi)
    levels = 140 + 12 * (np.cos(turn) * down + np.sin(turn) * across)
    for width, strength in GRAINS.items():
        grain = ndimage.gaussian_filter(rng.normal(size=SHAPE), width, mode="wrap")
        levels += strength / grain.std() * grain
    return levels


def draw_dots(width: float, rng: np.random.Generator) -> np.ndarray:
    """Draw where dots are, none at the border and with edges a pixel wide, in [0, 1], [H, W]."""
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    dots = np.zeros(SHAPE)
    for _ in range(rng.integers(1, MOST_DOTS + 1)):
        row, column = (rng.uniform(width, side - width) for side in SHAPE)
        dots = np.maximum(dots, np.clip(width / 2 + 0.5 - np.hypot(rows - row, columns - column), 0, 1))
    return dots


def main() -> None:
    """Draw the set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", type=Path)
    parser.add_argument("--width", type=float, default=10.0)
    parser.add_argument("--contrast", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.dir.exists():
        sys.exit(f"draw_dots: got {given.dir}, which is already there, want a new folder")
    plan = (("train", "good", TRAIN_GOOD), ("test", "good", TEST_GOOD), ("test", "dots", TEST_DOTS))
    for place, (split, kind, count) in enumerate(plan):
        for number in range(count):
            rng = np.random.default_rng([given.seed, place, number])
            levels = draw_texture(rng)
            if kind == "dots":
                dots = draw_dots(given.width, rng)
                levels -= given.contrast * dots
                save(given.dir / "dots" / "ground_truth" / kind / f"{number:03}_mask.png", 255 * (dots > 0.5))
            save(given.dir / "dots" / split / kind / f"{number:03}.png", np.rint(levels))


def save(path: Path, levels: np.ndarray) -> None:
    """Write levels [H, W] as a grey file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8)).save(path)


if __name__ == "__main__":
    main()
