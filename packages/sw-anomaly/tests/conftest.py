"""A tiny category in MVTec AD layout, for every test that needs files."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

settings.register_profile("untimed", deadline=None, max_examples=50)
settings.load_profile("untimed")


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def draw_part(rng: np.random.Generator, size: int = 64) -> np.ndarray:
    """A noisy grey disc on a light ground, uint8 [size, size, 3]."""
    y, x = np.mgrid[:size, :size] / size - 0.5
    disc = np.hypot(x, y) < 0.35
    picture = np.where(disc, 90.0, 215.0)[..., None] + rng.normal(0, 3, (size, size, 3))
    return np.clip(picture, 0, 255).astype(np.uint8)


@pytest.fixture
def tiny_root(tmp_path):
    """`disc`: six good training images; in test two good ones and two with a white `spot`."""
    rng = np.random.default_rng(0)
    root = tmp_path / "data"
    for number in range(6):
        save(root / "disc" / "train" / "good" / f"{number:03}.png", draw_part(rng))
    for number in range(2):
        save(root / "disc" / "test" / "good" / f"{number:03}.png", draw_part(rng))
        part, mask = draw_part(rng), np.zeros((64, 64), dtype=np.uint8)
        part[20:32, 28:40], mask[20:32, 28:40] = 255, 255
        save(root / "disc" / "test" / "spot" / f"{number:03}.png", part)
        save(root / "disc" / "ground_truth" / "spot" / f"{number:03}_mask.png", mask)
    return root
