"""What all commands have in common."""

import subprocess
import sys


def test_help_answers_without_loading_torch(run):
    code = (
        "import sys\nfrom sw_anomaly.cli import app\n"
        "try: app(['eval', '--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'timm', 'scipy'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "--category" in shown
    assert shown.endswith("[]\n")
