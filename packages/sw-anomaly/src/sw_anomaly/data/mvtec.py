"""Reading the MVTec AD folder layout.

Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021:

    <root>/<category>/train/good/*                   good parts, all that training may see
    <root>/<category>/test/good/*                    good parts
    <root>/<category>/test/<defect>/*                defective parts, one folder per type
    <root>/<category>/ground_truth/<defect>/*_mask.* what is defective in them

Files are listed by name, so that the order is the same on every file system. Everything is checked
while listing that can be checked without decoding images; decoding errors name the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from sw_models.errors import InputError

GOOD = "good"
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
NAMED_AT_MOST = 5  # files in one message


@dataclass(frozen=True)
class LabelledImage:
    """An image file, its kind (``good`` or the name of its defect type) and the file of its mask, if it has one."""

    path: Path
    kind: str
    mask_path: Path | None = None

    @property
    def is_good(self) -> bool:
        """Whether the part is free of defects."""
        return self.kind == GOOD

    def load(self) -> tuple[np.ndarray, np.ndarray]:
        """The image, uint8 [H, W, 3], and its mask, bool [H, W] (all False without a mask file)."""
        image = load_image(self.path)
        if self.mask_path is None:
            return image, np.zeros(image.shape[:2], dtype=bool)
        mask = load_mask(self.mask_path)
        if mask.shape != image.shape[:2]:
            raise InputError(
                f"mask {self.mask_path} is {_size(mask)}, but its image {self.path.name} is {_size(image)}: "
                "they must be of one size"
            )
        return image, mask


@dataclass(frozen=True)
class Category:
    """One category of a data set: its good training images, and its test images if it has any."""

    name: str
    train: tuple[LabelledImage, ...]
    test: tuple[LabelledImage, ...]


def read_category(root: Path, name: str) -> Category:
    """List the category ``name`` below ``root``; raises ``InputError`` if the layout is not as in the module's text."""
    folder = root / name
    if not folder.is_dir():
        present = ", ".join(list_categories(root)) or "none in MVTec AD layout"
        raise InputError(f"category {name!r} is not in {root}; categories there: {present}")
    train = [LabelledImage(path, GOOD) for path in _list_images(folder / "train" / GOOD)]
    test = [
        LabelledImage(path, kind.name, None if kind.name == GOOD else _find_mask(folder, kind.name, path))
        for kind in (_list_folders(folder / "test") if (folder / "test").exists() else [])
        for path in _list_images(kind)
    ]
    without_mask = [str(image.path) for image in test if not image.is_good and image.mask_path is None]
    if without_mask:
        named = ", ".join(without_mask[:NAMED_AT_MOST]) + (", ..." if len(without_mask) > NAMED_AT_MOST else "")
        raise InputError(
            f"{len(without_mask)} defective images have no mask: {named}; "
            f"{folder / 'ground_truth'}/<defect>/<image>_mask.png is wanted for each"
        )
    if len(train) < 2:
        raise InputError(f"{folder / 'train' / GOOD} holds {len(train)} images, at least 2 are needed")
    return Category(name, tuple(train), tuple(test))


def list_categories(root: Path) -> list[str]:
    """Names of the folders below ``root`` that have a ``train/good`` folder, sorted."""
    return [folder.name for folder in _list_folders(root) if (folder / "train" / GOOD).is_dir()]


def load_image(path: Path) -> np.ndarray:
    """Decode an image file to uint8 [H, W, 3]; grey, palette, 16-bit and transparent ones included."""
    pixels = _decode(path)
    if pixels.dtype == np.uint8:
        return pixels
    depth = 65535 if pixels.max(initial=0) > 255 else 255
    grey = np.clip(np.rint(pixels.astype(np.float64) * (255 / depth)), 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def load_mask(path: Path) -> np.ndarray:
    """Decode a mask file to bool [H, W]: True where it is brighter than half of white.

    In a mask where nothing is that bright the values are numbers of labels, and every label but 0 counts; so do all
    colours of a palette but black. In other colour masks the brightest channel counts, in one that is transparent and
    otherwise blank the opacity.
    """
    pixels = _decode(path, keep_opacity=True)
    if pixels.ndim == 2:
        white = next((white for white in (1, 255, 65535) if pixels.max(initial=0) <= white), pixels.max(initial=0))
        return _exceeds_half(pixels, white)
    colour, opacity = pixels[..., :3].max(axis=2), pixels[..., 3]
    if not colour.any():
        return _exceeds_half(np.where(opacity.min() < opacity, opacity, 0), 255)
    is_grey = (pixels[..., :3] == pixels[..., :1]).all()
    if _has_palette(path) and not is_grey:
        return colour > 0
    return _exceeds_half(colour * (opacity / 255), 255)


def _exceeds_half(pixels: np.ndarray, white: float) -> np.ndarray:
    bright = pixels > white / 2
    return bright if bright.any() else pixels > 0


def _has_palette(path: Path) -> bool:
    with Image.open(path) as image:
        return image.mode == "P"


def _decode(path: Path, keep_opacity: bool = False) -> np.ndarray:
    """uint8 [H, W, 3] (or 4), or [H, W] of a wider type for 16-bit, 32-bit and floating-point files."""
    try:
        with Image.open(path) as image:
            if image.mode in ("I", "F") or image.mode.startswith("I;16"):
                return np.array(image)
            return np.array(image.convert("RGBA" if keep_opacity else "RGB"))
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} does not decode as an image: {error}") from error


def _list_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; the layout <root>/<category>/train/good, test/<defect> is wanted")
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _list_images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; the layout <root>/<category>/train/good, test/<defect> is wanted")
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))


def _find_mask(category: Path, kind: str, image: Path) -> Path | None:
    folder = category / "ground_truth" / kind
    names = {f"{image.stem}_mask".lower(), image.stem.lower()}
    masks = [path for path in _list_images(folder) if path.stem.lower() in names] if folder.is_dir() else []
    return masks[-1] if masks else None


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]}"
