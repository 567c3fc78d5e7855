from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))
from affected_packages import affected
from workspace import dependencies, in_order

GRAPH = {"ops": set(), "models": {"ops"}, "sparse": {"models"}, "det": {"sparse"}, "seg": {"sparse"}}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (["packages/ops/src/a.py"], ["ops", "models", "sparse", "det", "seg"]),
        (["packages/models/README.md"], ["models", "sparse", "det", "seg"]),
        (["packages/seg/tests/test_a.py"], ["seg"]),
        (["packages/det/a.py", "packages/seg/b.py"], ["det", "seg"]),
        (["pyproject.toml"], ["ops", "models", "sparse", "det", "seg"]),
        ([], []),
    ],
)
def test_a_change_reaches_its_dependents(changed: list[str], expected: list[str]) -> None:
    assert affected(changed, GRAPH) == expected


def test_the_workspace_has_the_declared_order() -> None:
    graph = dependencies()
    assert graph["sw-ops"] == set()
    assert all(below in graph for name in graph for below in graph[name])


def test_dependencies_come_first() -> None:
    assert in_order({"det", "ops", "sparse"}, GRAPH) == ["ops", "sparse", "det"]
