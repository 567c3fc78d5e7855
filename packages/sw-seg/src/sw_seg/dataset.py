"""Data folders in MMSegmentation's registry, and configurations that are adapted to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from sw_seg.folder import SegFolder, read_folder


@DATASETS.register_module()
class SegFolderDataset(BaseSegDataset):
    """One split of a data folder.

    Args:
        data_root: the folder.
        split: "training" or "validation".
        maps: its subfolder with the label maps, see :class:`.folder.SegFolder`.
        metainfo: "classes" and "palette".
        **kwargs: of MMSegmentation's ``BaseSegDataset``.
    """

    def __init__(self, data_root: str, split: str, maps: str, metainfo: dict[str, Any], **kwargs: Any) -> None:
        self.folder = SegFolder(Path(data_root), maps, tuple(metainfo["classes"]))
        self.split = split
        super().__init__(metainfo=metainfo, reduce_zero_label=self.folder.zero_is_ignored, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the images and label maps."""
        return [
            {
                "img_path": str(image),
                "seg_map_path": str(label),
                "label_map": self.label_map,
                "reduce_zero_label": self.reduce_zero_label,
                "seg_fields": [],
            }
            for image, label in self.folder.pairs(self.split)
        ]


def adapt_to_data(cfg: Any, path: Path) -> None:
    """Let a configuration's data loaders read a data folder, and give its heads the folder's classes.

    Raises:
        sw_models.errors.InputError: the folder is not as wanted.
    """
    folder = read_folder(path)
    metainfo = {"classes": list(folder.classes), "palette": [list(colour) for colour in folder.palette]}
    splits = {"train_dataloader": "training", "val_dataloader": "validation", "test_dataloader": "validation"}
    for loader, split in splits.items():
        cfg[loader].dataset = {
            "type": "SegFolderDataset",
            "data_root": str(path),
            "split": split,
            "maps": folder.maps,
            "metainfo": metainfo,
            "pipeline": cfg[loader].dataset.pipeline,
        }
    for name in ("decode_head", "auxiliary_head"):
        heads = cfg.model.get(name) or []
        for head in heads if isinstance(heads, list) else [heads]:
            head["num_classes"] = len(folder.classes)
