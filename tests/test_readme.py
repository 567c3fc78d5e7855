"""What the READMEs tell a newcomer to type works."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("packages/*/README.md")), *sorted(ROOT.glob("packages/*/docs/*.md"))]


def python_blocks() -> list[tuple[str, str]]:
    """Return the blocks marked "python", which are whole programs; fragments are marked "py"."""
    found = []
    for readme in PAGES:
        for number, block in enumerate(re.findall(r"^```python\n(.*?)^```", readme.read_text(), re.M | re.S), start=1):
            found.append((f"{readme.relative_to(ROOT)} block {number}", block))
    return found


def commands() -> list[list[str]]:
    """Return the distinct ``[program, command]`` pairs that stand in indented or fenced lines."""
    lines = "\n".join(readme.read_text() for readme in PAGES).splitlines()
    typed = (re.match(r"\s*(?:\$ )?(sw-[a-z]+) ([a-z][a-z-]*)\b", line) for line in lines)
    return [list(pair) for pair in sorted({match.groups() for match in typed if match})]


@pytest.mark.parametrize(("where", "block"), python_blocks(), ids=lambda value: value if "README" in value else "")
def test_python_examples_run(where: str, block: str, tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, f"{where}:\n{run.stderr}"


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_commands_exist(command: list[str]) -> None:
    program = shutil.which(command[0], path=str(Path(sys.executable).parent))
    assert program, f"{command[0]} is not installed"
    run = subprocess.run([program, command[1], "--help"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^    make ([a-z-]+)", (ROOT / "README.md").read_text(), re.M))
    assert {"demo", "test"} <= targets
    for target in targets:
        run = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("package", sorted(path.name for path in ROOT.glob("packages/*/")))
def test_every_package_is_complete(package: str) -> None:
    folder = ROOT / "packages" / package
    for name in ("pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", f"src/{package.replace('-', '_')}/py.typed"):
        assert (folder / name).is_file(), f"{package} lacks {name}"
    assert f'name = "{package}"' in (folder / "pyproject.toml").read_text()
