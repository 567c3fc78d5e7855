"""Check an installed wheel of sw-ops: it computes the right thing, and has CUDA kernels for what is named.

python check_wheel.py                   kernels for the CPU
python check_wheel.py 80 90 100 120     and for these compute capabilities
"""

from __future__ import annotations

import json
import re
import subprocess
import sys

from sw_ops import onnxruntime_library


def main(wanted: list[str]) -> None:
    """Run ``sw-ops doctor`` and read its answer."""
    done = subprocess.run(["sw-ops", "doctor", "--json"], stdout=subprocess.PIPE, text=True)
    found = json.loads(done.stdout)
    native = found["native"]
    if not native["built"]:
        sys.exit(f"kernels: none, {native['reason']}")
    built = re.findall(r"\d+", native["cuda_architectures"] or "")
    if built != wanted:
        sys.exit(f"CUDA architectures: got {built}, want {wanted} ({native['cuda_left_out']})")
    if done.returncode or not found["healthy"]:
        sys.exit(f"serving: {json.dumps(found['serving'], indent=2)}")
    onnxruntime_library()  # it is there, or this raises an error
    print(f"sw-ops {found['versions']['sw-ops']}, torch {found['versions']['torch']}: {native}")


if __name__ == "__main__":
    main(sys.argv[1:])
