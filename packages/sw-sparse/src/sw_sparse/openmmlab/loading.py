"""How image files are read: by one loader, everywhere, that turns each as its EXIF orientation says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS

from sw_models.images import MAX_PIXELS
from sw_models.sources import read_image


@TRANSFORMS.register_module()
class LoadUprightImage(BaseTransform):
    """Loads the image that a person sees. MMCV's loader leaves TIFF files and others to the version of its decoder.

    Args:
        max_pixels: an image of more is not decoded.
        to_float32: return float32 instead of uint8.
    """

    def __init__(self, max_pixels: int = MAX_PIXELS, to_float32: bool = False) -> None:
        self.max_pixels, self.to_float32 = max_pixels, to_float32

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add "img", ``[H, W, 3]``, BGR as OpenMMLab has it, and its shape to a sample with "img_path".

        Raises:
            sw_models.errors.InputError: the file cannot be decoded.
        """
        image = np.ascontiguousarray(read_image(Path(results["img_path"]), self.max_pixels)[..., ::-1])
        results["img"] = image.astype(np.float32) if self.to_float32 else image
        results["img_shape"] = results["ori_shape"] = image.shape[:2]
        return results


def with_upright_images(pipeline: Any, max_pixels: int = MAX_PIXELS) -> Any:
    """Return a pipeline in which files are loaded by :class:`LoadUprightImage`, unless MMCV's loader is told more.

    Args:
        pipeline: transforms as configurations name them, at any depth; built ones are left alone.
        max_pixels: of an image.
    """
    if isinstance(pipeline, dict):
        told = {key for key, value in pipeline.items() if value not in (None, False)}
        if is_image_loader(pipeline) and told <= {"type", "to_float32"}:
            loader = {"type": "mmengine.LoadUprightImage", "max_pixels": max_pixels}
            return {**loader, "to_float32": True} if pipeline.get("to_float32") else loader
        return {key: with_upright_images(value, max_pixels) for key, value in pipeline.items()}
    if isinstance(pipeline, list | tuple):
        return type(pipeline)(with_upright_images(item, max_pixels) for item in pipeline)
    return pipeline


def is_image_loader(step: Mapping[str, Any]) -> bool:
    """Whether a transform reads image files."""
    return str(step.get("type", "")).rpartition(".")[2] in ("LoadImageFromFile", "LoadUprightImage")
