"""Looking at every file of a category before anything is computed: what is there, and what would be silently wrong.

Files are decoded in parallel, whole, since half a file has a good header. What was found is remembered by name, size
and time of change: a second look at a large data set takes a moment.
"""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sw_anomaly.data.images import load_image, load_mask
from sw_anomaly.data.manifest import digest_pixels
from sw_anomaly.data.mvtec import GOOD, Category, LabelledImage, count, some
from sw_anomaly.progress import Progress, silent
from sw_models.errors import InputError
from sw_models.files import make_folder, write_atomically

MEMORY = ".checked.json"  # where facts are remembered, in the folder of a category's runs
FORMAT = 1  # of that file


@dataclass(frozen=True)
class FileFacts:
    """What decoding a file told.

    Attributes:
        height: In pixels, as the image is shown.
        width: In pixels.
        digest: ``manifest.picture_digest`` of an image, empty for masks.
        marked: Share of a mask that is marked as defective, 0 for images.
        problem: Why it does not decode; then nothing else is known.
    """

    height: int = 0
    width: int = 0
    digest: str = ""
    marked: float = 0.0
    problem: str | None = None


@dataclass(frozen=True)
class Group:
    """The images of one kind in one part of a category.

    Attributes:
        part: ``train`` or ``test``.
        kind: ``good``, or the type of defect.
        images: Number of images.
        masks: Number of masks.
        sizes: Number of images by ``widthxheight``, the most frequent first.
        marked: Mean share of the pixels that are marked as defective.
    """

    part: str
    kind: str
    images: int
    masks: int
    sizes: dict[str, int]
    marked: float


@dataclass(frozen=True)
class Check:
    """What was found in a category.

    Attributes:
        category: The images.
        groups: The images of each part and kind.
        refused: What has to be mended before training, a sentence each.
        noted: What may be meant so and is worth knowing, a sentence each.
    """

    category: Category
    groups: tuple[Group, ...]
    refused: tuple[str, ...]
    noted: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {
            "category": self.category.name,
            "groups": [asdict(group) for group in self.groups],
            "refused": list(self.refused),
            "noted": list(self.noted),
            "left_out": [{"path": str(one.path), "reason": one.reason} for one in self.category.left_out],
        }


def check_category(category: Category, memory: Path, leaky: bool = False, progress: Progress = silent) -> Check:
    """Decode every file of a category and look for what would make figures wrong.

    Args:
        category: The images, as ``read_category`` lists them.
        memory: JSON file that remembers what files held; made if it is not there.
        leaky: Whether test images may show the same as training images.
        progress: Told of each file.

    Returns:
        What was found; nothing is refused yet, see ``refuse``.
    """
    images = (*category.train, *category.test)
    facts = _look(images, memory, progress)
    refused = [*_undecodable(facts), *_masks(category.test, facts), *_contradictions(category.test, facts)]
    if not leaky:
        refused += _copies(category, facts)
    return Check(category, tuple(_groups(category, facts)), tuple(refused), tuple(_notes(category, facts)))


def refuse(check: Check) -> None:
    """Raise an ``InputError`` of one line that says all that has to be mended, if there is any."""
    if check.refused:
        raise InputError(f"{check.category.name}: {'; '.join(check.refused)}")


def _look(images: Sequence[LabelledImage], memory: Path, progress: Progress) -> dict[Path, FileFacts]:
    """The facts of all files, those that are not remembered by decoding them."""
    files = {image.path: False for image in images} | {one.mask_path: True for one in images if one.mask_path}
    stamps = {path: _stamp(path) for path in files}
    remembered = _recall(memory)
    known = {path: remembered[stamp] for path, stamp in stamps.items() if stamp in remembered}
    fresh = [path for path in files if path not in known]
    if fresh:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            found = pool.map(_decode, fresh, [files[path] for path in fresh])
            for number, (path, facts) in enumerate(zip(fresh, found, strict=True), start=1):
                known[path] = facts
                progress("looking at every file", number, len(fresh))
        held = {stamps[path]: asdict(facts) for path, facts in known.items()}
        text = json.dumps({"format": FORMAT, "files": held})
        make_folder("--out", memory.parent)
        write_atomically(memory, lambda path: path.write_text(text + "\n", encoding="utf-8"))
    return {path: known[path] for path in files}


def _stamp(path: Path) -> str:
    about = path.stat()
    return f"{about.st_size} {about.st_mtime_ns} {path.resolve()}"


