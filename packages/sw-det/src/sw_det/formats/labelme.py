"""Labelme's JSON file for each image, and CVAT's XML file for all of them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from sw_det.formats.pictures import Images, Picture, Pictures, Thing, around, number, split_of
from sw_det.formats.voc import parse
from sw_models.errors import InputError
from sw_sparse.openmmlab.splits import split_named

_CIRCLE = 32  # corners of a circle's polygon


def read_labelme(root: Path) -> Pictures | None:
    """Read a folder with Labelme's files; None if it has none.

    Raises:
        InputError: a file is malformed, or its image is not there.
    """
    found = [(path, content) for path in sorted(root.rglob("*.json")) if (content := _labelme(path)) is not None]
    if not found:
        return None
    images = Images(root)
    pictures = []
    others = 0
    for path, content in found:
        image = images.find(str(content.get("imagePath") or path.stem), path)
        things = []
        for shape in content["shapes"]:
            thing = _of_shape(shape, path)
            others += thing is None
            things += [thing] if thing else []
        pictures.append(Picture(image, things, split_of(path, root) or split_of(image, root)))
    notes = [f"{others:,} points and lines are left out"] if others else []
    return Pictures("Labelme", root, pictures, notes=notes)


def read_cvat(root: Path) -> Pictures | None:
    """Read a folder with CVAT's "CVAT for images" XML file; None if it has none.

    Raises:
        InputError: the file is malformed, or an image is not there.
    """
    found = [(path, tree) for path in sorted(root.glob("*.xml")) if (tree := parse(path)).tag == "annotations"]
    if not found:
        return None
    images = Images(root)
    pictures = []
    others = 0
    for path, tree in found:
        for item in tree.iterfind("image"):
            name = item.get("name", "")
            image = images.find(name, path)
            split = split_named(item.get("subset", "")) or split_of(image, root)
            things = []
            for shape in item:
                thing = _of_element(shape, f"{path}, image {name},")
                others += thing is None and shape.tag != "tag"
                things += [thing] if thing else []
            pictures.append(Picture(image, things, split))
    notes = [f"{others:,} shapes that are no boxes and polygons are left out"] if others else []
    return Pictures("CVAT", root, pictures, notes=notes)


def _labelme(path: Path) -> dict[str, Any] | None:
    """Return the content of a file if it is Labelme's."""
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError, OSError) as error:
        raise InputError(f"--data: {path} is no JSON ({error})") from error
    return content if isinstance(content, dict) and isinstance(content.get("shapes"), list) else None


def _of_shape(shape: Any, path: Path) -> Thing | None:
    if not isinstance(shape, dict) or not isinstance(shape.get("points"), list):
        raise InputError(f"--data: {path} has a shape without points")
    name = str(shape.get("label") or "").strip()
    if not name:
        raise InputError(f"--data: {path} has a shape without a label")
    where = f"{path}, a {name},"
    pairs = [p if isinstance(p, list) and len(p) == 2 else [None, None] for p in shape["points"]]
    points = tuple(number(value, where) for pair in pairs for value in pair)
    kind = shape.get("shape_type") or "polygon"
    if kind == "rectangle" and len(points) >= 4:
        return Thing(name, around(points))
    if kind == "circle" and len(points) == 4:
        x, y, edge_x, edge_y = points
        radius = math.hypot(edge_x - x, edge_y - y)
        angles = [2 * math.pi * i / _CIRCLE for i in range(_CIRCLE)]
        circle = tuple(v for a in angles for v in (x + radius * math.cos(a), y + radius * math.sin(a)))
        return Thing(name, around(circle), (circle,))
    return Thing(name, around(points), (points,)) if kind == "polygon" and len(points) >= 6 else None


def _of_element(shape: ElementTree.Element, where: str) -> Thing | None:
    name = shape.get("label", "").strip()
    if shape.tag == "box" and name:
        left, top, right, bottom = (number(shape.get(key), where) for key in ("xtl", "ytl", "xbr", "ybr"))
        return Thing(name, (left, top, right - left, bottom - top))
    if shape.tag == "polygon" and name:
        words = shape.get("points", "").replace(";", ",").split(",")
        points = tuple(number(word, where) for word in words)
        if len(points) < 6 or len(points) % 2:
            raise InputError(f"--data: {where} has a polygon of {len(points)} numbers, want three points or more")
        return Thing(name, around(points), (points,))
    return None
