"""Opening images as 8-bit RGB, whatever they were stored as."""

from __future__ import annotations

import numpy as np
from PIL import Image

from sw_models.errors import InputError

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def to_rgb(image: Image.Image) -> Image.Image:
    """Return an image as RGB; 16-bit grey is scaled to 8 bits, where Pillow itself would clip it to white.

    Raises:
        InputError: for pixels whose range nothing tells: 32-bit integers and floating-point numbers.
    """
    # Pillow before 11 opens 16-bit PNG and PGM as 32-bit integers.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return Image.fromarray(np.round(np.asarray(image) / 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise InputError(f"images: got pixels of mode {image.mode!r} (32 bits), want 8 or 16 bits")
    return image.convert("RGB")
