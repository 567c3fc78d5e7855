"""A package declares all that it imports: what another one happens to bring along may go."""

from __future__ import annotations

import ast
import re
import sys
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))
import workspace

PACKAGES = sorted(workspace.dependencies())
DISTRIBUTIONS = packages_distributions()


def imported(source: str) -> set[str]:
    """Return the modules that a file imports, anywhere in it, by the first part of their names."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names - sys.stdlib_module_names


def declared(package: str) -> set[str]:
    """Return the distributions that a package and its extras declare, by normalized name."""
    project = workspace.project(package)["project"]
    lines = [*project["dependencies"], *chain.from_iterable(project.get("optional-dependencies", {}).values())]
    found = set()
    for wanted in map(Requirement, lines):
        found.add(normalized(wanted.name))
        for extra in wanted.extras if wanted.name in PACKAGES else ():  # what is in it was asked for by name
            own = workspace.project(wanted.name)["project"]["optional-dependencies"][extra]
            found |= {normalized(Requirement(line).name) for line in own}
    return found


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("package", PACKAGES)
def test_every_import_is_declared(package: str) -> None:
    wanted = declared(package) | {package}
    missing = {}
    for file in sorted(workspace.ROOT.glob(f"packages/{package}/src/**/*.py")):
        for module in imported(file.read_text()):
            brought_by = {normalized(name) for name in DISTRIBUTIONS.get(module, [module])}
            if not brought_by & wanted:
                missing[str(file.relative_to(workspace.ROOT))] = module
    assert missing == {}


def test_an_import_counts_wherever_it_stands() -> None:
    source = "import os, a.b\nfrom c.d import e\nfrom . import f\ndef g():\n    from h import i\n"
    assert imported(source) == {"a", "c", "h"}
