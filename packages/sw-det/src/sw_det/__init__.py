"""Object detection and instance segmentation with ShiftwiseConv backbones.

Imported by a configuration of MMDetection (``custom_imports = dict(imports=["sw_det"])``), it registers everything that
configurations name; the program's ``--help`` does not wait for that.
"""

import sys
from importlib.metadata import version

__version__ = version("sw-det")

if "mmengine" in sys.modules:
    from sw_det import registration  # noqa: F401
