"""Print, as a JSON list, the packages that a change can break: those it touches and all that depend on them.

python tools/affected_packages.py BASE    compare the working tree with the commit BASE
python tools/affected_packages.py         every package
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from workspace import ROOT, dependencies, in_order


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
    return in_order(touched & depends_on.keys(), depends_on)


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
