"""What a package must say about its task; everything else is shared."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmengine.config import Config
    from PIL import Image
    from torch import nn

    from sw_models.sources import Source
    from sw_sparse.openmmlab.data_report import DataReport


@dataclass(frozen=True)
class Task:
    """A task such as detection or segmentation. The functions are imported when they are called, see :func:`late`.

    Attributes:
        command: the program's name, such as "sw-seg".
        package: what to import so that the task's classes are in OpenMMLab's registries, such as "sw_seg".
        summary: the program's help.
        configs: the folder of the shipped configurations, known by the names of their files.
        sample_config: the configuration that is taken where neither one nor data is given; it trains on the sample.
        default_config: the configuration that is taken for somebody's own data.
        sample: draws the synthetic sample data set into a folder that does not exist yet.
        adapt_to_data: ``(config, folder)``: lets all data loaders and evaluators of the configuration read the folder
            and gives its heads the folder's classes; returns what was found. It may set ``suited_size``, with which is
            trained where no ``--size`` is stated. Raises ``InputError`` for what is not as wanted.
        config_for: ``(folder, options)``: the name of the configuration for somebody's own data, by what is in it. The
            options are the configuration's ``data_options``, here and below.
        check: ``(folder, options)``: looks at all of a data folder and returns a ``DataReport``, and a function that
            draws a contact sheet.
        predict: ``(model, sources, folder, options)``: writes what the model sees in images and videos into an empty
            folder and yields a JSON-ready record per image, with "image", and with "error" where it cannot be read.
            ``model.cfg`` is the configuration, ``model.dataset_meta`` has the classes and the palette. The options are
            those of the predictor that were stated, such as "tile".
        complexity: ``(model, (height, width))``: a row for each part of the model with "part", "parameters", "MACs" and
            "MACs, fused" (as computed here, where "MACs" counts the layers as they are defined); the parts add up.
        complexity_size: height and width for which complexities were published.
        export: ``(model, file, format, size)``: writes a deployed form ("onnx", "torchscript" or "exported") for square
            images, runs the file, and returns the largest difference between what it and the model find, as a share.
        prepare: ``(folder, into, options)``: returns a folder that ``adapt_to_data`` reads: the user's, or ``into``,
            where the annotations of a folder in another form are written; without ``into`` such a folder is refused.
        convert_data: ``(folder, out, options, copy)``: writes a data folder in the program's own form, and returns what
            is in it.
        use_split: ``(config, name)``: lets tests read another split of the data.
        report: ``(model, config)``: the sections of the page on a run, see ``report.py``.
        options: names of options that not every task's commands have.
    """

    command: str
    package: str
    summary: str
    configs: Path
    sample_config: str
    default_config: str
    sample: Callable[[Path], None]
    adapt_to_data: Callable[[Config, Path], DataReport]
    config_for: Callable[[Path, Mapping[str, Any]], str]
    check: Callable[[Path, Mapping[str, Any]], tuple[DataReport, Callable[[], Image.Image]]]
    predict: Callable[[nn.Module, Sequence[Source], Path, Mapping[str, Any]], Iterator[dict[str, Any]]]
    complexity: Callable[[nn.Module, tuple[int, int]], list[dict[str, Any]]]
    complexity_size: tuple[int, int]
    export: Callable[[nn.Module, Path, str, int], float]
    prepare: Callable[[Path, Path | None, Mapping[str, Any]], Path] = lambda folder, into, options: folder
    convert_data: Callable[[Path, Path, Mapping[str, Any], bool], dict[str, Any]] | None = None
    use_split: Callable[[Config, str], None] | None = None
    report: Callable[[nn.Module, Config], list[Any]] | None = None
    options: frozenset[str] = frozenset()


def late(name: str) -> Callable[..., Any]:
    """Return the function "module:function", which is imported when it is called: a program's help need not wait."""
    return lambda *arguments: pkgutil.resolve_name(name)(*arguments)
