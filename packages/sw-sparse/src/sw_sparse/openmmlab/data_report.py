"""What was found in a data folder, as a table for people, JSON for programs, and a contact sheet to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from sw_models.console import Bars, is_first_process, print_rows
from sw_models.errors import InputError
from sw_models.images import ImageFacts, some

Progress = Callable[[int, int], object]  # told how many of how many files were looked at
COLUMNS = 6
CELL = 220  # pixels of an image's longer side in a contact sheet
_LINE = 16  # pixels of a line of text


@dataclass
class DataReport:
    """What looking at a whole data folder told.

    Attributes:
        rows: of the table, with the same keys; the first is a word.
        notes: what is worth knowing, a sentence each: what was recognized, left out or mended.
        refused: what has to be mended before training, a sentence each.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def want_good(self) -> None:
        """Raise an ``InputError`` of one line with all that has to be mended, if there is anything."""
        if self.refused:
            raise InputError(f"--data: {'; '.join(self.refused)}")

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {"found": self.rows, "notes": self.notes, "refused": self.refused}


def print_report(report: DataReport, stderr: bool) -> None:
    """Print the table and the notes; of several processes the first does."""
    if not is_first_process():
        return
    if report.rows:
        print_rows(report.rows, False, "data", stderr=stderr)
    for note in report.notes:
        typer.echo(f"note: {note}", err=stderr)


def say(line: str) -> None:
    """Print a line to standard error, from the first process alone."""
    if is_first_process():
        typer.echo(line, err=True)


@contextmanager
def progress_bar(text: str) -> Iterator[Progress]:
    """Show on a terminal how far something is; nothing is shown where standard error is no terminal."""
    if not is_first_process():
        yield lambda done, total: None
        return
    columns = (TextColumn(text), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task("", total=None)
        yield lambda done, total: bars.update(bar, completed=done, total=total)


def undecodable(facts: Mapping[Path, ImageFacts]) -> Iterator[str]:
    """Yield a sentence that names the files that cannot be read, if there are any."""
    wrong = [f"{path} ({one.problem})" for path, one in facts.items() if one.problem]
    if wrong:
        yield f"{len(wrong):,} of {len(facts):,} files cannot be read: {some(wrong)}"


def turned(facts: Mapping[Path, ImageFacts]) -> Iterator[str]:
    """Yield a note on images that EXIF turns, if there are any."""
    count = sum(one.orientation > 1 for one in facts.values())
    if count:
        yield f"{count:,} of {len(facts):,} images are turned as EXIF says; their labels are those of upright ones"


def contact_sheet(cells: Iterable[tuple[str, Image.Image]], title: str) -> Image.Image:
    """Return pictures in rows, each with a line of text below."""
    shown = list(cells)
    rows = max(1, -(-len(shown) // COLUMNS))
    gap = 8
    size = (gap + COLUMNS * (CELL + gap), _LINE + 2 * gap + rows * (CELL + _LINE + gap))
    sheet = Image.new("RGB", size, (250, 250, 248))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    pen.text((gap, gap), _latin(title), (30, 30, 34), font)
    for number, (text, picture) in enumerate(shown):
        left = gap + number % COLUMNS * (CELL + gap)
        top = _LINE + 2 * gap + number // COLUMNS * (CELL + _LINE + gap)
        sheet.paste(picture, (left, top))
        text = _latin(text)
        while font.getlength(text) > CELL:
            text = text[1:]
        pen.text((left, top + CELL + 1), text, (30, 30, 34), font)
    return sheet


def spread_out(items: Sequence[Any], count: int) -> list[Any]:
    """Return at most ``count`` of the items, at even distances."""
    if len(items) <= count:
        return list(items)
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def cell_scale(width: int, height: int) -> float:
    """Return what an image is multiplied by to fit into a contact sheet's cell."""
    return CELL / max(width, height)


def _latin(text: str) -> str:
    """Return text in the letters that Pillow's own font has."""
    return text.encode("latin-1", "replace").decode("latin-1")
