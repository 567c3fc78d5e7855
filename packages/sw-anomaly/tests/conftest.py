"""A tiny category in MVTec AD layout, for every test that needs files, and commands that run on it in a second."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from scipy import ndimage
from typer.testing import CliRunner

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


NAIL_LENGTH = 90


def draw_nail(angle, row=80.0, column=80.0, ground=210, size=160, shadow=0.0, mark=None):
    """A dark nail, its head towards ``angle``, centred at a place, uint8 [size, size, 3]."""
    rows, columns = np.mgrid[:size, :size].astype(float)
    along = (rows - row) * np.sin(angle) + (columns - column) * np.cos(angle)
    across = (columns - column) * np.sin(angle) - (rows - row) * np.cos(angle)
    outside = np.where(along > NAIL_LENGTH / 2 - 12, np.abs(across) - 20, np.abs(across) - 6)
    outside = np.maximum(outside, np.abs(along) - NAIL_LENGTH / 2)
    picture = ground - 140 * np.clip(0.5 - outside, 0, 1)
    if mark is not None:
        picture = np.where(np.hypot(along - mark[0], across - mark[1]) < 3, 255, picture)
    dark = shadow * np.exp(-((np.hypot(along - 60, across) / 25) ** 2)) * (outside > 0)
    grain = np.random.default_rng(0).normal(0, 2, (size, size))
    return np.clip(np.repeat((picture - dark + grain)[..., None], 3, axis=2), 0, 255).astype(np.uint8)


def draw_nails(angles):
    """Nails that lie at these angles, not quite in the middle."""
    return [draw_nail(angle, 80 + number % 5, 80 - number % 3) for number, angle in enumerate(angles)]


def draw_textures(count, size, rng):
    """Grains of two sizes without any order: no place differs from another, the border included."""
    grain = [ndimage.gaussian_filter(rng.normal(size=(count, size, size)), (0, width, width)) for width in (1, 3)]
    levels = 128 + sum(25 * one / one.std() for one in grain)
    return np.repeat(np.clip(levels, 0, 255).astype(np.uint8)[..., None], 3, axis=3)


@pytest.fixture(autouse=True)
def _memory_of_its_own(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def tiny_root(tmp_path):
    """``disc``: six good training images; in test two good ones and two with a white ``spot``."""
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


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs a command in a working directory of its own; trainings with default settings take a second."""
    from sw_anomaly import config
    from sw_anomaly.cli import app

    class Quick(config.TrainingConfig):
        def __init__(self, category, training_images, image_size, **given):
            quick = {"epochs": 1, "steps_per_epoch": 2, "batch_size": 4, "threads": 1}
            super().__init__(category, training_images, 64, **{**given, **quick})

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(config, "TrainingConfig", Quick)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def refusal(result):
    """The one line with which a command refused."""
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("sw-anomaly: ")]
    assert len(lines) == 1
    assert "Traceback" not in result.output
    return lines[0]


@st.composite
def scored_masks(draw, most_levels=50):
    """A few small maps with few distinct values (so that many tie) and masks that are neither empty nor full."""
    size = (draw(st.integers(1, 3)), draw(st.integers(2, 9)), draw(st.integers(2, 9)))
    levels = draw(st.sampled_from([level for level in (1, 3, 50) if level <= most_levels]))
    maps = draw(hnp.arrays(np.float32, size, elements=st.integers(0, levels).map(float)))
    masks = draw(hnp.arrays(bool, size))
    masks[0, 0, 0], masks[-1, -1, -1] = True, False
    return list(maps), list(masks)


@pytest.fixture(scope="session")
def exporter():
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="the extra sw-anomaly[onnx] is not installed")
