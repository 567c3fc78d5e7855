"""Looking at every image file of a data set before anything is computed: size, mode, orientation, damage.

Files are decoded in parallel, JPEG at an eighth of its size, since half a file has a good header. What was found is
remembered by name, size and time of change: a second look at a large data set takes a moment.
"""

from __future__ import annotations

import json
import os
import warnings
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from PIL import Image

from sw_models.files import write_atomically

MAX_PIXELS = 100_000_000  # of one image: a file of a few kilobytes can hold far more
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, MemoryError, OverflowError, Image.DecompressionBombError)
FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # which Pillow and OpenCV both read
MEMORY_FORMAT = 1  # of the file in which facts are remembered

_ORIENTATION = 0x0112  # EXIF's tag; from 5 on, height and width change places

Value = TypeVar("Value")


@dataclass(frozen=True)
class ImageFacts:
    """What decoding an image file told.

    Attributes:
        width: in pixels, as the image is shown.
        height: in pixels, as the image is shown.
        mode: Pillow's, such as "RGB", "L" or "I;16".
        orientation: EXIF's; 1 is upright.
        problem: why it cannot be used; then nothing else is known.
    """

    width: int = 0
    height: int = 0
    mode: str = ""
    orientation: int = 1
    problem: str = ""

    @property
    def size(self) -> str:
        """Width and height, such as "640x480"."""
        return f"{self.width}x{self.height}"


def image_facts(path: Path, max_pixels: int = MAX_PIXELS) -> ImageFacts:
    """Decode an image file and return what it is; a file that cannot be used has a ``problem``."""
    try:
        with open_image(path, max_pixels) as image:
            orientation = orientation_of(image)
            width, height = _stored_size(image)
            if orientation > 4:
                width, height = height, width
            mode = image.mode
            image.draft("L", (max(1, width // 8), max(1, height // 8)))
            image.load()
    except UNREADABLE as error:
        return ImageFacts(problem=" ".join(str(error).replace(str(path), path.name).split()) or type(error).__name__)
    return ImageFacts(width, height, mode, orientation)


def open_image(path: Path, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Open an image file without decoding it.

    Args:
        path: the file.
        max_pixels: the largest image that is opened.

    Raises:
        ValueError: it holds more than ``max_pixels`` pixels, or is a PNG file of which a part is damaged.
        OSError: it is no image in one of :data:`FORMATS`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, about the size and odd tags
        image = Image.open(path, formats=FORMATS)
    pixels = image.width * image.height
    if pixels > max_pixels:
        image.close()
        raise ValueError(f"got {image.width}x{image.height}, want at most {max_pixels:,} pixels (max_pixels)")
    if image.format == "PNG":
        png_essence(path.read_bytes())  # Pillow does not compare the checksums of pixels
    return image


def orientation_of(image: Image.Image, exif: bytes = b"") -> int:
    """Return the EXIF orientation of an open image, 1 where it says none.

    Args:
        image: the image.
        exif: its EXIF chunk, if that is at hand.
    """
    if exif:
        tags = Image.Exif()
        tags.load(exif)
    else:
        tags = image.getexif()
    found = tags.get(_ORIENTATION, 1)
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def png_essence(content: bytes) -> tuple[bytes, bytes]:
    """Return a PNG file without the chunks that its pixels do not need, over which decoders print, and its EXIF chunk.

    Args:
        content: of the file.

    Raises:
        ValueError: a chunk is damaged, or said to be longer than the file: decoders fetch its memory first.
    """
    held = memoryview(content)
    kept, exif, place = [bytes(held[:8])], b"", 8
    while not kept[-1].startswith(b"IEND", 4):
        end = place + 12 + int.from_bytes(held[place : place + 4], "big")
        if end > len(held):
            raise ValueError("a part of it is said to be longer than the file")
        if zlib.crc32(held[place + 4 : end - 4]) != int.from_bytes(held[end - 4 : end], "big"):
            raise ValueError("a part of it is damaged: its checksum is another")
        if held[place + 4] < ord("a"):  # upper case: a critical chunk
            kept.append(bytes(held[place:end]))
        elif held[place + 4 : place + 8] == b"eXIf":
            exif = bytes(held[place + 8 : end - 4])
        place = end
    return b"".join(kept), exif


def _stored_size(image: Image.Image) -> tuple[int, int]:
    """Return width and height as they are in the file; Pillow itself turns TIFF images, and no others."""
    tags = getattr(image, "tag_v2", None)
    return (int(tags[256]), int(tags[257])) if tags is not None else image.size


def look_at(
    paths: Iterable[Path],
    look: Callable[[Path], Value],
    *,
    pack: Callable[[Value], object],
    unpack: Callable[[object], Value],
    kind: str,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> dict[Path, Value]:
    """Look at files in parallel, and remember what was found in the user's cache.

    Args:
        paths: the files.
        look: finds out about one; it runs in threads and does not raise.
        pack: makes what was found into what JSON can hold.
        unpack: its inverse.
        kind: of what is looked for, with all that the result depends on besides the file.
        progress: told how many of how many files that are not remembered were looked at.

    Returns:
        What was found in each file, in the order of ``paths``.
    """
    files = list(dict.fromkeys(paths))
    stamps = {path: _stamp(path) for path in files}
    memory = _memory(files, kind)
    remembered = _recall(memory)
    known: dict[Path, Value] = {}
    for path in files:
        if stamps[path] in remembered:
            try:
                known[path] = unpack(remembered[stamps[path]])
            except (TypeError, ValueError, KeyError):
                continue  # another version wrote it
    fresh = [path for path in files if path not in known]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for number, (path, found) in enumerate(zip(fresh, pool.map(look, fresh), strict=True), start=1):
            known[path] = found
            progress(number, len(fresh))
    if fresh:
        held = {stamps[path]: pack(found) for path, found in known.items()}
        _remember(memory, {"format": MEMORY_FORMAT, "files": held})
    return {path: known[path] for path in files}


def look_at_images(
    paths: Sequence[Path],
    max_pixels: int = MAX_PIXELS,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> dict[Path, ImageFacts]:
    """Return the facts of image files, see :func:`look_at`."""
    return look_at(
        paths,
        lambda path: image_facts(path, max_pixels),
        pack=asdict,
        unpack=lambda held: ImageFacts(**held),  # type: ignore[arg-type]
        kind=f"images, max_pixels={max_pixels}",
        progress=progress,
    )


def some(items: Sequence[object], limit: int = 3) -> str:
    """Return the first items of a list as text, and how many more there are."""
    named = ", ".join(str(item) for item in items[:limit])
    return named if len(items) <= limit else f"{named} and {len(items) - limit:,} more"


def _stamp(path: Path) -> str:
    try:
        about = path.stat()
    except OSError:
        return f"absent {path}"
    return f"{about.st_size} {about.st_mtime_ns} {path.absolute()}"


def _memory(files: Sequence[Path], kind: str) -> Path:
    """Return where facts of these files are held: a file for each set of folders, apart from the user's data."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sw-models" / "checked"
    folders = sorted({str(path.parent.absolute()) for path in files})
    return cache / f"{sha256(json.dumps([kind, folders]).encode()).hexdigest()[:32]}.json"


def _recall(memory: Path) -> Mapping[str, object]:
    try:
        held = json.loads(memory.read_text(encoding="utf-8"))
        return held["files"] if held["format"] == MEMORY_FORMAT else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _remember(memory: Path, content: object) -> None:
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(memory, lambda file: file.write_text(json.dumps(content), encoding="utf-8"))
    except OSError:
        return  # a full or read-only disk costs time at the next look, and nothing else
