"""One image that shows some of every kind of a category, with labels and masks, for people to look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image, ImageDraw

from sw_anomaly.data.category import GOOD, Category, LabelledImage
from sw_anomaly.data.intensity import Intensity, learn_intensity
from sw_anomaly.report.heat_maps import TRUTH, edge, shrink

COLUMNS = 6  # images of each kind
CELL = 200  # pixels of an image's longer side
TEXT = 16  # height of a line of text, in pixels
GAP = 6
PAPER, INK = (250, 250, 248), (30, 30, 34)


def draw_contact_sheet(category: Category) -> Image.Image:
    """Draw some training images and some test images of each kind, the true defects outlined.

    Args:
        category: Images that can be decoded, with masks of their size.

    Returns:
        A row for each part and kind, under a line that says which.
    """
    rows = list(_rows(category))
    intensity = learn_intensity(image for _, images in rows for image in images)
    height = CELL + 2 * TEXT + 2 * GAP
    sheet = Image.new("RGB", (GAP + COLUMNS * (CELL + GAP), max(len(rows), 1) * height), PAPER)
    pen = ImageDraw.Draw(sheet)
    for row, (label, images) in enumerate(rows):
        top = row * height + GAP
        pen.text((GAP, top), label, INK)
        for column, image in enumerate(images):
            left = GAP + column * (CELL + GAP)
            sheet.paste(_cell(image, intensity), (left, top + TEXT))
            pen.text((left, top + TEXT + CELL + 1), _fit(image.path.name, pen), INK)
    return sheet


def _rows(category: Category) -> Iterator[tuple[str, list[LabelledImage]]]:
    for part, images in (("train", category.train), ("test", category.test)):
        for kind in sorted({image.kind for image in images}, key=lambda kind: (kind != GOOD, kind)):
            of_kind = [image for image in images if image.kind == kind]
            label = f"{category.name} / {part} / {kind}: {len(of_kind)} images"
            yield _latin(label), _spread_out(of_kind)


def _spread_out(images: Sequence[LabelledImage]) -> list[LabelledImage]:
    """At most ``COLUMNS`` of the images, at even distances."""
    places = np.linspace(0, len(images) - 1, min(COLUMNS, len(images)))
    return [images[round(place)] for place in places]


def _cell(image: LabelledImage, intensity: Intensity) -> Image.Image:
    pixels, mask = image.load()
    small = shrink(intensity.displayed(pixels), CELL)
    outline = edge(np.asarray(Image.fromarray(mask).resize(small.size, Image.Resampling.NEAREST)), 2)
    return Image.fromarray(np.where(outline[..., None], np.array(TRUTH, dtype=np.uint8), np.asarray(small)))


def _fit(name: str, pen: ImageDraw.ImageDraw) -> str:
    """Return the end of a file's name that is no wider than an image."""
    name = _latin(name)
    while pen.textlength(name) > CELL:
        name = name[1:]
    return name


def _latin(text: str) -> str:
    """Text in the letters that Pillow's own font has, others as question marks."""
    return text.encode("latin-1", "replace").decode("latin-1")
