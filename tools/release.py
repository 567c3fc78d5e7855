"""Check that packages can be released, and cut a release.

python tools/release.py check NAME...    build them, and try them as people will get them
python tools/release.py cut NAME         check one, and tag the commit NAME-vVERSION, from which CI publishes

A NAME may be a tag, such as sw-ops-v1.2.3, whose version then has to be the package's. What was built is in
dist/NAME/: the source distribution, the wheel, an SBOM (CycloneDX), and SHA256SUMS, which CI attests.

For each package, in the order of their dependencies:
  1. its version and its changelog agree
  2. source distribution and wheel are built, the wheel from the source distribution, and hold what they should
  3. ``twine check`` passes
  4. its public interface broke only where the version says so (griffe, against the last tag)
  5. the wheel is installed alone: it imports, its programs start, the first example of its README runs
  6. an SBOM of the environment of step 5, and the checksums to attest
Then what depends on any of them passes its tests with these wheels.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import workspace
from affected_packages import affected
from packaging.version import Version
from workspace import all_below, dependencies, in_order

UV = workspace.ROOT / ".uv/bin/uv"
TWINE, GRIFFE, CYCLONEDX = "twine==7.0.0", "griffe==2.4.1", "cyclonedx-bom==7.5.0"
TAG = re.compile(r"(?P<name>sw-[a-z]+)-v(?P<version>\d.*)")


class ReleaseError(Exception):
    """What keeps a package from being released, in one sentence."""


@dataclass(frozen=True)
class Release:
    """A package at the version that its ``pyproject.toml`` states."""

    name: str
    version: str

    @property
    def tag(self) -> str:
        """The tag from which it is published."""
        return f"{self.name}-v{self.version}"

    @property
    def module(self) -> str:
        """What is imported."""
        return self.name.replace("-", "_")

    @property
    def folder(self) -> Path:
        """Where its sources are."""
        return workspace.ROOT / "packages" / self.name


# --- 1. What it says about itself -------------------------------------------------------------------------------------


def read_release(argument: str) -> Release:
    """Return the package that is named, once its version and its changelog agree.

    Args:
        argument: a package, whose changelog may begin with ``Unreleased``, or a tag, where it may not.
    """
    tagged = TAG.fullmatch(argument)
    name = tagged["name"] if tagged else argument
    if name not in dependencies():
        raise ReleaseError(f"name: got {argument}, want one of {', '.join(sorted(dependencies()))}, or its tag")
    version = workspace.project(name)["project"]["version"]
    if tagged and tagged["version"] != version:
        raise ReleaseError(f"{argument}: packages/{name}/pyproject.toml says version {version}")
    changelog = (workspace.ROOT / "packages" / name / "CHANGELOG.md").read_text()
    sections: list[tuple[str, str]] = re.findall(r"^## (.+)\n((?:(?!## ).*\n?)*)", changelog, re.M)
    if not tagged and sections and sections[0][0] == "Unreleased":
        del sections[0]
    newest, changes = sections[0] if sections else ("nothing", "")
    if newest != version:
        raise ReleaseError(f"{name}: version is {version}, and the newest in CHANGELOG.md is {newest}")
    if not changes.strip():
        raise ReleaseError(f"{name}: CHANGELOG.md says nothing about {version}")
    return Release(name, version)


# --- 2. and 3. What is uploaded ---------------------------------------------------------------------------------------


def build(release: Release, dist: Path) -> None:
    """Write the source distribution, and the wheel that is built from it."""
    _run(UV, "build", "--quiet", "--out-dir", dist / release.name, release.folder)


def check_distributions(release: Release, dist: Path) -> None:
    """Check what the distributions hold, and what they say of themselves."""
    sources, wheels = distributions(release, dist)
    for file in wheels:
        top = {name.split("/")[0] for name in zipfile.ZipFile(file).namelist()}
        if top != {release.module, f"{release.module}-{release.version}.dist-info"}:
            raise ReleaseError(f"{file.name}: got {sorted(top)} in it, want {release.module} and its dist-info")
    for file in sources:
        with tarfile.open(file) as archive:
            names = {member.partition("/")[2] for member in archive.getnames()}
        missing = {"LICENSE", "README.md", "pyproject.toml", f"src/{release.module}/py.typed"} - names
        if missing:
            raise ReleaseError(f"{file.name}: {', '.join(sorted(missing))} is missing in it")
    _run(UV, "tool", "run", "--quiet", "--from", TWINE, "twine", "check", "--strict", *sources, *wheels)


def distributions(release: Release, dist: Path) -> tuple[list[Path], list[Path]]:
    """Return its source distribution, and its wheels, of which a package with compiled code may have many."""
    sources = sorted((dist / release.name).glob(f"{release.module}-{release.version}.tar.gz"))
    wheels = sorted((dist / release.name).glob(f"{release.module}-{release.version}-*.whl"))
    if not sources or not wheels:
        raise ReleaseError(f"{dist / release.name}: want a source distribution and wheels of {release.version} in it")
    return sources, wheels


# --- 4. The promise of the version ------------------------------------------------------------------------------------


def check_interface(release: Release) -> str:
    """Compare the public interface with the last release's; say what was found."""
    last = last_tag(release)
    if last is None:
        return "the first release: nothing to compare with"
    command = [UV, "tool", "run", "--quiet", "--from", GRIFFE, "griffe", "check", release.module]
    command += ["--search", release.folder.relative_to(workspace.ROOT) / "src", "--against", last]
    found = subprocess.run([str(part) for part in command], cwd=workspace.ROOT, capture_output=True, text=True)
    if found.returncode == 0:
        return f"nothing broken since {last}"
    changes = (found.stdout + found.stderr).strip()
    if found.returncode != 1:
        raise ReleaseError(f"griffe: {changes}")
    if may_break(last.rpartition("-v")[2], release.version):
        return f"broken since {last}, as {release.version} says:\n{changes}"
    raise ReleaseError(f"{release.tag} breaks what {last} offered, and its version does not say so:\n{changes}")


