"""What sw-det does that other tasks do not."""

from pathlib import Path

from sw_sparse.openmmlab.task import Task, late

TASK = Task(
    command="sw-det",
    package="sw_det",
    summary="Object detection and instance segmentation with ShiftwiseConv backbones, on MMDetection.",
    configs=Path(__file__).parent / "configs",
    sample_config="mask_rcnn_nano_shapes",
    default_config="mask_rcnn_nano",
    sample=late("sw_det.sample:write_sample"),
    adapt_to_data=late("sw_det.dataset:adapt_to_data"),
    config_for=late("sw_det.dataset:config_for"),
    prepare=late("sw_det.formats:prepare"),
    convert_data=late("sw_det.formats:convert_data"),
    use_split=late("sw_det.dataset:use_split"),
    report=late("sw_det.report:sections"),
    options=frozenset({"masks", "threshold", "columns", "split"}),
    check=late("sw_det.check:check"),
    predict=late("sw_det.predict:predict"),
    complexity=late("sw_det.complexity:count_complexity"),
    complexity_size=(800, 1280),
    export=late("sw_det.export:export"),
)
