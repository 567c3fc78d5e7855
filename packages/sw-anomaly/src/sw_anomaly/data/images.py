"""Decoding images and masks, and the one scale of intensity that all images of a category are read on."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from sw_anomaly.progress import Progress, silent
from sw_models.errors import InputError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
MAX_PIXELS = 80_000_000  # of one image; a small file can hold far more, and each takes 11 bytes while it is decoded
UNREADABLE = (OSError, UnidentifiedImageError, SyntaxError, ValueError, EOFError)  # what Pillow raises
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # our limit is lower than Pillow's
cv2.utils.logging.setLogLevel(0)  # what it would print is raised; here, since images are decoded in threads
BIT_DEPTHS = (8, 10, 12, 14, 16)  # of cameras; files deeper than 8 bits hold any of them


@dataclass(frozen=True)
class Intensity:
    """What the values of image files mean, for all images of one category.

    Attributes:
        white: The value in files deeper than 8 bits that is white. None if training saw files of 8 bits only, whose
            white is always 255.
    """

    white: float | None = None

    def levels(self, image: np.ndarray) -> np.ndarray:
        """Scale an image so that black is 0 and white is 255.

        Args:
            image: What ``load_image`` gave, [H, W, 3].

        Returns:
            uint8 if training saw files of 8 bits only, else float32 with all that the file holds; brighter than white
            stays brighter than 255.

        Raises:
            InputError: If the file is deeper than what training saw, or holds values that are not finite.
        """
        if image.dtype == np.uint8:
            return image if self.white is None else image.astype(np.float32)
        if self.white is None:
            raise InputError(
                f"image: got {image.dtype} values, want 8-bit ones, the only ones with a scale from training; "
                "fit a detector to images of this depth"
            )
        if not np.isfinite(image).all():
            raise InputError("image: got values that are not finite, want numbers")
        return np.maximum(image * np.float32(255 / self.white), 0, dtype=np.float32)

    def displayed(self, image: np.ndarray) -> np.ndarray:
        """The levels of an image rounded to uint8, to be looked at."""
        return np.clip(np.rint(self.levels(image)), 0, 255).astype(np.uint8)


def learn_intensity(paths: Iterable[Path], bit_depth: int | None = None, progress: Progress = silent) -> Intensity:
    """Find the scale of the images of a category.

    Args:
        paths: The training images.
        bit_depth: Bits in use in files deeper than 8 bits, if that is known.
        progress: Told of every image.

    Returns:
        The stated scale, else that of the smallest of ``BIT_DEPTHS`` that holds every value in the images, or a white
        of 1 if all are fractions.

    Raises:
        InputError: If an image holds more than ``bit_depth`` bits, or cannot be decoded.
    """
    paths = list(paths)
    highest: float | None = None
    stated = None if bit_depth is None else float(2**bit_depth - 1)
    for number, path in enumerate(paths, start=1):
        image = load_image(path)
        if image.dtype != np.uint8:
            if not np.isfinite(image).all():
                raise InputError(f"{path}: got values that are not finite, want numbers")
            top = float(image.max())
            highest = max(highest or 0.0, top)
            if stated is not None and top > stated:
                raise InputError(f"--bit-depth: got {bit_depth}, want more: {path} holds values up to {top:g}")
            if np.issubdtype(image.dtype, np.integer):
                highest = max(highest, 2.0)  # whole numbers are no fractions, however dark the image
        progress("looking at intensities", number, len(paths))
    if highest is None or stated is not None:
        return Intensity(stated)
    if highest <= 1:
        return Intensity(1.0)
    return Intensity(next((float(2**bits - 1) for bits in BIT_DEPTHS if highest < 2**bits), highest))


def load_image(path: Path | str) -> np.ndarray:
    """Decode an image, turned as its EXIF orientation says.

    Args:
        path: A grey, palette, color or transparent image.

    Returns:
        The values in the file, [H, W, 3] in the order red, green, blue: uint8, or a wider type for deeper files.

    Raises:
        InputError: If the file cannot be decoded, or holds more than ``MAX_PIXELS`` pixels.
    """
    with _open(path) as image:
        if image.mode in ("I", "F"):  # which OpenCV does not spread over three channels
            return np.repeat(_decode(image, path)[..., None], 3, axis=2)
    content = np.fromfile(path, np.uint8)
    if _is_png(content) and not _is_whole(content):
        raise InputError(f"{path} does not decode as an image: a part of it is said to be longer than the file")
    try:
        pixels = cv2.imdecode(content, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_ANYDEPTH)
    except cv2.error as error:
        raise InputError(f"{path} does not decode as an image: {error}") from error
    if pixels is None:
        raise InputError(f"{path} does not decode as an image: it is damaged or cut short")
    return pixels


def load_mask(path: Path | str) -> np.ndarray:
    """Decode a mask, turned as its EXIF orientation says.

    Args:
        path: A mask that is white in defects. Where nothing in it is brighter than half of white its values are
            numbers of labels, and every label but 0 counts; so do all colors of a palette but black. In other color
            masks the brightest channel counts, in one that is transparent and otherwise blank the opacity.

    Returns:
        bool [H, W]: True in defects.

    Raises:
        InputError: If the file cannot be decoded, or holds more than ``MAX_PIXELS`` pixels.
    """
    with _open(path) as image:
        has_palette = image.mode == "P"
        is_deep = image.mode in ("I", "F") or image.mode.startswith("I;16")
        pixels = _decode(image, path, None if is_deep else "RGBA")
    if pixels.ndim == 2:
        white = next((white for white in (1, 255, 65535) if pixels.max(initial=0) <= white), pixels.max(initial=0))
        return _exceeds_half(pixels, white)
    color, opacity = pixels[..., :3].max(axis=2), pixels[..., 3]
    if not color.any():
        return _exceeds_half(np.where(opacity.min() < opacity, opacity, 0), 255)
    is_grey = (pixels[..., :3] == pixels[..., :1]).all()
    if has_palette and not is_grey:
        return color > 0
    return _exceeds_half(color.astype(np.uint16) * opacity, 255 * 255)


def _is_png(content: np.ndarray) -> bool:
    return content[:8].tobytes() == b"\x89PNG\r\n\x1a\n"


def _is_whole(png: np.ndarray) -> bool:
    """Whether the chunks of a PNG end where it does: OpenCV fetches the memory for a chunk before it reads it."""
    place = 8
    while place + 8 <= png.size:
        if png[place + 4 : place + 8].tobytes() == b"IEND":
            return True
        place += 12 + int.from_bytes(png[place : place + 4].tobytes(), "big")
    return False


def _open(path: Path | str) -> Image.Image:
    """Read the header of an image file; raises ``InputError`` if what it announces is too large."""
    try:
        image = Image.open(path)
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: got too many pixels, want at most {MAX_PIXELS}: {error}") from error
    except UNREADABLE as error:
        raise InputError(f"{path} does not decode as an image: {error}") from error
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise InputError(f"{path}: got {image.width} x {image.height} pixels, want at most {MAX_PIXELS} in all")
    return image


def _decode(image: Image.Image, path: Path | str, mode: str | None = None) -> np.ndarray:
    try:
        turned = ImageOps.exif_transpose(image)
        return np.array(turned if mode is None else turned.convert(mode))
    except UNREADABLE as error:
        raise InputError(f"{path} does not decode as an image: {error}") from error


def _exceeds_half(pixels: np.ndarray, white: float) -> np.ndarray:
    bright = pixels > white / 2
    return bright if bright.any() else pixels > 0
