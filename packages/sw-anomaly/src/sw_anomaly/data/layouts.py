"""How people lay out images of parts, recognized by looking; whatever it is, it becomes a ``Category``.

    MVTec AD, BTAD      <root>/<category>/train/good, test/<defect>, ground_truth/<defect>; see ``mvtec``
    good and others     <root>/<category>/good, <root>/<category>/<defect>, with masks or without
    good images alone   <root>/<category>/*.png, to train on
    a table             <root>.csv, or VisA's <root>/split_csv/1cls.csv; see ``table``

The folder of one category may be given as the root, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from sw_anomaly.data.category import GOOD, Category, LabelledImage, LeftOut, count, hold_out, is_good
from sw_anomaly.data.files import (
    also,
    check_masks,
    is_image,
    list_folders,
    list_images,
    pair_masks,
    subfolder,
)
from sw_anomaly.data.mvtec import read_mvtec
from sw_anomaly.data.table import find_table, read_table, table_categories
from sw_models.errors import InputError
from sw_models.images import MAX_PIXELS

TRUTH = ("ground_truth", "masks", "mask", "gt")  # folders of masks beside those of images
WANTED = "train/good, good or images in the folder of a category, or a CSV file of paths and labels"


def read_category(root: Path, name: str, max_pixels: int = MAX_PIXELS) -> Category:
    """List the images and masks of a category; nothing is decoded.

    Args:
        root: Folder of the data set, or a table of it.
        name: Name of the category in it.
        max_pixels: The largest image that is going to be decoded.

    Returns:
        The images, and every file that is none of them, with the reason why it is not used.

    Raises:
        InputError: If there is no such category, or an image, a label or a mask could only be guessed.

    Example:
        >>> category = read_category(Path("data"), "screw")
        >>> len(category.train), len(category.test)
    """
    read: Callable[[Path, str], Category] | None
    if (table := find_table(root)) is not None:
        place, read = table, read_table if name in table_categories(table) else None
    else:
        place = root if _is_category(root, name) else root / name
        read = _reader(place) if name and place.is_dir() else None
    if read is None:
        present = ", ".join(list_categories(root)) or f"none; a category has {WANTED}"
        raise InputError(f"category: got {name!r}, which is not in {root}; want one of: {present}")
    found = read(place, name)
    if len(found.train) < 2:
        raise InputError(f"{place}: got {count(found.train, 'good image')} to train on, want 2{also(found.left_out)}")
    train, test = (
        tuple(replace(image, max_pixels=max_pixels) for image in images) for images in (found.train, found.test)
    )
    return replace(found, train=train, test=test)


def list_categories(root: Path) -> list[str]:
    """Names of the categories in a folder of data or a table, sorted.

    Folders that hold nothing but images count where there are no others.

    Raises:
        InputError: If ``root`` is neither.
    """
    if (table := find_table(root)) is not None:
        return table_categories(table)
    folders = list_folders(root, [])
    if _reader(root) in (read_mvtec, _read_good_and_others):
        return [root.resolve().name]
    readers = {folder.name: _reader(folder) for folder in folders}
    labelled = [name for name, read in readers.items() if read in (read_mvtec, _read_good_and_others)]
    alone = [name for name, read in readers.items() if read is _read_good]
    return labelled or alone or ([root.resolve().name] if _reader(root) else [])


def _is_category(root: Path, name: str) -> bool:
    return root.is_dir() and root.resolve().name == name and not (root / name).is_dir() and _reader(root) is not None


def _reader(folder: Path) -> Callable[[Path, str], Category] | None:
    """Return what reads the layout of a category's folder; None if it is none."""
    folders = [one for one in folder.iterdir() if one.is_dir() and not one.name.startswith(".")]
    if any(one.name.casefold() == "train" for one in folders):
        return read_mvtec
    if any(is_good(one.name) for one in folders):
        return _read_good_and_others
    return _read_good if any(is_image(path) for path in folder.iterdir()) else None


def _read_good_and_others(folder: Path, name: str) -> Category:
    """Return a folder of good images and one for each type of defect, with masks of all of them or of none."""
    left_out: list[LeftOut] = []
    good: list[LabelledImage] = []
    defective: list[LabelledImage] = []
    truth = next((one for one in map(partial(subfolder, folder), TRUTH) if one.is_dir()), folder / TRUTH[0])
    for kind in list_folders(folder, left_out):
        if kind == truth:
            continue
        images = list_images(kind, left_out)
        if is_good(kind.name):
            good += [LabelledImage(path, GOOD) for path in images]
        else:
            masks = pair_masks(kind, images, subfolder(truth, kind.name), left_out)
            defective += [LabelledImage(path, kind.name, masks.get(path)) for path in images]
    check_masks(defective, f"{truth}/<defect>/<image>_mask.png", left_out)
    train, tested = hold_out(good) if defective else (good, [])
    return Category(name, tuple(train), (*tested, *defective), tuple(left_out), "good and others")


def _read_good(folder: Path, name: str) -> Category:
    left_out: list[LeftOut] = []
    train = tuple(LabelledImage(path, GOOD) for path in list_images(folder, left_out))
    return Category(name, train, (), tuple(left_out), "good images alone")
