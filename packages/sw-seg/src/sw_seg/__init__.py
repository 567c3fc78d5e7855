"""Semantic segmentation with ShiftwiseConv backbones.

Imported by a configuration of MMSegmentation (``custom_imports = dict(imports=["sw_seg"])``), it registers everything
that configurations name; the program's ``--help`` does not wait for that.
"""

import sys
from importlib.metadata import version

__version__ = version("sw-seg")

if "mmengine" in sys.modules:
    from sw_seg import registration  # noqa: F401
