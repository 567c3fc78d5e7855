"""Decoding images and masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import ImageOps

from sw_models.errors import InputError
from sw_models.images import MAX_PIXELS, UNREADABLE, open_image
from sw_models.sources import read_image


def load_image(path: Path | str, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode an image, turned as its EXIF orientation says.

    Args:
        path: A grey, palette, color or transparent image.
        max_pixels: The largest image that is decoded.

    Returns:
        The values in the file, [H, W, 3] in the order red, green, blue: uint8, or a wider type for deeper files.

    Raises:
        InputError: If the file cannot be decoded, or holds more than ``max_pixels`` pixels.
    """
    return read_image(Path(path), max_pixels, any_depth=True)


def load_mask(path: Path | str, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode a mask, turned as its EXIF orientation says.

    Args:
        path: A mask that is white in defects. Where nothing in it is brighter than half of white its values are
            numbers of labels, and every label but 0 counts; so do all colors of a palette but black. In other color
            masks the brightest channel counts, in one that is transparent and otherwise blank the opacity.
        max_pixels: The largest mask that is decoded.

    Returns:
        bool [H, W]: True in defects.

    Raises:
        InputError: If the file cannot be decoded, or holds more than ``max_pixels`` pixels.
    """
    try:
        with open_image(Path(path), max_pixels) as image:
            has_palette = image.mode == "P"
            is_deep = image.mode in ("I", "F") or image.mode.startswith("I;16")
            turned = ImageOps.exif_transpose(image)
            pixels = np.array(turned if is_deep else turned.convert("RGBA"))
    except UNREADABLE as error:
        raise InputError(f"{path} cannot be read as an image ({error})") from error
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


def _exceeds_half(pixels: np.ndarray, white: float) -> np.ndarray:
    bright = pixels > white / 2
    return bright if bright.any() else pixels > 0
