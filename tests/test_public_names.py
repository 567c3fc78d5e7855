"""Whoever looks up a public name finds how it is used."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

PACKAGES = sorted(path.name.replace("-", "_") for path in (Path(__file__).parent.parent / "packages").glob("*/"))
# An example (a section, a prompt, or an indented block after "::"), or a section that describes what is given.
SHOWN = re.compile(r"^\s*(Args|Arguments|Attributes|Example|Examples):|>>> |::\n\n", re.M)


def public_names(package: str) -> dict[str, Any]:
    """Return the classes and functions of ``__all__`` by name."""
    module = importlib.import_module(package)
    found = {name: getattr(module, name) for name in module.__all__}
    return {name: value for name, value in found.items() if callable(value)}


@pytest.mark.parametrize("package", PACKAGES)
def test_there_are_public_names(package: str) -> None:
    assert public_names(package)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_shown_in_use_or_has_its_arguments_described(package: str) -> None:
    described = {name: inspect.getdoc(value) or "" for name, value in public_names(package).items()}
    assert [name for name, text in described.items() if not SHOWN.search(text)] == []
