"""Reading the MVTec AD folder layout.

Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021:

    <root>/<category>/train/good/**                  good parts, all that training may see
    <root>/<category>/test/good/**                   good parts
    <root>/<category>/test/<defect>/**               defective parts, one folder per type
    <root>/<category>/ground_truth/<defect>/**       what is defective in them: <image>_mask.*

Files are listed by name, so that the order is the same on every file system. Case does not matter in the names of the
folders, and images may lie deeper in them. Every file is either taken or in ``Category.left_out``.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sw_anomaly.data.category import GOOD, Category, LabelledImage, LeftOut, count
from sw_models.errors import InputError
from sw_models.images import MAX_PIXELS, some
from sw_models.sources import IMAGE_SUFFIXES

MASK_WORDS = re.compile(  # what a mask's name may have after its image's
    r"[ ._-]*(masks?|gt|ground[ ._-]?truth|labels?|seg|segmentation|annotations?)$"
)
CLUTTER = frozenset({"Thumbs.db", "desktop.ini"})  # what file managers leave in folders
LAYOUT = "the layout <root>/<category>/train/good, test/<defect>"


def read_category(root: Path, name: str, max_pixels: int = MAX_PIXELS) -> Category:
    """List the images and masks of a category; nothing is decoded.

    Args:
        root: Folder of the data set.
        name: Folder of the category in it.
        max_pixels: The largest image that is going to be decoded.

    Returns:
        The images, and every file that is none of them, with the reason why it is not used.

    Raises:
        InputError: If the layout is not that of the module's text, or an image or a mask could only be guessed.
    """
    folder = root / name
    if not name or not folder.is_dir():
        present = ", ".join(list_categories(root)) or "none in MVTec AD layout"
        raise InputError(f"category: got {name!r}, which is not in {root}; want one of: {present}")
    left_out: list[LeftOut] = []
    train = [
        LabelledImage(path, GOOD)
        for kind in _folders(_subfolder(folder, "train"), left_out)
        for path in _images(kind, left_out, wanted=_is_good(kind), reason="training takes train/good alone")
    ]
    if len(train) < 2:
        raise InputError(f"{folder / 'train' / GOOD}: got {count(train, 'image')}, want at least 2{_also(left_out)}")
    test: list[LabelledImage] = []
    if (tested := _subfolder(folder, "test")).is_dir():
        truth = _subfolder(folder, "ground_truth")
        for kind in _folders(tested, left_out):
            before = len(left_out)
            images = _images(kind, left_out)
            if not images and len(left_out) > before:
                raise InputError(f"{kind}: got no image that can be read, want some{_also(left_out[before:])}")
            if _is_good(kind):
                test += [LabelledImage(path, GOOD) for path in images]
            else:
                masks = pair_masks(kind, images, _subfolder(truth, kind.name), left_out)
                test += [LabelledImage(path, kind.name, masks.get(path)) for path in images]
        left_out += _masks_of_nothing(truth, {image.kind.casefold() for image in test if not image.is_good})
    without_mask = [str(image.path) for image in test if not image.is_good and image.mask_path is None]
    if without_mask:
        others = [one for one in left_out if one.reason.startswith("a mask")]
        raise InputError(
            f"{count(without_mask, 'defective image')} without a mask: {some(without_mask)}; want "
            f"{folder / 'ground_truth'}/<defect>/<image>_mask.png for each{_also(others)}"
        )
    train, test = ([replace(image, max_pixels=max_pixels) for image in images] for images in (train, test))
    return Category(name, tuple(train), tuple(test), tuple(left_out))


def list_categories(root: Path) -> list[str]:
    """Names of the folders below ``root`` that have a ``train/good`` folder, sorted.

    Raises:
        InputError: If ``root`` is not a folder.
    """
    return [
        folder.name
        for folder in _folders(root, [])
        if (train := _subfolder(folder, "train")).is_dir() and _subfolder(train, GOOD).is_dir()
    ]


def pair_masks(kind: Path, images: Sequence[Path], folder: Path, left_out: list[LeftOut]) -> dict[Path, Path]:
    """Find the mask of each image by its name.

    A mask has the image's name, in any case and with any suffix of an image, and may have a word such as ``_mask`` or
    ``_gt`` after it. It lies where the image does, or anywhere in ``folder`` if that leaves no doubt.

    Args:
        kind: The folder of the images.
        images: Images somewhere below ``kind``.
        folder: The folder of their masks, which need not exist.
        left_out: Gets the masks that belong to no image.

    Returns:
        Masks by image; images without one are not in it.

    Raises:
        InputError: If an image has several masks.
    """
    by_stem: dict[str, list[Path]] = defaultdict(list)
    for image in images:
        by_stem[image.stem.casefold()].append(image)
    found: dict[Path, list[Path]] = defaultdict(list)
    for mask in _images(folder, left_out) if folder.is_dir() else []:
        stem = mask.stem.casefold()
        named = by_stem.get(stem) or by_stem.get(MASK_WORDS.sub("", stem)) or []
        near = [one for one in named if one.parent.relative_to(kind) == mask.parent.relative_to(folder)] or named
        exact = [one for one in near if mask.stem.startswith(one.stem)] or near
        if len({one.parent for one in exact}) != 1:
            why = f"a mask of any of {len(exact)} images" if exact else "a mask of no image here"
            left_out.append(LeftOut(mask, why))
        for image in exact if len({one.parent for one in exact}) == 1 else []:
            found[image].append(mask)
    masks = {}
    for image, several in found.items():
        best = [mask for mask in several if mask.stem.casefold() == f"{image.stem}_mask".casefold()] or several
        if len(best) > 1:
            raise InputError(f"{image}: got {len(best)} masks, {some(best)}; want one")
        masks[image] = best[0]
        left_out += [LeftOut(mask, f"a mask beside {best[0].name}") for mask in several if mask != best[0]]
    return masks


def _is_good(folder: Path) -> bool:
    return folder.name.casefold() == GOOD


def _subfolder(folder: Path, name: str) -> Path:
    """The folder of this name in whatever case; the one in this very case goes first."""
    if (folder / name).is_dir() or not folder.is_dir():
        return folder / name
    return next(
        (one for one in sorted(folder.iterdir()) if one.name.casefold() == name and one.is_dir()), folder / name
    )


def _folders(folder: Path, left_out: list[LeftOut]) -> list[Path]:
    """The folders in a folder, by name; visible files beside them are left out."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; want {LAYOUT}")
    visible = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    left_out += [LeftOut(path, "not in a folder of a type") for path in visible if _is_image(path)]
    return [path for path in visible if path.is_dir()]


