"""What every format is read into, and finding the images that its files speak of."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from sw_models.errors import InputError
from sw_models.sources import IMAGE_SUFFIXES
from sw_sparse.openmmlab.splits import split_named


@dataclass(frozen=True)
class Thing:
    """An annotated object.

    Attributes:
        name: of its class.
        box: left, top, width and height in pixels.
        polygons: x and y of corners, one after the other; none where there are boxes alone.
        crowd: whether it is to be passed over when detections are counted, such as VOC's "difficult" ones.
    """

    name: str
    box: tuple[float, float, float, float]
    polygons: tuple[tuple[float, ...], ...] = ()
    crowd: bool = False


@dataclass
class Picture:
    """An image, what is in it, and the split that it belongs to, if that is said anywhere."""

    path: Path
    things: list[Thing] = field(default_factory=list)
    split: str | None = None


@dataclass
class Pictures:
    """A data set.

    Attributes:
        kind: the format's name.
        root: a folder with all images in it.
        pictures: the images.
        classes: their names, in order; None for those that occur, sorted.
        notes: what was recognized or left out, a sentence each.
    """

    kind: str
    root: Path
    pictures: list[Picture]
    classes: list[str] | None = None
    notes: list[str] = field(default_factory=list)


class Images:
    """The image files below a folder, to be found by what annotation files call them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = [
            path
            for path in sorted(root.rglob("*"))
            if path.suffix.lower() in IMAGE_SUFFIXES
            and not any(part.startswith(".") for part in path.relative_to(root).parts)
        ]
        self._known = set(self.files)
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        for path in self.files:
            self._by_name[path.name].append(path)
            if path.stem != path.name:
                self._by_name[path.stem].append(path)

    def find(self, name: str, beside: Path) -> Path:
        """Return the image that is called ``name``, with or without its suffix, in the annotation file ``beside``.

        Raises:
            InputError: there is none below the folder, or several that would do.
        """
        relative = name.replace("\\", "/")
        for base in (beside.parent, self.root):
            if (base / relative) in self._known:
                return base / relative
        last = relative.rpartition("/")[2]
        for called in (last, Path(last).stem, beside.stem):
            found = list(dict.fromkeys(self._by_name.get(called, [])))
            near = [path for path in found if path.parent == beside.parent] or [
                path for path in found if split_of(path, self.root) == split_of(beside, self.root)
            ]
            if len(found) == 1 or len(near) == 1:
                return (near or found)[0]
            if len(found) > 1:
                among = ", ".join(str(path.relative_to(self.root)) for path in found[:3])
                raise InputError(f"--data: {beside} names the image {name}, which may be any of {among}")
        raise InputError(f"--data: {beside} names the image {name}, which is not below {self.root}")


def split_of(path: Path, root: Path) -> str | None:
    """Return the split whose name a folder between ``root`` and ``path`` has."""
    parts = path.relative_to(root).parts[:-1]
    return next((split for part in parts if (split := split_named(part))), None)


def around(points: tuple[float, ...]) -> tuple[float, float, float, float]:
    """Return the box around a polygon."""
    left, top = min(points[0::2]), min(points[1::2])
    return left, top, max(points[0::2]) - left, max(points[1::2]) - top


def lines_of(path: Path) -> list[str]:
    """Return the lines of a text file, without spaces around them.

    Raises:
        InputError: it is no text in UTF-8.
    """
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except ValueError as error:
        raise InputError(f"--data: {path} is no text in UTF-8 ({error})") from error


def number(text: object, where: str) -> float:
    """Return a finite number.

    Raises:
        InputError: the text is none.
    """
    try:
        value = float(text)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        value = float("nan")
    if not abs(value) < 1e9:
        raise InputError(f"--data: {where} has {text!r}, want a number")
    return value
