"""The files of a category: folders and images by name, and which mask belongs to which image."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from sw_anomaly.data.category import LabelledImage, LeftOut, count
from sw_models.errors import InputError
from sw_models.images import some
from sw_models.sources import IMAGE_SUFFIXES

MASK_WORDS = re.compile(  # what a mask's name may have after its image's
    r"[ ._-]*(masks?|gt|ground[ ._-]?truth|labels?|seg|segmentation|annotations?)$"
)
CLUTTER = frozenset({"Thumbs.db", "desktop.ini"})  # what file managers leave in folders


def check_masks(
    images: Sequence[LabelledImage], wanted: str, left_out: Sequence[LeftOut], needed: bool = False
) -> None:
    """Refuse defective images without a mask where others have one.

    Args:
        images: The test images.
        wanted: Where masks are looked for.
        left_out: Files that are not used, among them masks.
        needed: Refuse them also if none has a mask.

    Raises:
        InputError: If defects of some images would count as good pixels; the message names them.
    """
    defective = [image for image in images if not image.is_good]
    bare = [image.path for image in defective if image.mask_path is None]
    if bare and (needed or len(bare) < len(defective)):
        others = [one for one in left_out if one.reason.startswith("a mask")]
        raise InputError(f"{count(bare, 'defective image')} without a mask: {some(bare)}; want {wanted}{also(others)}")


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
    for mask in list_images(folder, left_out) if folder.is_dir() else []:
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


def subfolder(folder: Path, name: str) -> Path:
    """Return the folder of this name in whatever case; the one in this very case goes first."""
    if (folder / name).is_dir() or not folder.is_dir():
        return folder / name
    return next(
        (one for one in sorted(folder.iterdir()) if one.name.casefold() == name and one.is_dir()), folder / name
    )


def list_folders(folder: Path, left_out: list[LeftOut]) -> list[Path]:
    """Return the folders in a folder, by name; visible files beside them are left out."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; want one of images of parts")
    visible = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    left_out += [LeftOut(path, "not in a folder of a type") for path in visible if is_image(path)]
    return [path for path in visible if path.is_dir()]


def list_images(folder: Path, left_out: list[LeftOut], wanted: bool = True, reason: str = "") -> list[Path]:
    """List the images in a folder and below it, by name; other visible files are left out, and all if not wanted."""
    taken = []
    for path in sorted(folder.rglob("*")):
        is_link = path.is_symlink() and not path.is_file()  # to a folder, which could be above, or to nothing
        if any(part.startswith(".") for part in path.relative_to(folder).parts) or path.name in CLUTTER:
            continue
        if wanted and is_image(path):
            taken.append(path)
        elif is_link or not path.is_dir():
            why = "a link, and not to a file" if is_link else f"{path.suffix or 'without a suffix'} is not read"
            left_out.append(LeftOut(path, reason or why))
    return taken


def is_image(path: Path) -> bool:
    """Whether a file has a suffix of images."""
    return path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()


def also(left_out: Sequence[LeftOut]) -> str:
    """Return what was left out, as the end of a message."""
    reasons = defaultdict(list)
    for one in left_out:
        reasons[one.reason].append(one.path)
    return "".join(f"; left out, {reason}: {some(paths)}" for reason, paths in reasons.items())
