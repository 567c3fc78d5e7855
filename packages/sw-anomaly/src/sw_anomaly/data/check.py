"""Looking at every file of a category before anything is computed: what is there, and what would be silently wrong."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sw_anomaly.data.category import GOOD, Category, LabelledImage, count
from sw_anomaly.data.images import load_image, load_mask
from sw_anomaly.data.manifest import digest_pixels
from sw_anomaly.progress import Progress, silent
from sw_models.errors import InputError
from sw_models.images import MAX_PIXELS, look_at, some


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
            "layout": self.category.layout,
            "groups": [asdict(group) for group in self.groups],
            "refused": list(self.refused),
            "noted": list(self.noted),
            "left_out": [{"path": str(one.path), "reason": one.reason} for one in self.category.left_out],
        }


def check_category(category: Category, leaky: bool = False, progress: Progress = silent) -> Check:
    """Decode every file of a category and look for what would make figures wrong.

    Args:
        category: The images, as ``read_category`` lists them.
        leaky: Whether test images may show the same as training images.
        progress: Told of each file.

    Returns:
        What was found; nothing is refused yet, see ``refuse``.
    """
    images = (*category.train, *category.test)
    facts = _look(images, progress)
    refused = [*_undecodable(facts), *_masks(category.test, facts), *_contradictions(category.test, facts)]
    if not leaky:
        refused += _copies(category, facts)
    return Check(category, tuple(_groups(category, facts)), tuple(refused), tuple(_notes(category, facts)))


def refuse(check: Check) -> None:
    """Raise an ``InputError`` of one line that says all that has to be mended, if there is any."""
    if check.refused:
        raise InputError(f"{check.category.name}: {'; '.join(check.refused)}")


def _look(images: Sequence[LabelledImage], progress: Progress) -> dict[Path, FileFacts]:
    """Return the facts of all files, which are decoded whole, since half a file has a good header."""
    limit = max((image.max_pixels for image in images), default=MAX_PIXELS)
    masks = [image.mask_path for image in images if image.mask_path]
    facts: dict[Path, FileFacts] = {}
    for kind, paths, facts_of in (
        ("images", [image.path for image in images], image_facts),
        ("masks", masks, mask_facts),
    ):
        facts |= look_at(
            paths,
            partial(facts_of, max_pixels=limit),
            pack=asdict,
            unpack=lambda held: FileFacts(**held),  # type: ignore[arg-type]
            kind=f"anomaly {kind}, max_pixels={limit}",
            progress=partial(progress, f"looking at {kind}"),
        )
    return facts


def image_facts(path: Path, max_pixels: int = MAX_PIXELS) -> FileFacts:
    """Decode an image and return what it is; one that cannot be used has a ``problem``."""
    try:
        pixels = load_image(path, max_pixels)
    except InputError as error:
        return FileFacts(problem=str(error))
    height, width = pixels.shape[:2]
    return FileFacts(height, width, digest_pixels(pixels))


def mask_facts(path: Path, max_pixels: int = MAX_PIXELS) -> FileFacts:
    """Decode a mask and return what it is; one that cannot be used has a ``problem``."""
    try:
        mask = load_mask(path, max_pixels)
    except InputError as error:
        return FileFacts(problem=str(error))
    height, width = mask.shape
    return FileFacts(height, width, marked=float(mask.mean()))


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
        yield f"{count(copies, 'test image')} that training would see, too: {', '.join(copies)}"


def _notes(category: Category, facts: Mapping[Path, FileFacts]) -> Iterator[str]:
    for part, images in (("training", category.train), ("test", category.test)):
        again = [image.path for same in _alike(images, facts) for image in same[1:]]
        if again:
            yield f"{count(again, f'{part} image')} shown by another file, too: {some(again)}"
    large = [image.mask_path for image in category.test if image.mask_path and facts[image.mask_path].marked > 0.5]
    if large:
        yield f"{count(large, 'mask')} with more than half of the image marked: {some(large)}"
    if not category.has_masks:
        yield "no masks: nothing will say whether defects are found at the right place"
    if not category.test:
        yield "no test images: a detector can be trained, and not measured"
    if category.test and all(image.is_good for image in category.test):
        yield "no defective test images: nothing will say whether defects are found"
    if category.test and not any(image.is_good for image in category.test):
        yield "no good test images: nothing will say how often good ones are called defective"


def _alike(images: Iterable[LabelledImage], facts: Mapping[Path, FileFacts]) -> Iterator[list[LabelledImage]]:
    """Return the images that show the same as another one, together."""
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