def _images(folder: Path, left_out: list[LeftOut], wanted: bool = True, reason: str = "") -> list[Path]:
    """The images in a folder and below it, by name; all other visible files are left out, and all if not wanted."""
    taken = []
    for path in sorted(folder.rglob("*")):
        is_link = path.is_symlink() and not path.is_file()  # to a folder, which could be above, or to nothing
        if any(part.startswith(".") for part in path.relative_to(folder).parts) or path.name in CLUTTER:
            continue
        if wanted and _is_image(path):
            taken.append(path)
        elif is_link or not path.is_dir():
            why = "a link, and not to a file" if is_link else f"{path.suffix or 'without a suffix'} is not read"
            left_out.append(LeftOut(path, reason or why))
    return taken


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()


def _masks_of_nothing(truth: Path, kinds: set[str]) -> list[LeftOut]:
    """Folders of masks for which there are no images."""
    folders = _folders(truth, []) if truth.is_dir() else []
    return [LeftOut(one, "masks of no defective images") for one in folders if one.name.casefold() not in kinds]


def _also(left_out: Sequence[LeftOut]) -> str:
    """What was left out, as the end of a message."""
    reasons = defaultdict(list)
    for one in left_out:
        reasons[one.reason].append(one.path)
    return "".join(f"; left out, {reason}: {some(paths)}" for reason, paths in reasons.items())
