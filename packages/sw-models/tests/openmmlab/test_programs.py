from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

RUN = "from sw_models.openmmlab.programs import run_program; run_program('sw_models', 'OpenMMLab')"


def test_a_program_sees_its_arguments_its_neighbors_and_the_stand_in(tmp_path: Path) -> None:
    (tmp_path / "neighbor.py").write_text("word = 'near'\n")
    (tmp_path / "program.py").write_text(
        "import json, sys, mmcv._ext, neighbor\n"
        "print(json.dumps([__name__, sys.argv, neighbor.word, 'sw_models.registration' in sys.modules]))\n"
    )
    program = str(tmp_path / "program.py")
    done = subprocess.run([sys.executable, "-c", RUN, program, "a", "--b"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["__main__", [program, "a", "--b"], "near", True]


def test_what_is_no_program_is_refused_in_a_line(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", RUN, "absent.py"], capture_output=True, text=True, cwd=tmp_path)
    expected = "sw_models.mm: got absent.py, want a program of OpenMMLab's, such as tools/test.py\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", expected)
