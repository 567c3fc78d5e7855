"""MMDetection's own programs, with this package and the stand-in for MMCV's compiled module known before all.

``python -m sw_det.mm tools/test.py CONFIG CHECKPOINT`` runs a file as ``python tools/test.py CONFIG CHECKPOINT`` would.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from sw_models.openmmlab import mmcv_ext


def main() -> None:
    """Run the program that the command line names."""
    if len(sys.argv) < 2 or not Path(sys.argv[1]).is_file():
        named = sys.argv[1] if len(sys.argv) > 1 else "nothing"
        print(f"sw_det.mm: got {named}, want a program of MMDetection's, such as tools/test.py", file=sys.stderr)
        raise SystemExit(2)
    mmcv_ext.install()
    import sw_det.registration  # noqa: F401

    del sys.argv[0]
    sys.path.insert(0, str(Path(sys.argv[0]).resolve().parent))
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
