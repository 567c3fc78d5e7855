"""What sw-seg does that other tasks do not."""

from pathlib import Path

from sw_sparse.openmmlab.task import Task, late

TASK = Task(
    command="sw-seg",
    package="sw_seg",
    summary="Semantic segmentation with ShiftwiseConv backbones, on MMSegmentation.",
    configs=Path(__file__).parent / "configs",
    sample_config="upernet_nano_shapes",
    default_config="upernet_nano",
    sample=late("sw_seg.sample:write_sample"),
    adapt_to_data=late("sw_seg.dataset:adapt_to_data"),
    config_for=late("sw_seg.check:config_for"),
    prepare=late("sw_seg.layouts:prepare"),
    convert_data=late("sw_seg.layouts:convert_data"),
    use_split=late("sw_seg.dataset:use_split"),
    report=late("sw_seg.report:sections"),
    options=frozenset({"iterations", "split"}),
    check=late("sw_seg.check:check"),
    predict=late("sw_seg.predict:predict"),
    complexity=late("sw_seg.complexity:count_complexity"),
    complexity_size=(512, 2048),
    export=late("sw_seg.export:export"),
)
