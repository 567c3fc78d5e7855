from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle
from typer.testing import CliRunner

import sw_det


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--coco", default=os.environ.get("SW_COCO"), help="a COCO folder of photographs, for slow tests")


CONFIGS = Path(sw_det.__file__).parent / "configs"

# A detector that is built and run in a moment, and what it takes to see it learn nothing.
SMALL = (
    "model.backbone.model=shiftwise_pico",
    "model.backbone.depths=(1, 1, 1, 1)",
    "model.backbone.dims=(4, 8, 16, 32)",
    "model.neck.in_channels=[4, 8, 16, 32]",
    "model.neck.out_channels=8",
    "model.rpn_head.in_channels=8",
    "model.rpn_head.feat_channels=8",
    "model.roi_head.bbox_roi_extractor.out_channels=8",
    "model.roi_head.bbox_head.in_channels=8",
    "model.roi_head.bbox_head.fc_out_channels=16",
    "model.roi_head.mask_roi_extractor.out_channels=8",
    "model.roi_head.mask_head.in_channels=8",
    "model.roi_head.mask_head.conv_out_channels=8",
    "train_dataloader.batch_size=2",
    "train_cfg.max_epochs=2",
    "train_cfg.val_interval=1",
)


SMALL_RTMDET = (
    *(option for option in SMALL if ".backbone." in option or option.startswith("train")),
    "model.neck.in_channels=[8, 16, 32]",
    "model.neck.out_channels=8",
    "model.bbox_head.in_channels=8",
    "model.bbox_head.feat_channels=8",
    "train_dataloader.num_workers=0",
    "train_dataloader.persistent_workers=False",
    "val_dataloader.num_workers=0",
    "val_dataloader.persistent_workers=False",
)


def options(*more: str) -> list[str]:
    """Return the command line's options for the small detector, and more."""
    return [part for option in (*SMALL, *more) for part in ("--cfg-options", option)]


def load(name: str) -> Any:
    """Return a shipped configuration, as mmdet's own programs read it."""
    from mmengine.config import Config

    return Config.fromfile(CONFIGS / f"{name}.py")


def build(name: str) -> Any:
    """Return the detector of a shipped configuration, with random weights."""
    cfg = load(name)
    from mmdet.registry import MODELS
    from mmengine.registry import init_default_scope

    init_default_scope("mmdet")
    return MODELS.build(cfg.model)


@pytest.fixture(scope="session")
def photographs(pytestconfig: pytest.Config) -> Path:
    folder = pytestconfig.getoption("--coco")
    if not folder:
        pytest.skip("wants a COCO folder of photographs: --coco DIR or SW_COCO=DIR")
    return Path(folder)


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from sw_det.sample import write_sample

    folder = tmp_path_factory.mktemp("sample") / "shapes"
    write_sample(folder)
    return folder


@pytest.fixture(scope="session")
def few(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A COCO folder with the first four training images of the sample, and its first two for validation."""
    folder = tmp_path_factory.mktemp("few")
    (folder / "annotations").mkdir()
    for split, count in (("train", 4), ("val", 2)):
        (folder / split).symlink_to(sample / split)
        content = json.loads((sample / f"annotations/instances_{split}.json").read_text())
        content["images"] = content["images"][:count]
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] <= count]
        (folder / f"annotations/instances_{split}.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, Any, str]]:
    """Run a command in a folder of its own; return (exit status, JSON or text of the output, error output)."""
    from sw_det.cli import app

    monkeypatch.chdir(tmp_path)

    def run(*arguments: Any) -> tuple[int, Any, str]:
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        output = json.loads(result.stdout) if "--json" in arguments and result.stdout else result.stdout
        return result.exit_code, output, result.stderr

    return run


def annotations(**changes: Any) -> dict[str, Any]:
    """Return a COCO annotation file's content: one image, two categories whose numbers leave a gap, two objects."""
    box = {"bbox": [4, 4, 16, 8], "area": 128, "iscrowd": 0, "segmentation": [[4, 4, 20, 4, 20, 12, 4, 12]]}
    content = {
        "images": [{"id": 7, "file_name": "a.png", "width": 48, "height": 32}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 3, **box},
            {"id": 2, "image_id": 7, "category_id": 8, **box},
        ],
        "categories": [{"id": 3, "name": "screw"}, {"id": 8, "name": "nut"}],
    }
    return {**content, **changes}


def run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """Return what pycocotools makes of a mask ``[height, width]``, in a form that JSON can hold."""
    encoded = rle.encode(np.asfortranarray(mask != 0, dtype=np.uint8))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def write_coco(folder: Path, train: Any = None, val: Any = None) -> Path:
    """Write a COCO folder whose annotation files hold what is given; every image is the same."""
    (folder / "annotations").mkdir(parents=True)
    for split, content in (("train", train), ("val", val)):
        content = annotations() if content is None else content
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / "annotations" / f"instances_{split}.json").write_text(text)
        (folder / split).mkdir()
        Image.fromarray(np.zeros((32, 48, 3), dtype=np.uint8)).save(folder / split / "a.png")
    return folder
