"""What every program here shares at the terminal: refusals in one line, tables, strict JSON, progress."""

from __future__ import annotations

import json
import math
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

from sw_models.errors import InputError, Interrupted

# Typer brings a click of its own in some versions; its errors are found through a name that all versions have.
_UsageError: Any = typer.BadParameter.__mro__[1]
WIDTH = 120  # characters in a line of a table that goes to a file


class Bars(Progress):
    """Progress bars on a terminal; elsewhere nothing is shown.

    Before 14.3 rich ends bars by an empty line in a file, disabled ones, too.
    """

    def start(self) -> None:
        """Show the bars."""
        if self.console.is_terminal:
            super().start()

    def stop(self) -> None:
        """Take the bars away."""
        if self.console.is_terminal:
            super().stop()


class _OneLineRefusals(TyperGroup):
    """Commands that refuse bad input as ``PROGRAM: message`` and exit with 2, whoever found it bad."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program; an error that is not about the input keeps its traceback."""
        warnings.filterwarnings("ignore", module=r"PIL\.")  # of damage, which is raised where it matters
        standalone = kwargs.get("standalone_mode", True)
        kwargs["standalone_mode"] = False  # so that errors come here
        if not standalone:
            return super().main(*args, **kwargs)
        try:
            status = super().main(*args, **kwargs)
        except _UsageError as error:
            if type(error).__name__ == "NoArgsIsHelpError":  # which is the help
                error.show()
                sys.exit(error.exit_code)
            self._refuse(error.format_message())
        except InputError as error:
            self._refuse(str(error))
        except Interrupted as stopped:
            self._say(str(stopped))
            sys.exit(stopped.exit_code)
        except BrokenPipeError:  # whoever read the output has seen enough
            sys.exit(1)
        except OSError as error:  # what the system refuses: a full disk, a folder that may not be written
            self._refuse(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        except (typer.Abort, KeyboardInterrupt):
            sys.exit(130)
        sys.exit(status if isinstance(status, int) else 0)

    def _refuse(self, message: str) -> NoReturn:
        self._say(message)
        sys.exit(2)

    def _say(self, message: str) -> None:
        line = " ".join(message.split())
        if _nobody_said(line):
            speaker = "" if is_first_process() else f"rank {os.environ['RANK']}: "
            typer.echo(f"{self.name}: {speaker}{line}", err=True)


def program(name: str, help: str) -> typer.Typer:
    """Return an empty program, to which commands are added as to any ``typer.Typer``.

    A command raises :class:`sw_models.errors.InputError` for what its user can mend; that, a wrong option, and what the
    operating system refuses become one line on standard error, and exit status 2. Work that a signal stopped
    (:class:`sw_models.errors.Interrupted`) ends with one line and the signal's status. Of torchrun's processes whoever
    comes first to a line says it, and says its rank if that is not 0.

    Args:
        name: as it is typed, such as "sw-models".
        help: what it does, in a sentence.
    """
    return typer.Typer(
        name=name,
        help=help,
        cls=_OneLineRefusals,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )


def is_first_process() -> bool:
    """Whether this process shows what all have; torchrun numbers its processes in ``RANK``."""
    return os.environ.get("RANK", "0") == "0"


def _nobody_said(line: str) -> bool:
    """Whether no other process of torchrun's has said the same; none waits, for it ends all of them soon after one."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return True
    from torch.distributed import TCPStore  # not before there is something to say

    try:
        store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), timeout=timedelta(seconds=5))
        return store.add(f"{os.environ.get('TORCHELASTIC_RESTART_COUNT')} {line}", 1) == 1
    except RuntimeError:  # torchrun itself is gone
        return True


def print_json(value: Any) -> None:
    """Print strict JSON: what is not a finite number is null."""
    print(json.dumps(finite(value), indent=2, allow_nan=False))


def finite(value: Any) -> Any:
    """Return plain values with None for each number that JSON does not have: NaN and the infinities."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_rows(rows: Sequence[Mapping[str, Any]], as_json: bool, title: str, *, stderr: bool = False) -> None:
    """Print rows with the same keys as a table, or as JSON.

    Texts are shown as they are: a class called "bolt [m8]" is no markup. Numbers are aligned at the right, those that
    are texts such as "98.4 %", too.

    Args:
        rows: at least one; the keys of the first are the columns.
        as_json: print JSON instead of a table.
        title: of the table.
        stderr: print the table to standard error: it is about what happens, and no result.
    """
    if as_json:
        print_json([dict(row) for row in rows])
        return
    table = Table(title=Text(title), title_justify="left")
    for number, (name, first) in enumerate(rows[0].items()):
        is_text = isinstance(first, str) and not first.startswith(("–", *"0123456789"))
        table.add_column(Text(name), no_wrap=number == 0, justify="left" if is_text else "right")
    for row in rows:
        table.add_row(*(Text(cell(value)) for value in row.values()))
    console = Console(stderr=stderr)
    if not console.is_terminal:
        console.width = WIDTH
    console.print(table)


def print_figures(figures: Mapping[str, Any], as_json: bool, title: str) -> None:
    """Print named figures of one thing: those called "column/row" in a table of rows and columns, the others in a list.

    Figures that hold figures, such as one for each layer, are printed as JSON alone.
    """
    if as_json:
        print_json(figures)
        return
    listed = Table(title=Text(title), title_justify="left", show_header=False)
    cells: dict[str, dict[str, Any]] = {}
    for name, value in figures.items():
        column, slash, row = name.partition("/")
        if slash:
            cells.setdefault(row, {})[column] = value
        elif not isinstance(value, Mapping):
            listed.add_row(Text(name), Text(cell(value)))
    if listed.rows:
        Console().print(listed)
    if cells:
        columns = dict.fromkeys(column for row in cells.values() for column in row)
        print_rows([{"": row} | {c: values.get(c, "") for c in columns} for row, values in cells.items()], False, title)


def cell(value: Any) -> str:
    """Return a value as a table shows it: 1,234, 0.123, 1.2e-07, yes, or text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.3f}" if value == 0 or not abs(value) < 1e-3 else f"{value:.2g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
