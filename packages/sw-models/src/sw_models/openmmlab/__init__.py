"""This package's models in OpenMMLab, for detectors and segmenters. Needs the extra ``sw-models[openmmlab]``.

Importing it, before any package of OpenMMLab that builds on MMCV, is all that is to be done: a configuration says
``custom_imports = dict(imports=["sw_models.openmmlab"])``.
"""

from sw_models.openmmlab import compiled_ops

compiled_ops.install()

from sw_models.openmmlab.backbone import ShiftwiseBackbone  # noqa: E402
from sw_models.openmmlab.checkpoints import AtomicLocalBackend, PlainCheckpointHook  # noqa: E402
from sw_models.openmmlab.curves import CurvesHook  # noqa: E402
from sw_models.openmmlab.precision import BFloat16OptimWrapper  # noqa: E402
from sw_models.openmmlab.progress import ProgressHook  # noqa: E402

__all__ = [
    "AtomicLocalBackend",
    "BFloat16OptimWrapper",
    "CurvesHook",
    "PlainCheckpointHook",
    "ProgressHook",
    "ShiftwiseBackbone",
]
