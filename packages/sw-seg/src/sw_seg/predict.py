"""What a segmenter sees in images: pictures for people, label maps for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import Compose
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sw_models.errors import InputError

OPACITY = 0.55  # of the colours laid over an image
_LINE = 22  # pixels of a line of the legend


def predict(model: Any, images: Sequence[Path], folder: Path) -> Iterator[dict[str, Any]]:
    """Write ``<name>.png``, the image in the classes' colours with a legend, and ``<name>_labels.png`` for each image.

    Label maps have the numbers of the data that the model was trained on: from 1 where 0 is no class, else from 0.
    ``predictions.json`` gathers what is yielded: for each image its files and each class's share of the pixels.

    Args:
        model: MMSegmentation's, with ``cfg`` and ``dataset_meta``.
        images: files with different names.
        folder: an existing, empty folder.
    """
    steps = [s for s in model.cfg.test_dataloader.dataset.pipeline if s["type"] != "LoadAnnotations"]
    pipeline = Compose(steps)
    classes, palette = model.dataset_meta["classes"], np.array(model.dataset_meta["palette"], dtype=np.uint8)
    first = 1 if model.dataset_meta.get("reduce_zero_label") else 0
    records = []
    for file in images:
        labels = _segment(model, pipeline, file)
        share = np.bincount(labels.ravel(), minlength=len(classes)) / labels.size
        overlay, label_file = folder / f"{file.stem}.png", folder / f"{file.stem}_labels.png"
        _draw(file, labels, share, classes, palette).save(overlay)
        label_map = Image.fromarray((labels + first).astype(np.uint8), mode="P")
        label_map.putpalette([0] * 3 * first + palette.ravel().tolist())
        label_map.save(label_file)
        found = {name: round(float(s), 4) for name, s in zip(classes, share, strict=True) if s > 0}
        records.append({"image": str(file), "overlay": str(overlay), "labels": str(label_file), "shares": found})
        yield records[-1]
    (folder / "predictions.json").write_text(json.dumps({"classes": list(classes), "images": records}, indent=1))


def _segment(model: Any, pipeline: Compose, file: Path) -> NDArray[np.int64]:
    """Return the class of each pixel of an image, ``[H, W]``, at the image's own size."""
    try:
        sample = pipeline({"img_path": str(file)})
    except Exception as error:  # whatever decoders raise for broken files
        raise InputError(f"images: {file} cannot be read as an image ({error})") from error
    with torch.no_grad():
        (result,) = model.test_step({"inputs": [sample["inputs"]], "data_samples": [sample["data_samples"]]})
    return result.pred_sem_seg.data[0].cpu().numpy()


def _draw(
    file: Path,
    labels: NDArray[np.int64],
    share: NDArray[np.float64],
    classes: Sequence[str],
    palette: NDArray[np.uint8],
) -> Image.Image:
    """Lay the classes' colours over an image, and list those that occur beside it, largest first."""
    with Image.open(file) as opened:
        image = np.asarray(opened.convert("RGB").resize(labels.shape[::-1]), dtype=np.float32)
    mixed = (1 - OPACITY) * image + OPACITY * palette[labels]
    shown = [int(i) for i in np.argsort(-share) if share[i] > 0]
    font = ImageFont.load_default(14)
    texts = [f"{classes[i]}  {share[i]:.1%}" for i in shown]
    width = 44 + max(int(font.getlength(text)) for text in texts)
    height, image_width = labels.shape
    picture = Image.new("RGB", (image_width + width, max(height, _LINE * len(shown) + 12)), "white")
    picture.paste(Image.fromarray(mixed.astype(np.uint8)), (0, 0))
    pen = ImageDraw.Draw(picture)
    for line, (i, text) in enumerate(zip(shown, texts, strict=True)):
        x, y = image_width + 10, 8 + _LINE * line
        pen.rectangle((x, y, x + 16, y + 16), fill=tuple(int(v) for v in palette[i]))
        pen.text((x + 24, y), text, fill="black", font=font)
    return picture
