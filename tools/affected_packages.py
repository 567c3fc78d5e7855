"""Print, as a JSON list, the packages that a change can break: those it touches and all that depend on them.

python tools/affected_packages.py BASE    compare the working tree with the commit BASE
python tools/affected_packages.py         every package
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent


def dependencies() -> dict[str, set[str]]:
    """Return, for every package of the workspace, the packages of the workspace that it declares."""
    projects = {path.parent.name: tomllib.loads(path.read_text()) for path in ROOT.glob("packages/*/pyproject.toml")}
    return {
        name: {re.split(r"[^\w-]", wanted)[0] for wanted in project["project"]["dependencies"]} & projects.keys()
        for name, project in projects.items()
    }


def affected(changed_files: list[str], depends_on: dict[str, set[str]]) -> list[str]:
    """Return the packages to check, dependencies before dependents.

    A file outside ``packages/`` (the workspace's configuration, the tools) can break any of them.
    """
    touched = set()
    for file in changed_files:
        parts = Path(file).parts
        touched |= {parts[1]} if len(parts) > 1 and parts[0] == "packages" else set(depends_on)
    while grown := {name for name, below in depends_on.items() if below & touched} - touched:
        touched |= grown
    return sorted(touched & depends_on.keys(), key=lambda name: (len(_all_below(name, depends_on)), name))


def _all_below(name: str, depends_on: dict[str, set[str]]) -> set[str]:
    return set().union(*({below} | _all_below(below, depends_on) for below in depends_on[name]))


def main(arguments: list[str]) -> None:
    """Print the packages affected since the commit that is named, or all of them."""
    graph = dependencies()
    if not arguments:
        print(json.dumps(affected(["pyproject.toml"], graph)))
        return
    diff = subprocess.run(
        ["git", "diff", "--name-only", arguments[0]], cwd=ROOT, capture_output=True, text=True, check=True
    )
    print(json.dumps(affected(diff.stdout.split(), graph)))


if __name__ == "__main__":
    main(sys.argv[1:])
