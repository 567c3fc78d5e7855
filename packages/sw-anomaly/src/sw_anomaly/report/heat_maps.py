"""Heat maps: score maps in colors, for people to look at."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image

TRUTH, FOUND = (0, 229, 160), (64, 200, 255)  # outlines of the true defect, of what was found; no colors of heat
STRIP = 512  # rows that are drawn at a time, so that large images take little memory
OPACITY = 0.65  # of heat over a photograph


def color(heat: np.ndarray) -> np.ndarray:
    """Heat in [0, 1], [H, W], as uint8 colors, [H, W, 3]: dark violet to light yellow."""
    levels = np.rint(255 * np.clip(heat, 0, 1)).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)


def heat(score_map: np.ndarray, threshold: float, level: float = 0.0) -> np.ndarray:
    """Turn a score map, float [H, W], into heat in [0, 1]: 0 at the level of good ones, the threshold in the middle."""
    return np.clip((score_map - level) / max(2 * (threshold - level), 1e-6), 0, 1)


def edge(mask: np.ndarray, width: int = 3) -> np.ndarray:
    """Draw a line of so many pixels around the regions of ``mask``, bool [H, W], on their outside."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    inside = mask.view(np.uint8)
    return cv2.dilate(inside, cross, iterations=width) > inside


def overlay(
    image: np.ndarray, score_map: np.ndarray, threshold: float, found: np.ndarray, level: float = 0.0
) -> np.ndarray:
    """``image``, uint8 [H, W, 3], under the heat of its score map, what was ``found``, bool [H, W], outlined."""
    mixed = np.empty_like(image)
    width = max(round(max(image.shape) / 256), 1)
    for top in range(0, len(image), STRIP):
        rows = slice(top, top + STRIP)
        warmth = heat(score_map[rows], threshold, level)
        opacity = OPACITY * np.clip(2 * warmth, 0.4, 1)[..., None]  # where nothing is found the image stays visible
        mixed[rows] = (1 - opacity) * image[rows] + opacity * color(warmth)
        start = max(top - width, 0)  # regions just outside a strip have their outlines in it
        mixed[rows][edge(found[start : top + STRIP + width], width)[top - start :][:STRIP]] = FOUND
    return mixed


def shrink(image: np.ndarray, longer_side: int) -> Image.Image:
    """``image``, uint8 [H, W, 3], scaled to a longer side of so many pixels."""
    height, width = image.shape[:2]
    scale = longer_side / max(height, width)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    return Image.fromarray(image).resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC)
