"""What READMEs and pages show runs, and every package is complete."""

from __future__ import annotations

from pathlib import Path

import pytest
import warm
from pages import ROOT, programs_in_python


@pytest.mark.parametrize(
    ("where", "block"), programs_in_python(), ids=lambda value: value if " block " in value else ""
)
def test_python_examples_run(where: str, block: str, tmp_path: Path) -> None:
    status, printed = warm.run(block, tmp_path)
    assert status == 0, f"{where}:\n{printed}"


@pytest.mark.parametrize("package", sorted(path.name for path in ROOT.glob("packages/*/")))
def test_every_package_is_complete(package: str) -> None:
    folder = ROOT / "packages" / package
    for name in ("pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", f"src/{package.replace('-', '_')}/py.typed"):
        assert (folder / name).is_file(), f"{package} lacks {name}"
    assert f'name = "{package}"' in (folder / "pyproject.toml").read_text()


def test_the_readme_is_read_in_two_minutes() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 120
