"""Models are in timm's registry whatever is imported first, and nothing waits for timm that does not use it."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "imports", ["import sw_models, timm", "import timm, sw_models", "import sw_models.models.slak, timm"]
)
def test_models_are_registered_whatever_was_imported_before(imports):
    program = f"{imports}\nassert {{'shiftwise_tiny', 'slak_tiny'}} <= set(timm.list_models())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_import_alone_waits_for_no_heavy_import():
    program = "import sys, sw_models; print([m for m in ('torch', 'timm', 'numpy') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
