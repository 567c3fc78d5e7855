"""Images to inspect, one after the other: files, folders, patterns of names, videos frame by frame."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import chain, count
from pathlib import Path

import numpy as np

from sw_anomaly.data.images import IMAGE_SUFFIXES, load_image
from sw_models.errors import InputError

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"})


@dataclass(frozen=True)
class SourceImage:
    """An image file, or a frame of a video.

    Attributes:
        path: The file.
        name: Tells it from all others, without a suffix.
        load: Decodes it, to [H, W, 3].
        frame: Its number in a video, from 0; None in an image file.
    """

    path: Path
    name: Path
    load: Callable[[], np.ndarray]
    frame: int | None = None


@dataclass(frozen=True)
class Source:
    """A file, and the name that results from it get."""

    path: Path
    name: Path

    @property
    def is_video(self) -> bool:
        """Whether it holds frames."""
        return self.path.suffix.lower() in VIDEO_SUFFIXES


def find_sources(given: Sequence[str], leave_out: Path) -> list[Source]:
    """Find the files that are meant.

    Args:
        given: Paths of images, of videos and of folders, which are searched to the bottom, and patterns such as
            "parts/*.png".
        leave_out: A folder that is not searched, since results are written there.

    Returns:
        The files, those of a folder in the order of their names.

    Raises:
        InputError: If something is not there, or is a video and there are no means to read it.
    """
    sources: list[Source] = []
    taken: set[Path] = set()
    for one in given:
        for path, name in _expand(one, leave_out.resolve()):
            names = chain([name.with_suffix(""), name], (name.with_name(f"{name.name}-{n}") for n in count(2)))
            free = next(candidate for candidate in names if candidate not in taken)
            taken.add(free)
            sources.append(Source(path, free))
    video = next((source.path for source in sources if source.is_video), None)
    if video is not None and find_spec("av") is None:
        raise InputError(f"{video} is a video; to read videos install sw-anomaly[video]")
    return sources


def images_in(source: Source) -> Iterator[SourceImage]:
    """Yield the images in a file, one at a time; raises ``InputError`` where a video ends in what is no frame."""
    if not source.is_video:
        yield SourceImage(source.path, source.name, partial(load_image, source.path))
        return
    import av

    try:
        with av.open(str(source.path)) as video:
            for number, frame in enumerate(video.decode(video=0)):
                yield SourceImage(
                    source.path, source.name / f"{number:06}", partial(frame.to_ndarray, format="rgb24"), number
                )
    except (av.FFmpegError, IndexError) as error:  # a file without a stream of frames has no index 0
        raise InputError(f"{source.path} does not decode as a video: {error}") from error


def _expand(given: str, leave_out: Path) -> Iterator[tuple[Path, Path]]:
    """Paths of files, each with the name that it has below what was given."""
    path = Path(given)
    if path.is_dir():
        suffixes = IMAGE_SUFFIXES | VIDEO_SUFFIXES
        inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in suffixes and file.is_file())
        visible = [file for file in inside if not any(part.startswith(".") for part in file.relative_to(path).parts)]
        found = [file for file in visible if leave_out not in file.resolve().parents]
        if not found:
            raise InputError(f"the folder {given} holds no images and no videos")
        yield from ((file, file.relative_to(path)) for file in found)
    elif path.exists():
        yield path, Path(path.name)
    elif glob.has_magic(given):
        matches = sorted(Path(match) for match in glob.glob(given, recursive=True))  # noqa: PTH207  absolute ones too
        files = [match for match in matches if match.is_file()]
        if not files:
            raise InputError(f"no file matches {given!r}")
        yield from ((file, Path(file.name)) for file in files)
    else:
        raise InputError(
            f"{given} is not there; an image, a video, a folder or a pattern such as 'parts/*.png' is wanted"
        )
