"""What the package offers by its own name, and that offering it costs nothing."""

import re
import subprocess
import sys

import pytest

import sw_anomaly


@pytest.mark.parametrize("name", sw_anomaly.__all__)
def test_every_public_name_is_there_and_documented(name):
    assert re.search(r"^    (Args|Attributes|Example):$", getattr(sw_anomaly, name).__doc__, re.MULTILINE)
    assert name in dir(sw_anomaly)


def test_nothing_heavy_is_imported_before_it_is_needed():
    code = "import sys, sw_anomaly.cli; print([name for name in ('torch', 'cv2', 'timm') if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


def test_other_names_are_not_there():
    with pytest.raises(AttributeError, match="no attribute 'magic'"):
        sw_anomaly.magic  # noqa: B018
