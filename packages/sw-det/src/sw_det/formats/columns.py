"""Text files with an object in each line, whose columns the user names."""

from __future__ import annotations

from pathlib import Path

from sw_det.formats.pictures import Images, Picture, Pictures, Thing, lines_of, number, split_of
from sw_models.errors import InputError
from sw_models.images import some
from sw_sparse.openmmlab.splits import split_named

_CORNERS, _SIZES, _CENTER = ("x1", "y1", "x2", "y2"), ("x", "y", "w", "h"), ("cx", "cy", "w", "h")
COLUMNS = (*_CORNERS, *_SIZES, "cx", "cy", "class", "_")


def read_columns(root: Path, columns: str, pattern: str = "{}.*") -> Pictures:
    """Read a folder with a text file for each image.

    Lists of a split, such as ``train.txt`` or ``trainval.txt``, have a line for each image that begins with its name.

    Args:
        root: the folder.
        columns: their names in order, such as "x1 y1 x2 y2 class": corners, or "x y w h", or "cx cy w h" in pixels, and
            "class"; "_" is passed over.
        pattern: what an image is called, with "{}" for its text file's name, such as "{}_test.jpg".

    Raises:
        InputError: the columns are not as wanted, a line is malformed, or an image is not there.
    """
    names = columns.replace(",", " ").split()
    form = next((f for f in (_CORNERS, _SIZES, _CENTER) if set(f) <= set(names)), None)
    if form is None or "class" not in names or not set(names) <= set(COLUMNS):
        raise InputError(
            f"data_options.columns: got {columns!r}, want x1 y1 x2 y2 class, x y w h class, or _ for others"
        )
    images = Images(root)
    lists = {path: split for path in sorted(root.glob("*.txt")) if (split := _listed(path))}
    splits = {Path(line.split()[0]).stem: split for path, split in lists.items() for line in lines_of(path) if line}
    files = [path for path in sorted(root.rglob("*.txt")) if path not in lists and path.name != "classes.txt"]
    if not files:
        raise InputError(f"--data: {root} has no text files of objects")
    pictures = []
    for path in files:
        rows = [(place, line.replace(",", " ").split()) for place, line in enumerate(lines_of(path), 1) if line]
        things = [_thing(row, names, form, f"line {place} of {path}") for place, row in rows]
        found = [image for image in images.files if image.match(pattern.format(path.stem))]
        image = found[0] if len(found) == 1 else images.find(path.stem, path)
        pictures.append(Picture(image, things, splits.get(path.stem) or split_of(image, root)))
    notes = [f"columns {' '.join(names)}"]
    classes = _named(root, sorted({thing.name for picture in pictures for thing in picture.things}, key=_order))
    if classes:
        for picture in pictures:
            picture.things = [Thing(classes[t.name], t.box, t.polygons, t.crowd) for t in picture.things]
    return Pictures("text", root, pictures, list(classes.values()) or None, notes)


def _listed(path: Path) -> str | None:
    """Return the split that a list is of; "trainval" is split again."""
    return "trainval" if path.stem.lower() == "trainval" else split_named(path.stem)


def _order(name: str) -> tuple[int, str]:
    return (int(name), "") if name.isdigit() else (-1, name)


def _named(root: Path, found: list[str]) -> dict[str, str]:
    """Return names for the words of the column "class": those of classes.txt, in their order."""
    file = root / "classes.txt"
    if not file.is_file():
        return {word: f"class {word}" if word.isdigit() else word for word in found}
    names = [line for line in lines_of(file) if line]
    if len(names) != len(found):
        raise InputError(
            f"--data: {file} names {len(names)} classes, the text files hold {len(found)}: {some(found, 10)}"
        )
    return dict(zip(found, names, strict=True))


def _thing(row: list[str], names: list[str], form: tuple[str, ...], where: str) -> Thing:
    if len(row) != len(names):
        raise InputError(f"--data: {where} has {len(row)} columns, want {len(names)}: {' '.join(names)}")
    values = dict(zip(names, row, strict=True))
    a, b, c, d = (number(values[key], where) for key in form)
    if form is _CORNERS:
        c, d = c - a, d - b
    elif form is _CENTER:
        a, b = a - c / 2, b - d / 2
    if c < 0 or d < 0:
        raise InputError(f"--data: {where} has a box of width {c:g} and height {d:g}")
    return Thing(values["class"], (a, b, c, d))