def last_tag(release: Release) -> str | None:
    """Return the tag of the newest earlier release."""
    listed = _run("git", "tag", "--list", f"{release.name}-v*").split()
    older = [tag for tag in listed if Version(tag.rpartition("-v")[2]) < Version(release.version)]
    return max(older, key=lambda tag: Version(tag.rpartition("-v")[2]), default=None)


def may_break(old: str, new: str) -> bool:
    """Return whether a version may break what an older one offered: 2.0 after 1.9, 0.2 after 0.1."""
    before, after = Version(old), Version(new)
    return after.major > before.major or (after.major == before.major == 0 and after.minor > before.minor)


# --- 5. As people get it ----------------------------------------------------------------------------------------------


def try_alone(release: Release, dist: Path, folder: Path) -> Path:
    """Install the wheel alone into a new environment, and use it in an empty folder with an empty environment.

    Returns:
        The Python of that environment.
    """
    python = _new_environment(folder / "alone", [f"{release.name}=={release.version}"], dist)
    empty = folder / "empty"
    empty.mkdir()
    clean = {"PATH": f"{python.parent}:/usr/bin:/bin", "HOME": str(empty), "LC_ALL": "C.UTF-8"}
    _run(python, "-I", "-c", f"import {release.module}", cwd=empty, env=clean)
    for program in workspace.project(release.name)["project"].get("scripts", {}):
        _run(program, "--help", cwd=empty, env=clean)
    _run(*first_example(release), cwd=empty, env=clean)
    return python


def first_example(release: Release) -> list[str]:
    """Return how to run what the README shows first: a program in Python, or a command of the package's own."""
    readme = (release.folder / "README.md").read_text()
    shown = re.search(rf"^```python\n(?P<python>.*?)^```|^    (?P<command>{release.name} .+)$", readme, re.M | re.S)
    if shown is None:
        raise ReleaseError(f"{release.name}: README.md shows neither a program nor a command")
    if shown["python"]:
        return ["python", "-c", shown["python"]]
    return ["bash", "-c", shown["command"].splitlines()[0]]


# --- 6. What is published beside it -----------------------------------------------------------------------------------


def write_bill_of_materials(release: Release, dist: Path, python: Path) -> Path:
    """Write what an environment of the package consists of, as CycloneDX."""
    file = dist / release.name / f"{release.module}-{release.version}.cdx.json"
    cyclonedx = (UV, "tool", "run", "--quiet", "--from", CYCLONEDX, "cyclonedx-py", "environment")
    options = ("--pyproject", release.folder / "pyproject.toml", "--output-reproducible", "--of", "JSON", "-o", file)
    _run(*cyclonedx, *options, python)
    return file


def write_checksums(release: Release, dist: Path) -> Path:
    """Write the SHA-256 of everything that is published, in the form that ``sha256sum`` and GitHub's attest read."""
    sources, wheels = distributions(release, dist)
    published = [*sources, *wheels, *sorted((dist / release.name).glob("*.cdx.json"))]
    lines = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in published]
    sums = dist / release.name / "SHA256SUMS"
    sums.write_text("".join(lines))
    return sums


# --- Then: what depends on it -----------------------------------------------------------------------------------------


