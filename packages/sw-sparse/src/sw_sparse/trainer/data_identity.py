"""What tells one data set from another, so that a run is not continued on other data."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sized
from typing import Any

from sw_models.errors import InputError
from sw_sparse.trainer.classes import class_names


def identity_of(dataset: Any) -> dict[str, Any]:
    """Return the number of images, the class names and a digest of the list of files; None for what is not known."""
    images = len(dataset) if isinstance(dataset, Sized) else None
    files: Any = getattr(dataset, "files", None)
    if files is None and images is not None:
        files = getattr(dataset, "filenames", list)()
    digest = hashlib.sha256("\n".join(map(str, files)).encode()).hexdigest() if files else None
    return {"images": images, "classes": class_names(dataset), "files": digest}


def refuse_other_data(earlier: Mapping[str, Any], now: Mapping[str, Any], output: str) -> None:
    """Compare the identities of each split with those that a run started with.

    Raises:
        InputError: naming the first difference.
    """
    for split, identity in earlier.items():
        for what, before in identity.items():
            if now.get(split, {}).get(what) != before:
                change = f" ({before} then, {now[split][what]} now)" if what == "images" and split in now else ""
                raise InputError(
                    f"data_dir: the {what} of {split!r} are not those that the run in {output} was trained on{change}, "
                    f"want the same data, or another output"
                )
