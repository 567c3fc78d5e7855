"""The house stays one in which people find things."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SUFFIXES = {".py", ".cpp", ".h", ".cu", ".cuh"}
SOURCES = sorted(
    file
    for room in ("src", "csrc", "tests", "tools")
    for file in ROOT.glob(f"packages/*/{room}/**/*")
    if file.suffix in SUFFIXES
)


def test_there_are_sources() -> None:
    assert len(SOURCES) > 200


@pytest.mark.parametrize("package", sorted(path.name for path in ROOT.glob("packages/*/")))
def test_no_file_is_too_long_to_be_read_at_once(package: str) -> None:
    lines = {file: len(file.read_text().splitlines()) for file in SOURCES if package in file.parts}
    assert {str(file.relative_to(ROOT)): count for file, count in lines.items() if count > 420} == {}


def test_no_room_is_a_drawer() -> None:
    drawers = {"utils", "util", "helpers", "misc", "common_utils"}
    assert [str(file) for file in SOURCES if drawers & {file.stem, *file.relative_to(ROOT).parts[:-1]}] == []
