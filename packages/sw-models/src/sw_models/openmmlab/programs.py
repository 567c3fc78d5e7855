"""OpenMMLab's own programs, with a package known before all else, and by this one's import the stand-in for MMCV."""

from __future__ import annotations

import runpy
import sys
from importlib import import_module
from pathlib import Path


def run_program(package: str, peer: str) -> None:
    """Run the file that the command line names, as ``python FILE ARGUMENT...`` would.

    Args:
        package: whose classes are registered first, such as "sw_det"; it has a module ``registration``.
        peer: whose programs are meant, for the message that refuses anything else.
    """
    if len(sys.argv) < 2 or not Path(sys.argv[1]).is_file():
        named = sys.argv[1] if len(sys.argv) > 1 else "nothing"
        print(f"{package}.mm: got {named}, want a program of {peer}'s, such as tools/test.py", file=sys.stderr)
        raise SystemExit(2)
    import_module(f"{package}.registration")
    del sys.argv[0]
    sys.path.insert(0, str(Path(sys.argv[0]).resolve().parent))
    runpy.run_path(sys.argv[0], run_name="__main__")
