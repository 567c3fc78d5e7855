"""Pascal VOC: an XML file for each image, beside it or in ``Annotations/``, and lists of the splits."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from sw_det.formats.pictures import Images, Picture, Pictures, Thing, lines_of, number, split_of
from sw_models.errors import InputError
from sw_sparse.openmmlab.splits import split_named


def read_voc(root: Path) -> Pictures | None:
    """Read a folder with VOC's XML files; None if it has none.

    Coordinates count from 1, as VOC's do, unless a 0 among them shows that they count from 0.

    Raises:
        InputError: a file is malformed, or its image is not there.
    """
    trees = [(path, tree) for path in sorted(root.rglob("*.xml")) if (tree := parse(path)).tag == "annotation"]
    if not trees:
        return None
    images = Images(root)
    listed = _listed_splits(root)
    corners = {(corner.text or "").strip() for _, tree in trees for corner in tree.iterfind(".//bndbox/*")}
    first = 0 if corners & {"0", "0.0"} else 1
    pictures = []
    for path, tree in trees:
        image = images.find(tree.findtext("filename") or path.stem, path)
        things = [_thing(item, path, first) for item in tree.iterfind("object")]
        split = listed.get(path.stem) or listed.get(image.stem) or split_of(path, root) or split_of(image, root)
        pictures.append(Picture(image, things, split))
    difficult = sum(thing.crowd for picture in pictures for thing in picture.things)
    notes = [f"coordinates count from {first}"]
    if difficult:
        notes.append(f"{difficult:,} difficult objects are neither learned nor counted")
    return Pictures("Pascal VOC", root, pictures, notes=notes)


def parse(path: Path) -> ElementTree.Element:
    """Return the root of an XML file.

    Raises:
        InputError: it cannot be parsed.
    """
    try:
        return ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, OSError, ValueError) as error:
        raise InputError(f"--data: {path} is no XML ({error})") from error


def _thing(item: ElementTree.Element, path: Path, first: int) -> Thing:
    name, box = (item.findtext("name") or "").strip(), item.find("bndbox")
    if not name or box is None:
        raise InputError(f"--data: {path} has an object without {'a bndbox' if name else 'a name'}")
    left, top, right, bottom = (
        number(box.findtext(key), f"{path}, {key} of a {name},") for key in ("xmin", "ymin", "xmax", "ymax")
    )
    if right < left or bottom < top:
        raise InputError(f"--data: {path} has a {name} from {left:g} {top:g} to {right:g} {bottom:g}, want xmin < xmax")
    left, top = left - first, top - first
    return Thing(
        name, (left, top, right - left, bottom - top), crowd=(item.findtext("difficult") or "0").strip() == "1"
    )


def _listed_splits(root: Path) -> dict[str, str]:
    """Return the split of each image that ``ImageSets/Main`` lists, by its name without suffix."""
    found: dict[str, str] = {}
    for path in sorted(root.rglob("ImageSets/Main/*.txt")):
        if split := split_named(path.stem):
            found |= {Path(line.split()[0]).stem: split for line in lines_of(path) if line}
    return found
