"""What the packages of this workspace say about themselves.

python tools/workspace.py NAME    print the folders of a package and of all that it is built on, lowest first
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent


def project(name: str) -> dict[str, Any]:
    """Return the ``pyproject.toml`` of a package."""
    return tomllib.loads((ROOT / "packages" / name / "pyproject.toml").read_text())


def dependencies() -> dict[str, set[str]]:
    """Return, for every package, the packages of the workspace that it declares."""
    names = {path.parent.name for path in ROOT.glob("packages/*/pyproject.toml")}
    return {
        name: {re.split(r"[^\w-]", wanted)[0] for wanted in project(name)["project"]["dependencies"]} & names
        for name in names
    }


def all_below(name: str, depends_on: dict[str, set[str]]) -> set[str]:
    """Return everything that a package depends on, at any remove."""
    return set().union(*({below} | all_below(below, depends_on) for below in depends_on[name]))


def in_order(names: set[str], depends_on: dict[str, set[str]]) -> list[str]:
    """Return packages with those that are depended on first."""
    return sorted(names, key=lambda name: (len(all_below(name, depends_on)), name))


if __name__ == "__main__":
    graph = dependencies()
    print(*(f"packages/{name}" for name in in_order(all_below(sys.argv[1], graph) | {sys.argv[1]}, graph)))
