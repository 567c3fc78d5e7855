"""A trained model to be called with images, whatever form they have."""

from __future__ import annotations

import importlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import cv2
import numpy as np
import torch
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from numpy.typing import NDArray
from PIL import Image, ImageOps

from sw_models.errors import InputError
from sw_models.images import MAX_PIXELS
from sw_models.sources import Source, find_sources, read_source
from sw_sparse.openmmlab.checkpoint import find_checkpoint, load_model
from sw_sparse.openmmlab.config import find_run, load_config
from sw_sparse.openmmlab.loading import is_image_loader
from sw_sparse.openmmlab.task import Task
from sw_sparse.openmmlab.tiles import MIN_TILE

Result = TypeVar("Result")


class Predictor(ABC, Generic[Result]):
    """What :class:`sw_det.Detector` and :class:`sw_seg.Segmenter` share.

    Args:
        run: a run's folder, a configuration's name, or a configuration file.
        checkpoint: weights of the whole model; None for the run's best.
        device: such as "cpu" or "cuda:1"; None for the GPU if there is any.
        tile: pixels; images that are larger are seen in overlapping tiles of this size, see :mod:`.tiles`.
        model: one that was loaded already, instead of all these.

    Raises:
        sw_models.errors.InputError: there is no such run, or its checkpoint does not fit.
    """

    task: ClassVar[Task]

    def __init__(
        self,
        run: str | os.PathLike[str] | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        device: str | None = None,
        *,
        tile: int | None = None,
        model: Any = None,
    ) -> None:
        if tile is not None and tile < MIN_TILE:
            raise InputError(f"tile: got {tile}, want {MIN_TILE} pixels or more")
        self.tile = tile
        if model is None:
            weights = None if checkpoint is None else Path(checkpoint)
            config, folder = find_run(self.task, None if run is None else os.fspath(run), weights)
            model = load_model(load_config(self.task, config), weights or find_checkpoint(folder), device)
        self.model = model
        self.classes: tuple[str, ...] = self._classes()
        init_default_scope(model.cfg.get("default_scope") or self._scope)
        steps = [step for step in model.cfg.test_dataloader.dataset.pipeline if step["type"] != "LoadAnnotations"]
        from_array = {"type": f"{self._scope}.LoadImageFromNDArray"}
        self._pipeline = Compose([from_array if is_image_loader(step) else step for step in steps])
        options = model.cfg.get("data_options") or {}
        self._max_pixels = int(options.get("max_pixels", MAX_PIXELS))

    _scope: ClassVar[str]

    def __call__(self, images: Any) -> Any:
        """Look at images.

        Args:
            images: a path, a NumPy array ``[H, W]`` or ``[H, W, 3]``, uint8, RGB, or a PIL image; or a folder, a video,
                a pattern such as ``parts/*.png``, or a list of any of these.

        Returns:
            A result for one image; a list of results for a folder, a video, a pattern or a list.

        Raises:
            sw_models.errors.InputError: an image cannot be read; see :meth:`stream` to go on after it.
        """
        if isinstance(images, np.ndarray | Image.Image):
            return self.predict(images)
        one = isinstance(images, str | os.PathLike) and _is_one_image(Path(images))
        results = []
        for _, found in self.stream([images] if isinstance(images, str | os.PathLike) else images):
            if isinstance(found, InputError):
                raise found
            results.append(found)
        return results[0] if one else results

    def stream(self, images: Iterable[Any]) -> Iterator[tuple[Path, Result | InputError]]:
        """Look at images one after the other, so that none but the present one is in memory.

        Args:
            images: paths, folders, videos, patterns, sources, arrays or PIL images.

        Yields:
            A name, which is different for each image of a path, and the result, or the error of what cannot be read.
        """
        for number, image in enumerate(images):
            if isinstance(image, np.ndarray | Image.Image):
                yield Path(f"{number:06}"), self.predict(image)
                continue
            sources = [image] if isinstance(image, Source) else find_sources([os.fspath(image)])
            for source in sources:
                try:
                    for name, array in read_source(source, self._max_pixels):
                        yield name, self.predict(array)
                except InputError as error:
                    yield source.name, error

    def predict(self, image: NDArray[np.uint8] | Image.Image) -> Result:
        """Look at one image: an array ``[H, W]`` or ``[H, W, 3]``, uint8, RGB, or a PIL image.

        Raises:
            sw_models.errors.InputError: the array is of another kind, or far too narrow.
        """
        array = _rgb(image)
        if self.tile is not None and max(array.shape[:2]) > self.tile:
            return self._predict_tiles(array, self.tile)
        return self._predict_whole(array)

    def _predict_whole(self, array: NDArray[np.uint8]) -> Result:
        try:
            sample = self._pipeline({"img": np.ascontiguousarray(array[..., ::-1]), "img_id": 0})  # OpenMMLab wants BGR
        except cv2.error as error:  # such as nothing left of a side
            height, width = array.shape[:2]
            raise InputError(f"image: got {width}x{height}, which cannot be scaled to what the model sees") from error
        with torch.no_grad():
            batch = {"inputs": [sample["inputs"]], "data_samples": [sample["data_samples"]]}
            (found,) = self.model.test_step(batch)
        return self._result(array, found)

    @abstractmethod
    def _predict_tiles(self, image: NDArray[np.uint8], side: int) -> Result: ...

    @abstractmethod
    def _classes(self) -> tuple[str, ...]: ...

    @abstractmethod
    def _result(self, image: NDArray[np.uint8], found: Any) -> Result: ...


def import_supervision(package: str) -> Any:
    """Return the module ``supervision``.

    Raises:
        sw_models.errors.InputError: it is not installed.
    """
    try:
        return importlib.import_module("supervision")
    except ModuleNotFoundError as error:
        raise InputError(f"to_supervision: wants supervision; pip install '{package}[supervision]'") from error


def _is_one_image(path: Path) -> bool:
    return path.is_file() and not Source(path, path).is_video


def _rgb(image: NDArray[np.uint8] | Image.Image) -> NDArray[np.uint8]:
    if isinstance(image, Image.Image):
        image = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)) or not image.size:
        raise InputError(f"image: got {image.dtype} {list(image.shape)}, want uint8 [H, W] or [H, W, 3]")
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image
