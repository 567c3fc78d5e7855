import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner


def pytest_addoption(parser):
    parser.addoption("--ade", default=os.environ.get("SW_ADE"), help="photographs in ADE20K's layout, for slow tests")


@pytest.fixture(scope="session")
def photographs(pytestconfig):
    folder = pytestconfig.getoption("--ade")
    if not folder:
        pytest.skip("wants a folder of photographs in ADE20K's layout: --ade DIR or SW_ADE=DIR")
    return Path(folder)


# A segmenter that is built and run in a moment.
SMALL = (
    "model.backbone.model=shiftwise_pico",
    "model.backbone.depths=(1, 1, 1, 1)",
    "model.backbone.dims=(4, 8, 16, 32)",
    "model.decode_head.in_channels=[4, 8, 16, 32]",
    "model.decode_head.channels=8",
    "model.auxiliary_head.in_channels=16",
    "model.auxiliary_head.channels=4",
)


def options(*more):
    """Return the command line's options for the small segmenter, and more."""
    return [part for option in (*SMALL, *more) for part in ("--cfg-options", option)]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a command in a folder of its own; return (exit status, JSON or text of the output, error output)."""
    from sw_seg.cli import app

    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        output = json.loads(result.stdout) if "--json" in arguments and result.stdout else result.stdout
        return result.exit_code, output, result.stderr

    return run


def write_pair(folder, maps, split, name, labels):
    """Write an image of noise and its label map into a data folder."""
    image_path, label_path = folder / "images" / split / f"{name}.jpg", folder / maps / split / f"{name}.png"
    for path in (image_path, label_path):
        path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 256, (*labels.shape, 3), dtype=np.uint8)
    Image.fromarray(noise).save(image_path)
    Image.fromarray(labels.astype(np.uint8)).save(label_path)


@pytest.fixture
def ade_folder(tmp_path):
    """A data folder in ADE20K's layout: two classes, 1 and 2, and 0 for none; left half, right half, a corner of 0."""
    labels = np.ones((48, 64))
    labels[:, 32:] = 2
    labels[:8, :8] = 0
    for split, count in (("training", 3), ("validation", 2)):
        for i in range(count):
            write_pair(tmp_path / "data", "annotations", split, f"{i}", labels)
    return tmp_path / "data"
