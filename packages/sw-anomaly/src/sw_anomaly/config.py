"""What a training is asked for, and the files of a run's folder that say how far it came."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

CONFIG, CHECKPOINT = "config.json", "checkpoint.safetensors"


@dataclass(frozen=True)
class TrainingConfig:
    """What is fitted and how; the last ones are for the training of a U-Net alone.

    An epoch is ``steps_per_epoch`` batches, however many images the category has.
    """

    category: str
    training_images: str  # digest of the category's good training images, see `manifest.digest`
    image_size: int
    method: str = "auto"
    model: str = "swnano"  # of the U-Net
    backbone: str | None = None  # of PatchCore, None for `default_backbone`
    weights: str | None = None  # file with weights of the backbone
    align: str = "auto"
    bit_depth: int | None = None  # bits in use in files deeper than 8 bits, None to learn them from the images
    tile: str = "auto"
    smallest_defect: int = 10  # pixels across, in the image as it is
    false_alarms: float | None = None  # the rate that thresholds keep, None for those in balance
    protocol: str = "unsupervised"
    defects: int = 0
    known_type: str | None = None
    seed: int = 0
    threads: int = 2  # of training, which amplifies that another number rounds sums differently
    epochs: int = 8
    steps_per_epoch: int = 128
    batch_size: int = 8
    learning_rate: float = 4e-3
    weight_decay: float = 1e-2
    ema_decay: float = 0.99


def read_config(folder: Path) -> TrainingConfig | None:
    """Return the configuration that ``fit`` wrote to a folder; None if there is none that this version understands."""
    try:
        return TrainingConfig(**json.loads((folder / CONFIG).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def is_unfinished(folder: Path) -> bool:
    """Whether ``fit`` was interrupted in this folder."""
    return (folder / CONFIG).is_file() and not (folder / CHECKPOINT).is_file()
