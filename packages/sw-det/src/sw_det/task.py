"""What sw-det does that other tasks do not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sw_sparse.openmmlab.task import Task

if TYPE_CHECKING:
    from mmengine.config import Config
    from torch import nn


def _sample(folder: Path) -> None:
    from sw_det.sample import write_sample

    write_sample(folder)


def _adapt_to_data(cfg: Config, folder: Path) -> None:
    from sw_det.dataset import adapt_to_data

    adapt_to_data(cfg, folder)


def _predict(model: nn.Module, images: Sequence[Path], folder: Path) -> Iterator[dict[str, Any]]:
    from sw_det.predict import predict

    return predict(model, images, folder)


def _complexity(model: nn.Module, size: tuple[int, int]) -> list[dict[str, Any]]:
    from sw_det.complexity import count_complexity

    return count_complexity(model, size)


def _export(model: nn.Module, path: Path, form: str, size: int) -> float:
    from sw_det.export import export

    return export(model, path, form, size)


TASK = Task(
    command="sw-det",
    package="sw_det",
    summary="Object detection and instance segmentation with ShiftwiseConv backbones, on MMDetection.",
    configs=Path(__file__).parent / "configs",
    sample_config="mask_rcnn_nano_shapes",
    default_config="mask_rcnn_nano",
    sample=_sample,
    adapt_to_data=_adapt_to_data,
    predict=_predict,
    complexity=_complexity,
    complexity_size=(800, 1280),
    export=_export,
)
