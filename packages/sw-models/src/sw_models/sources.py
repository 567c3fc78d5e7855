"""Images to look at, one after the other: files, folders, patterns of names, videos frame by frame."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sw_models.errors import InputError
from sw_models.images import MAX_PIXELS, UNREADABLE, open_image, orientation_of, png_essence

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"})

os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # what OpenCV and its decoders would print is raised here
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
OF_8_BITS = frozenset({"BMP", "JPEG", "MPO", "PNG", "WEBP"})  # formats, but for some PNG files; MPO are JPEG
RAW_EXIF = "Raw profile type exif"  # how PNG files were given EXIF before there was a chunk for it
ANNOUNCED = 0.99  # share of the frames which a video announces that must be there


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
    videos: set[Path] = set()  # whose frames are named by six digits

    def is_free(name: Path, is_video: bool) -> bool:
        if is_video and any(other.parent == name for other in taken):
            return False
        return name not in taken and not (name.parent in videos and name.name.isdecimal())

    for one in given:
        for path, name in _expand(one, leave_out.resolve() if leave_out else None):
            source = Source(path, name)
            names = chain([name.with_suffix(""), name], (name.with_name(f"{name.name}-{n}") for n in count(2)))
            free = next(candidate for candidate in names if is_free(candidate, source.is_video))
            taken.add(free)
            if source.is_video:
                videos.add(free)
            sources.append(Source(path, free))
    return sources


def read_source(
    source: Source, max_pixels: int = MAX_PIXELS, any_depth: bool = False
) -> Iterator[tuple[Path, NDArray[Any]]]:
    """Yield names and images ``[H, W, 3]``, RGB, upright as the file says; a video has one for each frame.

    Args:
        source: the file.
        max_pixels: of an image or a frame; larger ones are not decoded.
        any_depth: as in :func:`read_image`; frames are uint8.

    Raises:
        InputError: the file cannot be decoded, or not to its end; what could be was yielded before.
    """
    if source.is_video:
        for number, frame in enumerate(_frames(source.path, max_pixels)):
            yield source.name / f"{number:06}", frame
    else:
        yield source.name, read_image(source.path, max_pixels, any_depth)


def read_image(path: Path, max_pixels: int = MAX_PIXELS, any_depth: bool = False) -> NDArray[Any]:
    """Return an image ``[H, W, 3]``, RGB, upright as its EXIF orientation says.

    Args:
        path: the file.
        max_pixels: an image of more is not decoded.
        any_depth: give the values of the file, of its type; without it all are uint8.

    Raises:
        InputError: it cannot be read or decoded.
    """
    import cv2
    import numpy as np

    try:
        with open_image(path, max_pixels) as header:  # which tells of a size that memory may not hold
            if header.format in OF_8_BITS and not _is_deep_png(path, header):
                colors = header if header.mode == "RGB" else header.convert("RGB")  # which would copy what is RGB
                image, orientation = np.array(colors), orientation_of(header)  # to be written to
            else:  # OpenCV keeps all bits, but prints about damage
                image, orientation = _decode(path, header, any_depth)
    except (*UNREADABLE, cv2.error) as error:
        raise InputError(f"{path} cannot be read as an image ({error})") from error
    if orientation > 4:
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)


def _is_deep_png(path: Path, header: Image.Image) -> bool:
    """Whether a PNG file has 16 bits a channel, of which Pillow keeps 8 where there are colors."""
    with path.open("rb") as file:
        return header.format == "PNG" and file.read(25)[24] == 16


def _decode(path: Path, header: Image.Image, any_depth: bool) -> tuple[NDArray[Any], int]:
    """Return an image ``[H, W, 3]``, RGB, as OpenCV reads it, and its EXIF orientation."""
    import cv2
    import numpy as np

    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION | (cv2.IMREAD_ANYDEPTH if any_depth else 0)
    content, orientation = path.read_bytes(), 1  # OpenCV turns TIFF files, whatever it is told
    if header.format == "PNG":
        content, exif = png_essence(content)
        if exif or RAW_EXIF in header.info:  # Pillow would decode all pixels to find no orientation
            orientation = orientation_of(header, exif)
    if any_depth and header.format == "TIFF" and header.mode in ("I", "F"):
        flags = cv2.IMREAD_UNCHANGED  # of one channel; OpenCV gives no three of them
    image = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    if image is None:
        raise ValueError("it is damaged or cut short")
    return image[..., ::-1] if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2), orientation


def _frames(path: Path, max_pixels: int) -> Iterator[NDArray[np.uint8]]:
    import cv2
    import numpy as np

    video = cv2.VideoCapture(str(path))
    try:
        height, width, announced = (
            int(video.get(what))
            for what in (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_COUNT)
        )
        if height * width > max_pixels:
            raise InputError(f"{path}: got frames of {width}x{height}, want at most {max_pixels:,} pixels (max_pixels)")
        number = 0
        while (read := video.read())[0]:
            yield np.ascontiguousarray(read[1][..., ::-1], dtype=np.uint8)
            number += 1
    finally:
        video.release()
    if not number:
        raise InputError(f"{path} cannot be read as a video")
    if number + 1 < ANNOUNCED * announced:  # some formats tell the duration alone, from which the count is estimated
        raise InputError(f"{path}: got {number} frames, want the {announced} that it announces; the rest is damaged")


def _expand(given: str, leave_out: Path | None) -> Iterator[tuple[Path, Path]]:
    """Yield paths of files, each with the name that it has below what was given."""
    path = Path(given)
    if path.is_dir():
        found = []
        for file in sorted(path.rglob("*")):
            below = file.relative_to(path)
            hidden = any(part.startswith(".") for part in below.parts)
            if hidden or file.suffix.lower() not in IMAGE_SUFFIXES | VIDEO_SUFFIXES or not file.is_file():
                continue  # is_file before resolve, which raises for a link to itself
            if leave_out is None or leave_out not in file.resolve().parents:
                found.append((file, below))
        if not found:
            raise InputError(f"images: the folder {given} holds no images and no videos")
        yield from found
    elif path.is_file():
        yield path, Path(path.name)
    elif path.exists():
        raise InputError(f"images: {given} is neither a file nor a folder")  # a pipe would be waited for
    elif glob.has_magic(given):
        files = [Path(match) for match in sorted(glob.glob(given, recursive=True))]  # noqa: PTH207 - absolute ones too
        files = [file for file in files if file.is_file()]
        if not files:
            raise InputError(f"images: no file matches {given!r}")
        yield from ((file, Path(file.name)) for file in files)
    else:
        raise InputError(f"images: {given} is not there; want an image, a video, a folder or a pattern like 'a/*.png'")
