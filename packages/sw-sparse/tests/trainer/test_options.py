import re
from dataclasses import dataclass, field
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from sw_models.errors import InputError
from sw_sparse.trainer.options import checked, flags_of


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (3, int, 3), (3, float, 3.0), ("4e-3", float, 0.004), (True, bool, True), (None, str | None, None),
        ([1, 2.5], tuple[float, float], (1.0, 2.5)), (["a"], tuple[str, ...], ("a",)), ((), tuple[str, ...], ()),
        ({"a": 1}, dict[str, Any], {"a": 1}), (2, float | None, 2.0),
    ],
)  # fmt: skip
def test_values_become_what_the_annotation_wants(value, hint, expected):
    found = checked(value, hint, "x")
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "hint", "message"),
    [
        (True, int, "x: got True, want int"), (1.5, int, "x: got 1.5, want int"),
        ("a", float, "x: got 'a', want float"),
        (None, str, "x: got None, want str"), (3, str | None, "x: got 3, want str or nothing"),
        ([1], tuple[float, float], "x: got [1], want 2 numbers"), ("ab", tuple[str, ...], "x: got 'ab', want names"),
        ([1, "b"], tuple[float, float], "x: got [1, 'b'], want 2 numbers"),
        ([], dict[str, Any], "x: got [], want dict"),
    ],
)  # fmt: skip
def test_other_values_are_named(value, hint, message):
    with pytest.raises(InputError, match=re.escape(message)):
        checked(value, hint, "x")


def _flag(default):
    return field(default=default, metadata={"help": "of the toy"})


@dataclass
class Toy:
    size: int = _flag(3)
    name: str | None = _flag(None)
    spread: tuple[float, float] = _flag((0.0, 1.0))
    parts: tuple[str, ...] = _flag(("a",))
    loud: bool = _flag(False)
    more: dict[str, Any] = field(default_factory=dict, metadata={"help": "YAML"})


def test_a_command_gets_the_flags_that_were_given():
    app, seen = typer.Typer(), []

    @app.command()
    @flags_of(Toy)
    def play(*, where: Annotated[str, typer.Option()], flags: dict[str, Any]) -> None:
        seen.append((where, flags))

    given = ["--size", "4", "--spread", "1", "2", "--parts", "b", "--parts", "c", "--no-loud", "--more", "{n: [1]}"]
    assert CliRunner().invoke(app, ["--where", "here", *given]).exit_code == 0
    assert CliRunner().invoke(app, ["--where", "here"]).exit_code == 0
    wanted = {"size": 4, "spread": (1.0, 2.0), "parts": ["b", "c"], "loud": False, "more": {"n": [1]}}
    assert seen == [("here", wanted), ("here", {})]
    assert "(default: 3)" in CliRunner(env={"COLUMNS": "200"}).invoke(app, ["--help"]).stdout
