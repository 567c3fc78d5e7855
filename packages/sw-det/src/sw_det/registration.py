"""Registers what sw-det's configurations name; the detectors themselves are MMDetection's."""

import sw_models.openmmlab  # noqa: F401 - first of all: it stands in for MMCV's compiled module
import sw_sparse.openmmlab.hooks  # noqa: F401

# isort: split
import mmdet.datasets
import mmdet.evaluation
import mmdet.models
import mmdet.visualization  # noqa: F401

import sw_det.coco
import sw_det.roi_extractor  # noqa: F401
