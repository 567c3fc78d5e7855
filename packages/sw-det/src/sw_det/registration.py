"""Registers what sw-det's configurations name; the detectors themselves are MMDetection's."""

import sw_det.coco
import sw_det.roi_extractor  # noqa: F401
import sw_models.openmmlab  # noqa: F401
import sw_sparse.openmmlab.hooks  # noqa: F401
