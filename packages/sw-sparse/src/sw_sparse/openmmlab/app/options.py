"""What several commands take: arguments and options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from sw_sparse.openmmlab.task import Task

ConfigArgument = Annotated[
    str | None, typer.Argument(metavar="[CONFIG]", help="A shipped configuration's name, or a file.")
]
RunArgument = Annotated[
    str | None, typer.Argument(metavar="[RUN]", help="A run's folder, a configuration's name, or a file.")
]
RunOption = Annotated[str | None, typer.Option("--run", help="A run's folder, a configuration's name, or a file.")]
DataOption = Annotated[Path | None, typer.Option(help="Data folder; see the README for its layout.")]
CheckpointOption = Annotated[Path | None, typer.Option(help="Weights of the whole model. Default: the run's best.")]
WorkersOption = Annotated[int | None, typer.Option(min=0, help="Processes that load data.")]
OptionsOption = Annotated[
    list[str] | None,
    typer.Option("--cfg-options", metavar="KEY=VALUE ...", help="Change the configuration; may be repeated."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


_OF_SOME_TASKS = frozenset({"columns", "iterations", "masks", "split", "threshold"})


def command_of(task: Task) -> type[TyperCommand]:
    """Return the kind of a command that lacks the options of other tasks."""
    lacking = _OF_SOME_TASKS - task.options

    class Command(CommandWithOptions):
        def __init__(self, *args: Any, params: list[Any] | None = None, **kwargs: Any) -> None:
            super().__init__(*args, params=[p for p in params or () if p.name not in lacking], **kwargs)

    return Command


class CommandWithOptions(TyperCommand):
    """A command whose ``--cfg-options`` takes one pair each time, or several at once as OpenMMLab's programs do."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put ``--cfg-options`` before every pair that follows one, then parse."""
        spread: list[str] = []
        follows = False  # whether the part before was a pair
        for i, part in enumerate(args):
            if part == "--cfg-options":
                follows = False
            elif i and args[i - 1] == "--cfg-options":
                follows = True
            elif follows and "=" in part and not part.startswith("-"):
                spread.append("--cfg-options")
            else:
                follows = False
            spread.append(part)
        return super().parse_args(ctx, spread)
