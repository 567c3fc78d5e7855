"""Data folders in MMSegmentation's registry, and configurations that are adapted to them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS, TRANSFORMS

from sw_models.errors import InputError
from sw_models.images import MAX_PIXELS
from sw_seg.folder import SegFolder, read_folder
from sw_seg.labels import IGNORED, read_values
from sw_sparse.openmmlab.data_report import DataReport
from sw_sparse.openmmlab.loading import with_upright_images


@DATASETS.register_module()
class SegFolderDataset(BaseSegDataset):
    """One split of a data folder.

    Args:
        data_root: the folder.
        split: "training", "validation" or "test".
        maps: its subfolder with the label maps, see :class:`.folder.SegFolder`.
        metainfo: "classes" and "palette".
        values: of each class's pixels in the label maps; None as runs of version 0.1.0 have it: from 1 in
            "annotations", else from 0.
        max_pixels: of an image or a label map.
        **kwargs: of MMSegmentation's ``BaseSegDataset``.
    """

    def __init__(
        self,
        data_root: str,
        split: str,
        maps: str,
        metainfo: dict[str, Any],
        values: Sequence[int] | None = None,
        max_pixels: int = MAX_PIXELS,
        **kwargs: Any,
    ) -> None:
        classes = tuple(metainfo["classes"])
        first = 1 if maps == "annotations" else 0
        self.values = list(range(first, first + len(classes)) if values is None else values)
        self.folder = SegFolder(Path(data_root), maps, classes, tuple(self.values))
        self.split = split
        self.max_pixels = max_pixels
        kwargs["pipeline"] = _with_own_labels(with_upright_images(kwargs.get("pipeline", []), max_pixels))
        metainfo = {**metainfo, "values": self.values}  # for label maps that are predicted
        super().__init__(metainfo=metainfo, reduce_zero_label=self.folder.zero_is_ignored, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the images and label maps."""
        return [
            {
                "img_path": str(image),
                "seg_map_path": str(label),
                "label_map": self.label_map,
                "label_values": self.values,
                "max_pixels": self.max_pixels,
                "reduce_zero_label": self.reduce_zero_label,
                "seg_fields": [],
            }
            for image, label in self.folder.pairs(self.split)
        ]


@TRANSFORMS.register_module()
class LoadLabels(BaseTransform):
    """Loads a label map, upright, as indices of classes; a pixel of no class is 255."""

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add "gt_seg_map" to an image with "seg_map_path" and "label_values".

        Raises:
            InputError: the label map is not of the size of the image.
        """
        pixels = read_values(Path(results["seg_map_path"]), results.get("max_pixels", MAX_PIXELS))
        if pixels.shape != tuple(results["ori_shape"][:2]):
            raise InputError(f"{results['seg_map_path']} is not of the size of {results['img_path']}")
        labels = np.full(pixels.shape, IGNORED, dtype=np.uint8)
        for index, value in enumerate(results["label_values"]):
            labels[pixels == value] = index
        results["gt_seg_map"] = labels
        results["seg_fields"].append("gt_seg_map")
        return results


def _with_own_labels(part: Any) -> Any:
    """Return a pipeline in which label maps are loaded by :class:`LoadLabels`."""
    if isinstance(part, dict):
        if part.get("type") == "LoadAnnotations":
            return {"type": "LoadLabels"}
        return {key: _with_own_labels(value) for key, value in part.items()}
    return [_with_own_labels(item) for item in part] if isinstance(part, list) else part


def adapt_to_data(cfg: Any, path: Path) -> DataReport:
    """Let a configuration's data loaders read a data folder, and give its heads the folder's classes.

    Raises:
        sw_models.errors.InputError: the folder is not as wanted.
    """
    options = cfg.get("data_options") or {}
    folder = read_folder(path, options)
    metainfo = {"classes": list(folder.classes), "palette": [list(color) for color in folder.palette]}
    splits = {"train_dataloader": "training", "val_dataloader": "validation", "test_dataloader": "validation"}
    for loader, split in splits.items():
        cfg[loader].dataset = {
            "type": "SegFolderDataset",
            "data_root": str(path),
            "split": split,
            "maps": folder.maps,
            "metainfo": metainfo,
            "values": list(folder.values),
            "pipeline": cfg[loader].dataset.pipeline,
        }
        if options.get("max_pixels", MAX_PIXELS) != MAX_PIXELS:
            cfg[loader].dataset.max_pixels = options["max_pixels"]
    for name in ("decode_head", "auxiliary_head"):
        heads = cfg.model.get(name) or []
        for head in heads if isinstance(heads, list) else [heads]:
            head["num_classes"] = len(folder.classes)
    return folder.report


def use_split(cfg: Any, name: str) -> None:
    """Test with another split than that which chose the checkpoint.

    Raises:
        InputError: the data have no such split.
    """
    dataset = cfg.test_dataloader.dataset
    folder = SegFolder(Path(dataset.get("data_root", "")), dataset.get("maps", ""), (), ())
    known = {"train": "training", "val": "validation", "test": "test"}
    there = [short for short, split in known.items() if dataset.type == "SegFolderDataset" and split in folder.splits]
    if name not in there:
        raise InputError(f"--split: got {name}, the data have {', '.join(there)}")
    dataset.split = known[name]
