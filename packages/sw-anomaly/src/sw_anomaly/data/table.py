"""Reading a table of images and labels: a CSV file, of one's own or of VisA.

A column for the path and one for the label are needed; those for a mask, the part of the data (``train`` or ``test``)
and the category may be there. Paths are relative to the folder of the file, VisA's to the folder above. VisA: Zou et
al., "SPot-the-Difference Self-Supervised Pre-training for Anomaly Detection and Segmentation", ECCV 2022.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from sw_anomaly.data.category import GOOD, Category, LabelledImage, LeftOut, hold_out, is_good
from sw_anomaly.data.files import check_masks
from sw_models.errors import InputError
from sw_models.images import some

VISA = Path("split_csv", "1cls.csv")
COLUMNS = {  # by the names that people give them
    "path": ("path", "image", "image_path", "file", "filename", "file_name"),
    "label": ("label", "class", "kind", "defect", "target"),
    "mask": ("mask", "mask_path"),
    "split": ("split", "subset", "set", "part"),
    "category": ("category", "object", "product"),
}


def find_table(root: Path) -> Path | None:
    """Return the table that describes a data set, if there is one: the file itself, or VisA's in its folder."""
    if root.suffix.lower() == ".csv" and root.is_file():
        return root
    return root / VISA if (root / VISA).is_file() else None


def table_categories(path: Path) -> list[str]:
    """Names of the categories in a table, sorted; the name of the file if it has no column for them."""
    return sorted({row.get("category", path.stem) for row in read_rows(path, COLUMNS).values()})


def read_table(path: Path, name: str) -> Category:
    """List the images of a category in a table.

    Args:
        path: The CSV file.
        name: The category; the name of the file if it has no column for it.

    Raises:
        InputError: If the table is damaged, or a row is not clear; the message names the lines.
    """
    rows = {line: row for line, row in read_rows(path, COLUMNS).items() if row.get("category", path.stem) == name}
    base = path.parent.parent if path.parts[-2:] == VISA.parts else path.parent
    problems: list[str] = []
    parts: dict[str, list[LabelledImage]] = {"train": [], "test": [], "": []}
    left_out: list[LeftOut] = []
    for line, row in rows.items():
        part = row.get("split", "").casefold()
        image, mask = base / row["path"], base / row["mask"] if row.get("mask") else None
        kind = GOOD if is_good(row["label"]) or row["label"].casefold() in ("0", "false") else row["label"]
        missing = [str(file) for file in (image, mask) if file is not None and not file.is_file()]
        if missing or not (row["path"] and row["label"]):
            problems.append(f"line {line}: {missing[0]} is not a file" if missing else f"line {line}: an empty cell")
        elif part not in parts:
            problems.append(f"line {line}: got the part {part!r}, want train or test")
        elif part == "train" and kind != GOOD:
            left_out.append(LeftOut(image, "training takes good images alone"))
        else:
            parts[part].append(LabelledImage(image, kind, None if kind == GOOD else mask))
    if problems:
        raise InputError(f"{path}: {some(problems)}")
    train, test, unassigned = parts["train"], parts["test"], parts[""]
    defective = [image for image in unassigned if not image.is_good]
    good = [image for image in unassigned if image.is_good]
    kept, held_out = hold_out(good) if defective and good else (good, [])
    train, test = train + kept, test + held_out + defective
    check_masks(test, f"a path in its column {COLUMNS['mask'][0]}", left_out)
    return Category(name, tuple(train), tuple(test), tuple(left_out), "a table")


def read_rows(path: Path, columns: Mapping[str, Sequence[str]]) -> dict[int, Mapping[str, str]]:
    """Read a CSV file with a line of headings; its cells are between commas, semicolons or tabs.

    Args:
        path: The file.
        columns: Headings that people give each column; the first two columns are needed.

    Returns:
        The rows, by the number of their line, as cells by the names of their columns.

    Raises:
        InputError: If the file is damaged, or lacks a column.
    """
    canonical = {name: column for column, names in columns.items() for name in names}
    needed = list(columns)[:2]
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            table = csv.DictReader(file, delimiter=max(",;\t", key=first.count), strict=True)
            headings = [(heading or "").strip() for heading in table.fieldnames or ()]
            known = [canonical.get(heading.casefold()) for heading in headings]
            if not set(needed) <= set(known) or len(set(known) - {None}) < len([one for one in known if one]):
                raise InputError(
                    f"{path}: got the columns {', '.join(headings) or 'none'}, want one {needed[0]} and one {needed[1]}"
                )
            rows: dict[int, Mapping[str, str]] = {}
            for row in table:
                if None in row or None in row.values():
                    raise InputError(f"{path}: line {table.line_num}: got another number of cells than of columns")
                cells = [cell.strip() for cell in row.values()]
                rows[table.line_num] = {column: cell for column, cell in zip(known, cells, strict=True) if column}
    except (OSError, ValueError, csv.Error) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read as a CSV file ({error})") from error
    return rows
