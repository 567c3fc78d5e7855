"""Registers what sw-seg's configurations name; the models themselves are MMSegmentation's."""

import sw_models.openmmlab  # noqa: F401 - first of all: it stands in for MMCV's compiled module
import sw_sparse.openmmlab.hooks  # noqa: F401

# isort: split
import mmseg.datasets
import mmseg.evaluation
import mmseg.models
import mmseg.visualization  # noqa: F401

import sw_seg.dataset
import sw_seg.metric  # noqa: F401