def _recall(memory: Path) -> dict[str, FileFacts]:
    """What an earlier check found; nothing if its file is of another version, or no such file."""
    try:
        held = json.loads(memory.read_text(encoding="utf-8"))
        if held["format"] != FORMAT:
            return {}
        return {stamp: FileFacts(**facts) for stamp, facts in held["files"].items()}
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _decode(path: Path, is_mask: bool) -> FileFacts:
    try:
        pixels = load_mask(path) if is_mask else load_image(path)
    except InputError as error:
        return FileFacts(problem=str(error))
    height, width = pixels.shape[:2]
    if is_mask:
        return FileFacts(height, width, marked=float(pixels.mean()))
    return FileFacts(height, width, digest_pixels(pixels))


def _undecodable(facts: Mapping[Path, FileFacts]) -> Iterator[str]:
    problems = [one.problem for one in facts.values() if one.problem]
    if problems:
        yield f"{count(problems, 'file')} cannot be read: {some(problems)}"


def _masks(test: Sequence[LabelledImage], facts: Mapping[Path, FileFacts]) -> Iterator[str]:
    """Masks that do not fit their images, and masks of defects that mark nothing."""
    sizes, blank = [], []
    for image in test:
        if image.mask_path is None or facts[image.path].problem or facts[image.mask_path].problem:
            continue
        its, masks = facts[image.path], facts[image.mask_path]
        if (its.height, its.width) != (masks.height, masks.width):
            sizes.append(f"{image.mask_path} is {_size(masks)}, its image {_size(its)}")
        elif not masks.marked:
            blank.append(image.mask_path)
    if sizes:
        yield f"{count(sizes, 'mask')} not of the size of the image: {some(sizes)}"
    if blank:
        yield f"{count(blank, 'mask')} of defective images in which nothing is marked: {some(blank)}"


def _contradictions(test: Sequence[LabelledImage], facts: Mapping[Path, FileFacts]) -> Iterator[str]:
    """Images that are good in one folder and defective in another."""
    for same in _alike(test, facts):
        if len({image.is_good for image in same}) == 2:
            yield f"{some([image.path for image in same])} show the same, but are said to be good and defective"


def _copies(category: Category, facts: Mapping[Path, FileFacts]) -> Iterator[str]:
    """Test images that show the same as training images."""
    trained = {facts[image.path].digest: image.path for image in category.train if not facts[image.path].problem}
    copies = [
        f"{image.path} (as {trained[facts[image.path].digest].name})"
        for image in category.test
        if facts[image.path].digest in trained
    ]
    if copies:
        yield f"{count(copies, 'test image')} that training would see, too: {some(copies)}"


def _notes(category: Category, facts: Mapping[Path, FileFacts]) -> Iterator[str]:
    for part, images in (("training", category.train), ("test", category.test)):
        again = [image.path for same in _alike(images, facts) for image in same[1:]]
        if again:
            yield f"{count(again, f'{part} image')} shown by another file, too: {some(again)}"
    large = [image.mask_path for image in category.test if image.mask_path and facts[image.mask_path].marked > 0.5]
    if large:
        yield f"{count(large, 'mask')} with more than half of the image marked: {some(large)}"
    if category.test and all(image.is_good for image in category.test):
        yield "no defective test images: nothing will say whether defects are found"
    if category.test and not any(image.is_good for image in category.test):
        yield "no good test images: nothing will say how often good ones are called defective"


def _alike(images: Iterable[LabelledImage], facts: Mapping[Path, FileFacts]) -> Iterator[list[LabelledImage]]:
    """The images that show the same as another one, together."""
    by_digest: dict[str, list[LabelledImage]] = defaultdict(list)
    for image in images:
        if not facts[image.path].problem:
            by_digest[facts[image.path].digest].append(image)
    yield from (same for same in by_digest.values() if len(same) > 1)


def _groups(category: Category, facts: Mapping[Path, FileFacts]) -> Iterator[Group]:
    for part, images in (("train", category.train), ("test", category.test)):
        for kind in sorted({image.kind for image in images}, key=lambda kind: (kind != GOOD, kind)):
            some_images = [image for image in images if image.kind == kind]
            masks = [image.mask_path for image in some_images if image.mask_path]
            sizes = Counter(_size(facts[one.path]) for one in some_images if not facts[one.path].problem)
            marked = sum(facts[mask].marked for mask in masks) / max(len(masks), 1)
            yield Group(part, kind, len(some_images), len(masks), dict(sizes.most_common()), marked)


def _size(facts: FileFacts) -> str:
    return f"{facts.width}x{facts.height}"
