"""What keeps a package from being released, and that all of them can be."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))
import release
import workspace
from release import Release, ReleaseError

PACKAGES = workspace.in_order(set(workspace.dependencies()), workspace.dependencies())


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace of one package, sw-ops 1.2.3, under version control."""
    folder = tmp_path / "packages/sw-ops"
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").write_text('[project]\nname = "sw-ops"\nversion = "1.2.3"\ndependencies = []\n')
    (folder / "CHANGELOG.md").write_text("# Changelog\n\n## 1.2.3\n\n- New.\n\n## 1.2.2\n\n- Old.\n")
    monkeypatch.setattr(workspace, "ROOT", tmp_path)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "--all")
    git(tmp_path, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message", "all")
    return tmp_path


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", *words], cwd=folder, check=True)


@pytest.mark.parametrize("name", PACKAGES)
def test_version_and_changelog_agree(name: str) -> None:
    assert release.read_release(name).name == name


def test_a_tag_names_a_package_at_its_version(elsewhere: Path) -> None:
    assert release.read_release("sw-ops-v1.2.3") == release.read_release("sw-ops") == Release("sw-ops", "1.2.3")
    with pytest.raises(ReleaseError, match=r"sw-ops-v1\.2\.4: .* says version 1\.2\.3"):
        release.read_release("sw-ops-v1.2.4")
    with pytest.raises(ReleaseError, match="got sw-nothing, want one of sw-ops"):
        release.read_release("sw-nothing")


def test_a_version_without_its_changes_is_refused(elsewhere: Path) -> None:
    changelog = elsewhere / "packages/sw-ops/CHANGELOG.md"
    changelog.write_text("# Changelog\n\n## 1.2.2\n\n- Old.\n")
    with pytest.raises(ReleaseError, match=r"version is 1\.2\.3, and the newest in CHANGELOG\.md is 1\.2\.2"):
        release.read_release("sw-ops")
    changelog.write_text("# Changelog\n\n## 1.2.3\n\n## 1.2.2\n\n- Old.\n")
    with pytest.raises(ReleaseError, match=r"says nothing about 1\.2\.3"):
        release.read_release("sw-ops")


def test_what_is_unreleased_has_to_get_a_version_before_it_is_tagged(elsewhere: Path) -> None:
    changelog = elsewhere / "packages/sw-ops/CHANGELOG.md"
    changelog.write_text("# Changelog\n\n## Unreleased\n\n- More.\n\n## 1.2.3\n\n- New.\n")
    assert release.read_release("sw-ops") == Release("sw-ops", "1.2.3")
    with pytest.raises(ReleaseError, match=r"version is 1\.2\.3, and the newest in CHANGELOG\.md is Unreleased"):
        release.read_release("sw-ops-v1.2.3")


def test_the_last_tag_is_the_newest_earlier_one_of_the_package(elsewhere: Path) -> None:
    assert release.last_tag(Release("sw-ops", "1.2.3")) is None
    for tag in ("sw-ops-v1.2.0", "sw-ops-v1.10.0", "sw-ops-v1.9.0", "sw-ops-v2.0.0", "sw-models-v1.11.0"):
        git(elsewhere, "tag", tag)
    assert release.last_tag(Release("sw-ops", "1.11.0")) == "sw-ops-v1.10.0"


@pytest.mark.parametrize(
    ("old", "new", "may"),
    [
        ("0.1.0", "0.1.1", False),
        ("0.1.9", "0.2.0", True),
        ("0.9.0", "1.0.0", True),
        ("1.2.0", "1.3.0", False),
        ("1.9.0", "2.0.0", True),
    ],
)
def test_which_versions_may_break(old: str, new: str, may: bool) -> None:
    assert release.may_break(old, new) is may


def test_cut_refuses_what_is_not_committed_or_released_already(elsewhere: Path, tmp_path: Path) -> None:
    git(elsewhere, "tag", "sw-ops-v1.2.3")
    with pytest.raises(ReleaseError, match=r"sw-ops-v1\.2\.3 is released; raise the version"):
        release.cut("sw-ops", tmp_path / "dist")
    (elsewhere / "new.txt").touch()
    with pytest.raises(ReleaseError, match="not committed"):
        release.cut("sw-ops", tmp_path / "dist")


def test_cut_refuses_what_needs_something_unreleased(elsewhere: Path, tmp_path: Path) -> None:
    above = elsewhere / "packages/sw-models"
    above.mkdir()
    (above / "pyproject.toml").write_text('[project]\nversion = "3.0"\ndependencies = ["sw-ops>=1.2"]\n')
    (above / "CHANGELOG.md").write_text("## 3.0\n\n- New.\n")
    git(elsewhere, "add", "--all")
    git(elsewhere, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message", "models")
    with pytest.raises(ReleaseError, match=r"sw-models-v3\.0 needs sw-ops-v1\.2\.3, which is not released yet"):
        release.cut("sw-models", tmp_path / "dist")


@pytest.mark.parametrize("name", PACKAGES)
def test_every_readme_shows_something_to_run(name: str) -> None:
    program, option, what = release.first_example(Release(name, "1"))
    assert (program, option) in {("python", "-c"), ("bash", "-c")}
    assert name.replace("-", "_") in what or what.startswith(f"{name} ")


def test_distributions_hold_the_module_and_nothing_else(tmp_path: Path) -> None:
    import zipfile

    folder = tmp_path / "sw-ops"
    folder.mkdir()
    (folder / "sw_ops-1.2.3.tar.gz").touch()
    with pytest.raises(ReleaseError, match=r"want a source distribution and wheels of 1\.2\.3"):
        release.distributions(Release("sw-ops", "1.2.3"), tmp_path)
    with zipfile.ZipFile(folder / "sw_ops-1.2.3-py3-none-any.whl", "w") as wheel:
        for name in ("sw_ops/__init__.py", "sw_ops-1.2.3.dist-info/METADATA", "tests/test_a.py"):
            wheel.writestr(name, "")
    with pytest.raises(ReleaseError, match=r"got \[.*'tests'\] in it, want sw_ops and its dist-info"):
        release.check_distributions(Release("sw-ops", "1.2.3"), tmp_path)


def test_a_broken_interface_is_refused_unless_the_version_says_so(elsewhere: Path) -> None:
    source = elsewhere / "packages/sw-ops/src/sw_ops/__init__.py"
    source.parent.mkdir(parents=True)
    commit = ("-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message")
    source.write_text('"""Module."""\n\n\ndef stripe(x, exact=False):\n    """Do it."""\n')
    git(elsewhere, "add", "--all")
    git(elsewhere, *commit, "one")
    git(elsewhere, "tag", "sw-ops-v1.2.2")
    assert "nothing broken since sw-ops-v1.2.2" in release.check_interface(Release("sw-ops", "1.2.3"))
    source.write_text('"""Module."""\n\n\ndef stripe(x):\n    """Do it."""\n')
    with pytest.raises(ReleaseError, match="breaks what sw-ops-v1.2.2 offered"):
        release.check_interface(Release("sw-ops", "1.2.3"))
    assert "as 2.0.0 says" in release.check_interface(Release("sw-ops", "2.0.0"))


@pytest.mark.slow
def test_a_dry_run_of_all_six_in_order(tmp_path: Path) -> None:
    """Each wheel is alone in an empty environment, in an empty folder, and its README's first example runs there."""
    done = release.check(PACKAGES, tmp_path, built=False, dry=True)
    assert [one.name for one in done] == PACKAGES
    for one in done:
        sources, wheels = release.distributions(one, tmp_path)
        bill = json.loads(next((tmp_path / one.name).glob("*.cdx.json")).read_text())
        assert bill["metadata"]["component"]["name"] == one.name
        assert {"torch", "numpy"} <= {component["name"] for component in bill["components"]}
        sums = dict(line.split("  ")[::-1] for line in (tmp_path / one.name / "SHA256SUMS").read_text().splitlines())
        for file in (*sources, *wheels):
            assert sums[file.name] == hashlib.sha256(file.read_bytes()).hexdigest()
