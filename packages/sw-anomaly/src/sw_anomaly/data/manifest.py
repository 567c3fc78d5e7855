"""Digests of images, and the manifest of a run: which file was used for what, so that others can check it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sw_anomaly.data.category import LabelledImage, count
from sw_anomaly.data.splits import Protocol, Split
from sw_models.errors import InputError
from sw_models.files import write_atomically
from sw_models.images import some


def digest(images: Iterable[LabelledImage]) -> str:
    """Return the SHA-256 over the contents of the image files, whatever their order and names."""
    contents = sorted(_file_digest(image.path) for image in images)
    return hashlib.sha256("".join(contents).encode()).hexdigest()


def picture_digest(image: LabelledImage) -> str:
    """Return the SHA-256 of what an image shows, the same in whatever format it is saved without loss."""
    return digest_pixels(image.pixels())


def digest_pixels(pixels: np.ndarray) -> str:
    """Return the SHA-256 of an image's size and pixels."""
    return hashlib.sha256(str(pixels.shape).encode() + pixels.tobytes()).hexdigest()


def check_unseen(test: Sequence[LabelledImage], seen: Iterable[str]) -> None:
    """Refuse test images that a detector was trained on.

    Args:
        test: The test images.
        seen: The ``picture_digest`` of every image that training used.

    Raises:
        InputError: If a test image shows the same as one of those, whatever its name and format.
    """
    known = set(seen)
    repeated = [image.path for image in test if picture_digest(image) in known]
    if repeated:
        raise InputError(
            f"test images: got {count(repeated, 'copy', 'copies')} of images that the detector was trained on: "
            f"{some(repeated)}; want images that training never saw"
        )


def write_manifest(path: Path, split: Split, protocol: Protocol, seed: int) -> None:
    """Write which files a split puts where, each with the SHA-256 of its content."""
    manifest: dict[str, Any] = {"protocol": protocol.name, "leaky": protocol.leaky, "seed": seed}
    for part in ("train", "validation", "test"):
        manifest[part] = [
            {
                "path": "/".join(image.path.parts[-4:]),
                "file": str(image.path.absolute()),
                "sha256": _file_digest(image.path),
            }
            for image in getattr(split, part)
        ]
    write_atomically(path, lambda partial: partial.write_text(json.dumps(manifest, indent=1) + "\n"))


def training_images(manifest: Path, count: int) -> list[Path]:
    """Find images that a run was trained on.

    Args:
        manifest: What ``write_manifest`` wrote, or no file.
        count: How many are wanted.

    Returns:
        So many at even distances, or fewer: those that are where they were, as they were.

    Raises:
        InputError: If the file is damaged.
    """
    if not manifest.is_file():
        return []
    try:
        held = json.loads(manifest.read_text())["train"]
        chosen = [held[number * len(held) // min(count, len(held))] for number in range(min(count, len(held)))]
        files = [(Path(one.get("file", "")), one["sha256"]) for one in chosen]  # earlier versions held no "file"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{manifest} is damaged ({error!r}); want what training wrote") from error
    return [path for path, content in files if path.is_file() and _file_digest(path) == content]


def _file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
