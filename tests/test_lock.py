"""What CI installs is what the packages declare."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.version import Version

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))
import lock
import workspace

PACKAGES = sorted(workspace.dependencies())


def locked(name: str) -> dict[str, list[Version]]:
    """Return the versions in a file of .github/requirements, by normalized name: one for each set of markers."""
    text = (lock.FOLDER / f"{name}.txt").read_text()
    assert "://" not in text, "an address in it"
    entries = re.split(r"\n(?=\S)", text.replace("# Written by make lock.\n", ""))
    found: dict[str, list[Version]] = {}
    for entry in entries:
        assert "--hash=sha256:" in entry, entry
        pinned = Requirement(entry.split("\\\n")[0].strip())
        (specifier,) = pinned.specifier
        assert specifier.operator == "==", entry
        found.setdefault(normalized(pinned.name), []).append(Version(specifier.version))
    return found


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("suffix", ["", "-lowest"])
@pytest.mark.parametrize("name", PACKAGES)
def test_every_declared_dependency_is_locked_at_a_version_that_is_allowed(name: str, suffix: str) -> None:
    versions = locked(name + suffix)
    for line in lock.third_parties(name):
        declared = Requirement(line)
        if declared.marker and not Marker(str(declared.marker)).evaluate():
            continue
        assert any(version in declared.specifier for version in versions[normalized(declared.name)]), line


@pytest.mark.parametrize("name", PACKAGES)
def test_the_lowest_version_is_the_one_that_is_declared(name: str) -> None:
    """Of torch, the highest of the lowest that the package, its extras and what is below it declare."""
    lowest = lock.lowest_torch(lock.third_parties(name))
    assert locked(f"{name}-lowest")["torch"] == [Version(lowest)]


def test_the_lowest_torch_is_the_highest_lower_bound() -> None:
    assert lock.lowest_torch({"torch>=2.6", "torch>=2.7,<3", "numpy>=9"}) == "2.7"


def test_packages_of_the_workspace_are_not_locked() -> None:
    for name in PACKAGES:
        assert not [other for other in locked(name) if other.startswith("sw-")]
