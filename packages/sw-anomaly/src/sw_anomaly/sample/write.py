"""The embedded sample: three categories that are drawn, not photographed, in MVTec AD layout.

With it a newcomer sees the whole program work without a download. A folder written here carries the file
``SYNTHETIC.txt``, by which everything that is later printed or drawn from it is stamped as synthetic.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
from PIL import Image

from sw_anomaly.data.category import GOOD
from sw_anomaly.progress import Progress, silent
from sw_anomaly.sample.drawings import CATEGORIES
from sw_models.errors import InputError

STAMP = "SYNTHETIC.txt"
TRAIN_GOOD, TEST_GOOD, TEST_PER_DEFECT = 64, 16, 12


def write_sample(root: Path, seed: int = 0, progress: Progress = silent) -> None:
    """Write the sample to a new folder, which appears under its name only when it is complete.

    Args:
        root: The folder.
        seed: Equal seeds give equal images.
        progress: Told of each image.

    Raises:
        InputError: If it exists already.
    """
    if root.exists():
        raise InputError(f"DIR: got {root}, which is already there, want a new folder")
    plan = [
        (category, split, kind, number)
        for category, (_, defects) in CATEGORIES.items()
        for split, kind, count in (
            ("train", GOOD, TRAIN_GOOD),
            ("test", GOOD, TEST_GOOD),
            *(("test", defect, TEST_PER_DEFECT) for defect in defects),
        )
        for number in range(count)
    ]
    root.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(mkdtemp(prefix=f".{root.name}-", dir=root.parent))
    try:
        for index, (category, split, kind, number) in enumerate(plan):
            draw, defects = CATEGORIES[category]
            picture, mask = draw(defects.get(kind), np.random.default_rng([seed, index]))
            _save(partial / category / split / kind / f"{number:03}.png", picture)
            if kind != GOOD:
                _save(partial / category / "ground_truth" / kind / f"{number:03}_mask.png", mask)
            progress("drawing the synthetic sample", index + 1, len(plan))
        (partial / STAMP).write_text("Drawn by sw-anomaly; no photographs. For trying the program, not for results.\n")
        partial.chmod(0o755)
        partial.rename(root)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def is_synthetic(root: Path) -> bool:
    """Whether ``root`` is a folder that ``write_sample`` wrote."""
    return (root / STAMP).is_file()


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
