"""Folders of class folders of images."""

from __future__ import annotations

import collections
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from timm.data.readers.reader_image_folder import find_images_and_targets
from torch.utils.data import Dataset

from sw_models.errors import InputError
from sw_sparse.trainer.images import IMAGE_SUFFIXES, to_rgb

SPLIT_NAMES = (("train", "training"), ("validation", "val", "valid", "eval", "evaluation"), ("test",))
"""Names that stand for the same split, as in timm."""


def names_of(split: str) -> tuple[str, ...]:
    """Return the names that a split may go by on the disk, its own first."""
    others = next((names for names in SPLIT_NAMES if split in names), ())
    return (split, *(name for name in others if name != split))


def find_split(folder: Path, split: str) -> Path:
    """Return the folder of a split; ``.`` is the folder itself.

    Raises:
        InputError: naming the split, the folder and what is in it.
    """
    if not folder.is_dir():
        raise InputError(f"data_dir: cannot open {split!r} of 'folder' at {folder}: no such folder")
    inside = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    for name in names_of(split):
        if name in inside or name == ".":
            return folder / name
    found = ", ".join(inside[:5]) + (f" and {len(inside) - 5} more" if len(inside) > 5 else "")
    raise InputError(
        f"data_dir: {folder} has no folder {' or '.join(map(repr, names_of(split)))} for the split {split!r}, "
        f"it has {found or 'none'} (the split '.' is the folder itself)"
    )


class ImageFolder(Dataset):
    """The images of a folder's class folders, named and ordered as timm's reader has them.

    Attributes:
        class_to_idx: the number of each class.
        left_out: how many files are no part of it, by reason.

    Raises:
        InputError: where no class folder holds an image.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        found, numbers = find_images_and_targets(str(folder), types=IMAGE_SUFFIXES)
        loose = numbers.get("")  # the name that images outside any class folder get, and the first
        inside = [(path, label - (loose is not None)) for path, label in found if label != loose]
        self.left_out = _left_out(folder, len(found) - len(inside))
        if not inside:
            raise InputError(f"data_dir: {folder} holds no class folders with images ({_told(self.left_out)})")
        self.class_to_idx = {name: i for i, name in enumerate(sorted(filter(None, numbers), key=numbers.__getitem__))}
        self.files = [os.path.relpath(path, folder) for path, _ in inside]
        self.labels = [label for _, label in inside]
        self.transform: Callable[[Image.Image], Any] | None = None
        self.target_transform: Callable[[int], int] | None = None

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        path = self.folder / self.files[index]
        try:
            with Image.open(path) as file:
                image = to_rgb(file)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise InputError(f"{path}: no image that can be read ({error})") from error
        label = self.labels[index]
        label = self.target_transform(label) if self.target_transform else label
        return self.transform(image) if self.transform else image, label


def describe_left_out(dataset: Any, split: str) -> str | None:
    """Return a line on the files that a split leaves out, or None where there are none."""
    left_out = getattr(dataset, "left_out", None)
    return f"{split}: {sum(left_out.values())} files left out: {_told(left_out)}" if left_out else None


def _left_out(folder: Path, loose: int) -> dict[str, int]:
    suffixes = collections.Counter(
        Path(name).suffix.lower() for _, _, names in os.walk(folder, followlinks=True) for name in names
    )
    other = {
        f"{suffix or 'without a suffix'} (no image suffix)": count
        for suffix, count in suffixes.most_common()
        if suffix not in IMAGE_SUFFIXES
    }
    return other | ({"images outside the class folders": loose} if loose else {})


def _told(left_out: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "it is empty"
