"""This package's models in OpenMMLab, for detectors and segmenters. Needs the extra ``sw-models[openmmlab]``.

Importing it, before any package of OpenMMLab that builds on MMCV, is all that is to be done: a configuration says
``custom_imports = dict(imports=["sw_models.openmmlab"])``.
"""

from sw_models.openmmlab import mmcv_ext

mmcv_ext.install()

from sw_models.openmmlab.backbone import ShiftwiseBackbone  # noqa: E402

__all__ = ["ShiftwiseBackbone"]
