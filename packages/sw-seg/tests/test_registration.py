"""What is imported before what does not matter."""

from __future__ import annotations

import subprocess
import sys

import pytest

BUILD = """
from mmengine.registry import MODELS, DATASETS, HOOKS
for root, name in ((MODELS, "ShiftwiseBackbone"), (DATASETS, "SegFolderDataset"), (HOOKS, "SparsifierHook")):
    with root.switch_scope_and_registry("mmseg") as registry:
        assert registry.get(name), name
"""


@pytest.mark.parametrize(
    "imports",
    [
        "import sw_seg, mmseg.apis",
        "import mmcv, mmseg, sw_seg",
        pytest.param("import sw_seg, mmengine", marks=pytest.mark.slow),
        pytest.param("import mmengine, sw_seg", marks=pytest.mark.slow),
        pytest.param("import sw_seg.registration, mmseg.apis", marks=pytest.mark.slow),
        pytest.param("import sw_seg, mmcv", marks=pytest.mark.slow),
    ],
)
def test_classes_are_registered_whatever_was_imported_before(imports: str) -> None:
    done = subprocess.run([sys.executable, "-c", imports + BUILD], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_import_alone_waits_for_no_heavy_import() -> None:
    program = "import sys, sw_seg; print([m for m in ('torch', 'mmengine', 'mmseg', 'numpy') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
