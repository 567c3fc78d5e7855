"""YOLO: a text file for each image, of lines ``class x y width height`` or ``class x1 y1 x2 y2 ...``, in shares."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from sw_det.formats.pictures import Images, Picture, Pictures, Thing, around, lines_of, split_of
from sw_models.errors import InputError
from sw_models.images import look_at_images, some
from sw_sparse.openmmlab.splits import split_named

_NAMES = ("classes.txt", "obj.names", "labels.txt")


def read_yolo(root: Path, max_pixels: int) -> Pictures | None:
    """Read a folder with ``data.yaml``, or with ``labels/`` and ``classes.txt``; None if it is no YOLO folder.

    An image without a text file has no objects.

    Raises:
        InputError: a line is malformed, a class has no name, or there are no images.
    """
    settings = _settings(root)
    if settings is None and not any((root / name).is_file() for name in _NAMES):
        return None
    if settings is None and not any(path.suffix == ".txt" for path in root.rglob("labels/**/*.txt")):
        return None
    classes = _class_names(root, settings)
    images = Images(root)
    splits = _splits(root, settings, images) if settings is not None else {}
    paths = list(splits) or images.files
    if not paths:
        raise InputError(f"--data: {root} holds no images")
    facts = look_at_images(paths, max_pixels)
    pictures, absent = [], 0
    for path in paths:
        file = _text_file(path)
        absent += not file.is_file()
        size = facts[path].width, facts[path].height  # 0 for an image that cannot be read, which is refused later
        things = list(_things(file, classes, size)) if file.is_file() else []
        pictures.append(Picture(path, things, splits.get(path) or split_of(path, root)))
    if absent == len(paths):
        raise InputError(f"--data: {root} has no text file for any image, want {_text_file(paths[0])}")
    notes = [f"{absent:,} of {len(paths):,} images have no text file, so no objects"] if absent else []
    return Pictures("YOLO", root, pictures, classes, notes)


def _settings(root: Path) -> dict[str, Any] | None:
    for path in sorted((*root.glob("*.yaml"), *root.glob("*.yml")), key=lambda p: (p.stem != "data", p.name)):
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
        except (yaml.YAMLError, ValueError) as error:
            raise InputError(f"--data: {path} is no YAML ({error})") from error
        if isinstance(content, dict) and "names" in content:
            return content
    return None


def _class_names(root: Path, settings: dict[str, Any] | None) -> list[str]:
    if settings is None:
        file = next(root / name for name in _NAMES if (root / name).is_file())
        return [line for line in lines_of(file) if line]
    names = settings["names"]
    if isinstance(names, dict):
        if sorted(names) != list(range(len(names))):
            raise InputError(
                f"--data: the YAML file of {root} names the classes {some(sorted(names))}, want 0, 1, 2, ..."
            )
        names = [names[key] for key in range(len(names))]
    if not isinstance(names, list) or not names:
        raise InputError(f"--data: the YAML file of {root} has names={names!r:.60}, want a list")
    return [str(name) for name in names]


def _splits(root: Path, settings: dict[str, Any], images: Images) -> dict[Path, str]:
    """Return the images that the settings list, each with its split."""
    found: dict[Path, str] = {}
    base = root / str(settings.get("path") or "")
    for key, value in settings.items():
        split = split_named(str(key))
        if split is None or not value:
            continue
        for place in value if isinstance(value, list) else [value]:
            for path in _place(root, base, str(place), images):
                found.setdefault(path, split)
    return found


def _place(root: Path, base: Path, place: str, images: Images) -> list[Path]:
    """Return the images of a folder or a list; Roboflow's ``../train/images`` lies below the root."""
    below = Path(*[part for part in Path(place).parts if part not in ("..", ".", "/")] or ["."])
    for folder in (base / place, root / below, *(root / Path(*below.parts[i:]) for i in range(1, len(below.parts)))):
        if folder.is_file() and folder.suffix == ".txt":
            return [images.find(line, folder) for line in lines_of(folder) if line]
        if folder.is_dir() and root.resolve() in (folder.resolve(), *folder.resolve().parents):
            inside = folder.resolve()
            return [path for path in images.files if inside in path.resolve().parents]
    raise InputError(f"--data: the YAML file of {root} says {place}, which is not in the folder")


def _text_file(image: Path) -> Path:
    """Return where the objects of an image are listed: ``labels/`` for ``images/``, the same folder elsewhere."""
    parts = list(image.parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            return Path(*parts).with_suffix(".txt")
    return image.with_suffix(".txt")


def _things(file: Path, classes: list[str], size: tuple[int, int]) -> Iterator[Thing]:
    width, height = size
    for place, line in enumerate(lines_of(file), start=1):
        if not line:
            continue
        words = line.split()
        try:
            label, values = int(words[0]), [float(word) for word in words[1:]]
        except ValueError:
            label, values = -1, []
        if len(values) < 4 or len(values) % 2 or (4 < len(values) < 6):
            raise InputError(
                f"--data: line {place} of {file} is {line[:60]!r}, want a class number and x, y, width, height, or"
                " three points or more"
            )
        if not 0 <= label < len(classes):
            raise InputError(f"--data: line {place} of {file} has class {label}, want 0 to {len(classes) - 1}")
        if not all(-0.01 <= value <= 1.01 for value in values):
            raise InputError(f"--data: line {place} of {file} is {line[:60]!r}, want shares of the image, 0 to 1")
        if len(values) == 4:
            x, y, w, h = values
            yield Thing(classes[label], ((x - w / 2) * width, (y - h / 2) * height, w * width, h * height))
        else:
            points = tuple(v * (height if i % 2 else width) for i, v in enumerate(values))
            yield Thing(classes[label], around(points), (points,))
