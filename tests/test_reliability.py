"""The table of faults names tests that exist, and says which of them are slow."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NAMED = re.findall(r"`((?:sw-\w+/)?tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs/reliability.md").read_text())
ROWS = [line for line in (ROOT / "docs/reliability.md").read_text().splitlines() if line.startswith("| ")]


@cache
def functions_in(file: str) -> dict[str, bool]:
    """Return the tests of a file, and whether each is slow in all its cases."""
    path = ROOT / "packages" / file if file.startswith("sw-") else ROOT / file
    content = ast.parse(path.read_text())
    functions = [node for node in ast.walk(content) if isinstance(node, ast.FunctionDef)]
    whole = "pytestmark = pytest.mark.slow" in map(ast.unparse, content.body)
    return {one.name: whole or "pytest.mark.slow" in map(ast.unparse, one.decorator_list) for one in functions}


def test_there_are_faults() -> None:
    assert len(NAMED) > 80


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_every_test_that_is_named_exists(file: str, test: str) -> None:
    assert test in functions_in(file)


@pytest.mark.parametrize("row", [row for row in ROWS if "::" in row], ids=lambda row: row.split("|")[1].strip())
def test_rows_whose_tests_are_slow_say_so(row: str) -> None:
    slow = [functions_in(file)[test] for file, test in re.findall(r"`([\w/.-]+)::(\w+)`", row)]
    assert any(slow) == ("*slow*" in row)


def test_every_row_of_a_fault_names_a_test() -> None:
    headings = ("| fault |", "|---")
    assert [row for row in ROWS if "::" not in row and not row.startswith(headings)] == []
