"""One page on a run, for a browser without a network: curves, figures, the worst images, and what the data are."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from sw_models.console import cell
from sw_models.errors import InputError
from sw_models.files import write_atomically
from sw_sparse.openmmlab.checkpoint import load_model
from sw_sparse.openmmlab.data_report import say
from sw_sparse.openmmlab.task import Task

NAME = "report.html"
MOST_IMAGES = 100  # of the validation images, evenly spaced: more tell no more
WORST = 8  # images that are shown
_MOST_CLASSES = 25  # in a confusion matrix that can be read
_SIDE = 420  # pixels of a picture's longer side

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 1150px; margin: 2em auto; padding: 0 1em; color: #1c1c22 }
h1, h2 { font-weight: 600 } h2 { margin-top: 2em; border-bottom: 1px solid #ddd }
table { border-collapse: collapse } th, td { padding: 2px 12px 2px 0; text-align: right }
th:first-child, td:first-child { text-align: left } th { border-bottom: 1px solid #999 }
img { max-width: 100% }
figure { display: inline-block; margin: 6px; vertical-align: top } figcaption { font-size: 13px }
.synthetic { background: #fff3c4; padding: 6px 10px }
"""


@dataclass
class Section:
    """A part of the page.

    Attributes:
        title: of the part.
        notes: sentences.
        rows: of a table, all with the same keys.
        figures: captions and pictures.
    """

    title: str
    notes: Sequence[str] = ()
    rows: Sequence[Mapping[str, Any]] = ()
    figures: Sequence[tuple[str, Image.Image | Figure]] = ()


def write_report(task: Task, cfg: Any, folder: Path, summary: Mapping[str, Any]) -> str | None:
    """Look at the validation images with a run's best checkpoint, and write the page into its folder.

    Returns:
        The file; None for a task without a report, or where it could not be made, which is said.
    """
    if task.report is None:
        return None
    try:
        return str(_write(task, task.report, cfg, folder, summary))
    except InputError as error:  # what was trained is there all the same
        say(f"no report: {error}")
        return None


def _write(task: Task, of_model: Any, cfg: Any, folder: Path, summary: Mapping[str, Any]) -> Path:
    model = load_model(cfg, Path(summary["checkpoint"]))
    facts = [{"": str(name), " ": _short(value)} for name, value in summary.items()]
    sections = [Section(folder.name, rows=facts)]
    if (folder / "curves.png").is_file():
        sections.append(Section("Curves", figures=[("", Image.open(folder / "curves.png"))]))
    sections += of_model(model, cfg)
    sections += _data(task, cfg)
    text = page(f"{task.command}: {folder.name}", sections, synthetic="synthetic-data" in str(cfg.get("data_root")))
    write_atomically(folder / NAME, lambda file: file.write_text(text, encoding="utf-8"))
    return folder / NAME


def page(title: str, sections: Iterable[Section], synthetic: bool = False) -> str:
    """Return HTML with everything inside."""
    warning = '<p class="synthetic">SYNTHETIC: drawn shapes, for trying the program and not for results.</p>'
    body = "".join(map(_section, sections))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style><h1>{html.escape(title)}</h1>{warning if synthetic else ''}{body}</html>\n"
    )


def draw_matrix(counts: NDArray[np.int64], truth: Sequence[str], seen: Sequence[str]) -> Figure:
    """Return a confusion matrix in shares of its rows; classes that are too many for it are left out, rarest first.

    Args:
        counts: ``[len(truth), len(seen)]``: how often what is a thing was taken for another.
        truth: the names of rows.
        seen: the names of columns, which begin with those of the rows.
    """
    common = np.sort(counts.sum(axis=1).argsort(kind="stable")[::-1][:_MOST_CLASSES])
    columns = [*(c for c in common if c < len(seen)), *(c for c in range(len(truth), len(seen)))]
    shown = counts[np.ix_(common, columns)]
    shares = shown / np.maximum(counts[common].sum(axis=1, keepdims=True), 1)
    side = 2.5 + 0.42 * max(shown.shape)
    figure = Figure(figsize=(side + 1, side))
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(columns)), [seen[c] for c in columns], rotation=60, ha="right", fontsize=8)
    axes.set_yticks(range(len(common)), [truth[r] for r in common], fontsize=8)
    axes.set(xlabel="seen as", ylabel="is")
    if shown.size <= 400:
        for row, column in np.ndindex(*shown.shape):
            color = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, f"{shares[row, column]:.2f}", ha="center", va="center", fontsize=7, color=color)
    figure.tight_layout()
    return figure


def side_by_side(left: Image.Image, right: Image.Image) -> Image.Image:
    """Return two pictures of an image beside each other, made smaller."""
    scale = min(1.0, _SIDE / max(left.size))
    parts = [one.resize((max(1, round(one.width * scale)), max(1, round(one.height * scale)))) for one in (left, right)]
    both = Image.new("RGB", (parts[0].width + parts[1].width + 6, max(part.height for part in parts)), "white")
    both.paste(parts[0], (0, 0))
    both.paste(parts[1], (parts[0].width + 6, 0))
    return both


def _data(task: Task, cfg: Any) -> list[Section]:
    """Return what the check of the data found, where they are somebody's folder."""
    folder = Path(str(cfg.get("data_root") or ""))
    if not folder.is_dir():
        return []
    try:
        report, draw = task.check(folder, cfg.get("data_options") or {})
    except InputError:  # a configuration that reads other data than a folder's
        return []
    return [Section("Data", [*report.notes, *report.refused], report.rows, [("", draw())])]


def _section(section: Section) -> str:
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in section.notes)
    parts = [f"<h2>{html.escape(section.title)}</h2>", f"<ul>{notes}</ul>" if notes else ""]
    if section.rows:
        heads = "".join(f"<th>{html.escape(name)}</th>" for name in section.rows[0])
        lines = ("".join(f"<td>{html.escape(cell(value))}</td>" for value in row.values()) for row in section.rows)
        parts.append(f"<table><tr>{heads}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>")
    for caption, picture in section.figures:
        below = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
        parts.append(f'<figure><img alt="{html.escape(caption)}" src="{_inside(picture)}">{below}</figure>')
    return "".join(parts)


def _inside(picture: Image.Image | Figure) -> str:
    """Return a picture as a part of the page: photographs as JPEG, drawings as PNG."""
    buffer = io.BytesIO()
    if isinstance(picture, Figure):
        picture.savefig(buffer, format="png", dpi=100)
        kind = "png"
    else:
        picture.convert("RGB").save(buffer, "JPEG", quality=88)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
