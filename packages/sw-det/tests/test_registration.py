"""What is imported before what does not matter."""

from __future__ import annotations

import subprocess
import sys

import pytest

BUILD = """
from mmengine.registry import MODELS, DATASETS, HOOKS
for root, name in ((MODELS, "ShiftwiseBackbone"), (DATASETS, "QuietCocoDataset"), (HOOKS, "SparsifierHook")):
    with root.switch_scope_and_registry("mmdet") as registry:
        assert registry.get(name), name
"""


@pytest.mark.parametrize(
    "imports",
    [
        "import sw_det, mmdet.apis",
        "import mmcv, mmdet, sw_det",
        pytest.param("import sw_det, mmengine", marks=pytest.mark.slow),
        pytest.param("import mmengine, sw_det", marks=pytest.mark.slow),
        pytest.param("import sw_det.registration, mmdet.apis", marks=pytest.mark.slow),
        pytest.param("import sw_det, mmcv", marks=pytest.mark.slow),
    ],
)
def test_classes_are_registered_whatever_was_imported_before(imports: str) -> None:
    done = subprocess.run([sys.executable, "-c", imports + BUILD], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_import_alone_waits_for_no_heavy_import() -> None:
    program = "import sys, sw_det; print([m for m in ('torch', 'mmengine', 'mmdet', 'numpy') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
