"""Reading the folder layout of MVTec AD, and of BTAD, which has "ok" and "ko" for "good" and a defect.

Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021:

    <root>/<category>/train/good/**                  good parts, all that training may see
    <root>/<category>/test/good/**                   good parts
    <root>/<category>/test/<defect>/**               defective parts, one folder per type
    <root>/<category>/ground_truth/<defect>/**       what is defective in them: <image>_mask.*

Files are listed by name, so that the order is the same on every file system. Case does not matter in the names of the
folders, and images may lie deeper in them. Every file is either taken or in ``Category.left_out``.
"""

from __future__ import annotations

from pathlib import Path

from sw_anomaly.data.category import GOOD, Category, LabelledImage, LeftOut, count, is_good
from sw_anomaly.data.files import also, check_masks, list_folders, list_images, pair_masks, subfolder
from sw_models.errors import InputError


def read_mvtec(folder: Path, name: str) -> Category:
    """List the images and masks of a category; nothing is decoded.

    Args:
        folder: The folder of the category.
        name: The category.

    Returns:
        The images, and every file that is none of them, with the reason why it is not used.

    Raises:
        InputError: If the layout is not that of the module's text, or an image or a mask could only be guessed.
    """
    left_out: list[LeftOut] = []
    train = [
        LabelledImage(path, GOOD)
        for kind in list_folders(subfolder(folder, "train"), left_out)
        for path in list_images(kind, left_out, is_good(kind.name), "training takes train/good alone")
    ]
    if len(train) < 2:
        raise InputError(f"{folder / 'train' / GOOD}: got {count(train, 'image')}, want at least 2{also(left_out)}")
    test: list[LabelledImage] = []
    truth = subfolder(folder, "ground_truth")
    if (tested := subfolder(folder, "test")).is_dir():
        for kind in list_folders(tested, left_out):
            before = len(left_out)
            images = list_images(kind, left_out)
            if not images and len(left_out) > before:
                raise InputError(f"{kind}: got no image that can be read, want some{also(left_out[before:])}")
            if is_good(kind.name):
                test += [LabelledImage(path, GOOD) for path in images]
            else:
                masks = pair_masks(kind, images, subfolder(truth, kind.name), left_out)
                test += [LabelledImage(path, kind.name, masks.get(path)) for path in images]
        kinds = {image.kind.casefold() for image in test if not image.is_good}
        left_out += [
            LeftOut(one, "masks of no defective images")
            for one in (list_folders(truth, []) if truth.is_dir() else [])
            if one.name.casefold() not in kinds
        ]
    check_masks(test, f"{folder / 'ground_truth'}/<defect>/<image>_mask.png for each", left_out, needed=True)
    return Category(name, tuple(train), tuple(test), tuple(left_out))
