"""Heat maps: score maps in colors, for people to look at."""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy import ndimage

STOPS = np.array(  # colors of the heat map from 0 to 1, dark violet to light yellow
    [(13, 8, 65), (84, 15, 109), (158, 42, 99), (220, 80, 57), (249, 142, 9), (252, 206, 60), (252, 255, 200)]
)
HEAT = np.stack(  # and the 256 between them
    [np.interp(np.linspace(0, 1, 256), np.linspace(0, 1, len(STOPS)), channel) for channel in STOPS.T], axis=1
).astype(np.uint8)
TRUTH, FOUND = (0, 229, 160), (64, 200, 255)  # outlines of the true defect, of what was found; no colors of heat
OPACITY = 0.65  # of heat over a photograph


def color(heat: np.ndarray) -> np.ndarray:
    """Heat in [0, 1], of any shape, as uint8 colors with one more axis of 3."""
    return HEAT[np.rint(255 * np.clip(heat, 0, 1)).astype(np.uint8)]


def heat(score_map: np.ndarray, threshold: float) -> np.ndarray:
    """A score map, float [H, W], as heat in [0, 1] with the threshold in the middle."""
    return np.clip(score_map / max(2 * threshold, 1e-6), 0, 1)


def edge(mask: np.ndarray, width: int = 3) -> np.ndarray:
    """A line of so many pixels around the regions of ``mask``, bool [H, W], on their outside."""
    return ndimage.binary_dilation(mask, iterations=width) & ~mask


def overlay(image: np.ndarray, score_map: np.ndarray, threshold: float) -> np.ndarray:
    """``image``, uint8 [H, W, 3], under the heat of its score map, with an outline of what reaches the threshold."""
    warmth = heat(score_map, threshold)
    opacity = OPACITY * np.clip(2 * warmth, 0.4, 1)[..., None]  # where nothing is found the image stays visible
    mixed = (1 - opacity) * image + opacity * color(warmth)
    width = max(round(max(image.shape) / 256), 1)
    line = edge(score_map >= threshold, width)
    return np.where(line[..., None], np.array(FOUND, dtype=np.uint8), mixed.astype(np.uint8))


def shrink(image: np.ndarray, longer_side: int) -> Image.Image:
    """``image``, uint8 [H, W, 3], scaled to a longer side of so many pixels."""
    height, width = image.shape[:2]
    scale = longer_side / max(height, width)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    return Image.fromarray(image).resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC)
