"""Write .github/requirements/: what CI installs to test each package, every file by its hash.

NAME.txt holds the newest versions that the package allows, for every Python that it allows, and NAME-lowest.txt the
lowest ones that it declares, for the oldest Python. The packages of the workspace are not in them: CI installs those
from here. Run it to take in new versions, and read what changed.

python tools/lock.py             every package
python tools/lock.py sw-ops ...  these
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version
from workspace import ROOT, project

FOLDER = ROOT / ".github" / "requirements"
OLDEST_PYTHON = "3.10"


def third_parties(name: str, extras: frozenset[str] = frozenset(), *, dev: bool = True) -> set[str]:
    """Return what a package needs from outside the workspace: for itself, its extras, its tests, and what is below it.

    Args:
        name: a package of the workspace.
        extras: those of its extras that are wanted.
        dev: whether its tests are to run.

    Returns:
        Requirements as their packages wrote them, without those of the workspace.
    """
    config = project(name)
    wanted = list(config["project"].get("dependencies", []))
    for extra in extras:
        wanted += config["project"]["optional-dependencies"][extra]
    if dev:
        wanted += config["dependency-groups"]["dev"]
    found = set()
    for line in wanted:
        requirement = Requirement(line)
        if requirement.name == name or (ROOT / "packages" / requirement.name).is_dir():
            if requirement.name != name or requirement.extras:
                found |= third_parties(requirement.name, frozenset(requirement.extras), dev=False)
        else:
            found.add(line)
    return found


def lowest_torch(lines: set[str]) -> str:
    """Return the lowest version of torch that all of these allow; a resolver left to itself may take a higher one."""
    bounds = [bound for line in lines if (it := Requirement(line)).name == "torch" for bound in it.specifier]
    return str(max(Version(bound.version) for bound in bounds if bound.operator == ">="))


def compile_requirements(lines: set[str], options: list[str]) -> str:
    """Return pinned and hashed requirements; empty folders hold no configuration that would pin anything."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "in.txt").write_text("\n".join(sorted(lines)) + "\n")
        command = [str(ROOT / ".uv/bin/uv"), "pip", "compile", "--quiet", "--no-config", "--generate-hashes"]
        command += ["--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links", *options, "in.txt"]
        return subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout


def main(names: list[str]) -> None:
    """Write both files of each package."""
    FOLDER.mkdir(exist_ok=True)
    newest = ["--universal", "--python-version", OLDEST_PYTHON]
    lowest = ["--resolution", "lowest-direct", "--python-version", OLDEST_PYTHON, "--python-platform", "linux"]
    for name in names or sorted(path.name for path in (ROOT / "packages").iterdir()):
        lines = third_parties(name)
        pinned = lines | {f"torch=={lowest_torch(lines)}"}
        for suffix, wanted, options in (("", lines, newest), ("-lowest", pinned, lowest)):
            file = FOLDER / f"{name}{suffix}.txt"
            file.write_text(f"# Written by make lock.\n{compile_requirements(wanted, options)}")
            print(file.relative_to(ROOT))


if __name__ == "__main__":
    main(sys.argv[1:])
