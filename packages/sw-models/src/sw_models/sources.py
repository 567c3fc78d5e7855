"""Images to look at, one after the other: files, folders, patterns of names, videos frame by frame."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

from sw_models.errors import InputError
from sw_models.images import MAX_PIXELS, UNREADABLE, open_image, orientation_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"})


@dataclass(frozen=True)
class Source:
    """A file to look at.

    Attributes:
        path: of an image or a video.
        name: a relative path without suffix that results may have; different for every source.
    """

    path: Path
    name: Path

    @property
    def is_video(self) -> bool:
        """Whether it holds frames."""
        return self.path.suffix.lower() in VIDEO_SUFFIXES


def find_sources(given: Sequence[str], leave_out: Path | None = None) -> list[Source]:
    """Return the files that are meant.

    Folders are searched to the bottom, in the order of names; hidden files and folders in them are no images.

    Args:
        given: paths of images, videos and folders, and patterns such as ``parts/*.png``.
        leave_out: a folder that is not searched, where results are written.

    Raises:
        InputError: something is not there, or a folder has no images.
    """
    sources: list[Source] = []
    taken: set[Path] = set()
    for one in given:
        for path, name in _expand(one, leave_out.resolve() if leave_out else None):
            names = chain([name.with_suffix(""), name], (name.with_name(f"{name.name}-{n}") for n in count(2)))
            free = next(candidate for candidate in names if candidate not in taken)
            taken.add(free)
            sources.append(Source(path, free))
    return sources


def read_source(source: Source, max_pixels: int = MAX_PIXELS) -> Iterator[tuple[Path, NDArray[np.uint8]]]:
    """Yield names and images ``[H, W, 3]``, uint8, RGB, upright as EXIF says; a video has one for each frame.

    Args:
        source: the file.
        max_pixels: of an image; larger ones are not decoded.

    Raises:
        InputError: the file cannot be decoded; what could be was yielded before.
    """
    if not source.is_video:
        yield source.name, read_image(source.path, max_pixels)
        return
    import cv2
    import numpy as np

    video = cv2.VideoCapture(str(source.path))
    try:
        frames = 0
        while True:
            there, frame = video.read()
            if not there:
                break
            yield source.name / f"{frames:06}", np.ascontiguousarray(frame[..., ::-1], dtype=np.uint8)
            frames += 1
        if not frames:
            raise InputError(f"{source.path} cannot be read as a video")
    finally:
        video.release()


def read_image(path: Path, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Return an image ``[H, W, 3]``, uint8, RGB, upright as its EXIF orientation says.

    Args:
        path: the file.
        max_pixels: an image of more is not decoded.

    Raises:
        InputError: it cannot be read or decoded.
    """
    import cv2
    import numpy as np

    try:
        with open_image(path, max_pixels) as header:  # which tells of a size that memory may not hold
            # OpenCV turns TIFF files whatever it is told, and other formats in some of its versions.
            orientation = 1 if header.format == "TIFF" else orientation_of(header)
        content = np.fromfile(path, dtype=np.uint8)
        image = cv2.imdecode(content, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION) if content.size else None
    except (*UNREADABLE, cv2.error) as error:
        raise InputError(f"{path} cannot be read as an image ({error})") from error
    if image is None:
        raise InputError(f"{path} cannot be read as an image")
    upright = image.swapaxes(0, 1) if orientation > 4 else image
    if orientation in (3, 4, 7, 8):
        upright = upright[::-1]
    if orientation in (2, 3, 6, 7):
        upright = upright[:, ::-1]
    return np.ascontiguousarray(upright[..., ::-1], dtype=np.uint8)


def _expand(given: str, leave_out: Path | None) -> Iterator[tuple[Path, Path]]:
    """Yield paths of files, each with the name that it has below what was given."""
    path = Path(given)
    if path.is_dir():
        found = []
        for file in sorted(path.rglob("*")):
            below = file.relative_to(path)
            hidden = any(part.startswith(".") for part in below.parts)
            inside = leave_out is not None and leave_out in file.resolve().parents
            if not hidden and not inside and file.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES and file.is_file():
                found.append((file, below))
        if not found:
            raise InputError(f"images: the folder {given} holds no images and no videos")
        yield from found
    elif path.exists():
        yield path, Path(path.name)
    elif glob.has_magic(given):
        files = [Path(match) for match in sorted(glob.glob(given, recursive=True))]  # noqa: PTH207 - absolute ones too
        files = [file for file in files if file.is_file()]
        if not files:
            raise InputError(f"images: no file matches {given!r}")
        yield from ((file, Path(file.name)) for file in files)
    else:
        raise InputError(f"images: {given} is not there; want an image, a video, a folder or a pattern like 'a/*.png'")