def test_dependents(names: Sequence[str], dist: Path, *, dry: bool) -> list[str]:
    """Run the tests of what depends on packages, with wheels only; in a dry run they are imported, not run."""
    graph = dependencies()
    above = [name for name in in_order(set(graph), graph) if all_below(name, graph) & set(names)]
    for name in above:
        _say(name, "its tests, for it depends on what is released")
        wanted = [name, *workspace.project(name)["dependency-groups"]["dev"]]
        with tempfile.TemporaryDirectory() as scratch:
            python = _new_environment(Path(scratch) / "tests", wanted, dist)
            options = ["--collect-only"] if dry else []
            _run(python, "-m", "pytest", *options, workspace.ROOT / "packages" / name / "tests")
    return above


# --- The two commands -------------------------------------------------------------------------------------------------


def check(names: Sequence[str], dist: Path, *, built: bool, dry: bool) -> list[Release]:
    """Take packages through all steps, in the order of their dependencies.

    Args:
        names: packages, or tags of them.
        dist: where the distributions go.
        built: the distributions of ``names`` are there already (CI builds the wheels of sw-ops on many machines).
        dry: import the dependents' tests instead of running them.

    Raises:
        ReleaseError: at the first thing that keeps a package from being released.
    """
    releases = {release.name: release for release in map(read_release, names)}
    graph = dependencies()
    above = set(affected([f"packages/{name}/x" for name in releases], graph))
    for name in in_order(above.union(*(all_below(name, graph) for name in above)), graph):
        if not (built and name in releases):
            _say(name, "building")
            build(releases.get(name) or Release(name, workspace.project(name)["project"]["version"]), dist)
    for name in in_order(set(releases), graph):
        release = releases[name]
        _say(release.tag, "its distributions")
        check_distributions(release, dist)
        _say(release.tag, check_interface(release))
        with tempfile.TemporaryDirectory() as scratch:
            _say(release.tag, "alone, in an empty environment and folder")
            python = try_alone(release, dist, Path(scratch))
            write_bill_of_materials(release, dist, python)
        _say(release.tag, f"complete: {write_checksums(release, dist)}")
    test_dependents(list(releases), dist, dry=dry)
    return list(releases.values())


def cut(name: str, dist: Path) -> str:
    """Check one package and tag the commit; return the tag."""
    if _run("git", "status", "--porcelain").strip():
        raise ReleaseError("git: there are changes that are not committed")
    release = read_release(f"{name}-v{workspace.project(name)['project']['version']}")
    tags = _run("git", "tag").split()
    if release.tag in tags:
        raise ReleaseError(f"{release.tag} is released; raise the version in packages/{release.name}/pyproject.toml")
    graph = dependencies()
    for below in in_order(all_below(release.name, graph), graph):
        tag = f"{below}-v{workspace.project(below)['project']['version']}"
        if tag not in tags:
            raise ReleaseError(f"{release.tag} needs {tag}, which is not released yet")
    check([release.tag], dist, built=False, dry=False)
    _run("git", "tag", "--annotate", release.tag, "--message", f"{release.name} {release.version}")
    return release.tag


def _new_environment(folder: Path, wanted: Sequence[str], dist: Path) -> Path:
    """Return the Python of a new environment with what is wanted, our packages from ``dist``."""
    wheels = [option for name in dependencies() for option in ("--find-links", str(dist / name))]
    _run(UV, "venv", "--quiet", "--python", sys.executable, folder)
    # Nothing of this workspace's configuration, and none of its sources: what the wheels declare.
    _run(UV, "pip", "install", "--quiet", "--no-config", "--python", folder, *wheels, *wanted, cwd=folder)
    return folder / "bin" / "python"


def _run(*command: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd or workspace.ROOT, env=env, capture_output=True, text=True)
    if done.returncode:
        raise ReleaseError(f"{' '.join(words)}: exit {done.returncode}\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
    return done.stdout


def _say(what: str, news: str) -> None:
    print(f"{what}: {news}", flush=True)


def main(arguments: list[str]) -> None:
    """Run a command; exit with 1 and the reason where a package cannot be released."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for command, count in (("check", "+"), ("cut", 1)):
        options = commands.add_parser(command)
        options.add_argument("names", nargs=count, metavar="NAME")
        options.add_argument("--dist", type=Path, default=workspace.ROOT / "dist", help="where distributions go")
        if command == "check":
            options.add_argument("--built", action="store_true", help="the packages' distributions are in --dist")
            options.add_argument("--dry", action="store_true", help="import the dependents' tests, do not run them")
    given = parser.parse_args(arguments)
    try:
        if given.command == "check":
            check(given.names, given.dist.resolve(), built=given.built, dry=given.dry)
        else:
            tag = cut(given.names[0], given.dist.resolve())
            _say(tag, f"tagged; 'git push origin {tag}' publishes it")
    except ReleaseError as error:
        sys.exit(f"release: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
