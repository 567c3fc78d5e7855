"""Reading what people decided on images: the table that ``sw-anomaly predict`` wrote, with verdicts put right."""

from __future__ import annotations

from pathlib import Path

from sw_anomaly.data.category import GOOD, LabelledImage
from sw_anomaly.data.table import read_rows
from sw_models.errors import InputError
from sw_models.images import MAX_PIXELS, some

DEFECTIVE = "defective"
COLUMNS = {"path": ("path",), "verdict": ("verdict",), "frame": ("frame",), "error": ("error",)}


def read_decisions(path: Path, max_pixels: int = MAX_PIXELS) -> tuple[LabelledImage, ...]:
    """Read which images are good and which are defective.

    Args:
        path: A CSV file with the columns ``path``, from where the command is given or from the folder of the file, and
            ``verdict``, ``good`` or ``defective``. Rows of images that could not be read are passed over.
        max_pixels: The largest image that is decoded.

    Returns:
        The images, each once, in the order of the table; their kind is the verdict.

    Raises:
        InputError: If the table is damaged, or a row is not clear; the message names the lines.
    """
    decided: dict[Path, str] = {}
    problems: list[str] = []
    for line, row in read_rows(path, COLUMNS).items():
        given, verdict = row["path"].removeprefix("'"), row["verdict"].casefold()
        image = next((one for one in (Path(given), path.parent / given) if one.is_file()), None)
        if row.get("error") and not verdict:
            continue
        if row.get("frame"):
            problems.append(f"line {line}: got a frame of a video, want an image")
        elif verdict not in (GOOD, DEFECTIVE):
            problems.append(f"line {line}: got the verdict {row['verdict']!r}, want {GOOD} or {DEFECTIVE}")
        elif image is None:
            problems.append(f"line {line}: {given or 'the path'} is not a file")
        elif decided.setdefault(image, verdict) != verdict:
            problems.append(f"line {line}: got {image} as {GOOD} and as {DEFECTIVE}")
    if problems:
        raise InputError(f"{path}: {some(problems)}")
    if not decided:
        raise InputError(f"{path}: got no decision, want rows with a path and a verdict")
    return tuple(LabelledImage(image, verdict, max_pixels=max_pixels) for image, verdict in decided.items())
