"""One HTML file, for a browser without a network, that shows what an evaluation found."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image
from scipy import ndimage

from sw_anomaly.dataset import GOOD
from sw_anomaly.evaluation import Evaluation, Scores, TestedImage
from sw_anomaly.files import write_atomically
from sw_anomaly.metrics import CURVE_FPR, PRO_LIMIT

PICTURE_SIZE = 256  # pixels along the longer side of the pictures in the report
HEAT = np.array(  # colours of the heat map from 0 to 1, dark violet to light yellow
    [(13, 8, 65), (84, 15, 109), (158, 42, 99), (220, 80, 57), (249, 142, 9), (252, 206, 60), (252, 255, 200)],
    dtype=float,
)
METRICS = {
    "image_auroc": "image AUROC",
    "image_f1_max": "image F1-max",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "aupro": f"AUPRO {PRO_LIMIT}",
}
CURVES = {  # title: (curve, name of its height, name in the table, the range of false-positive rates shown)
    "Finding images": ("image ROC", "true-positive rate", "image_auroc", 1.0),
    "Finding pixels": ("pixel ROC", "true-positive rate", "pixel_auroc", 1.0),
    "Covering defects": ("PRO", "per-region overlap", "aupro", PRO_LIMIT),
}


def write_report(path: Path, evaluation: Evaluation, result: Mapping[str, Any]) -> None:
    """Write the report on an evaluation to `path`; `result` is what `results.json` says about how it came about."""
    environment = Environment(loader=PackageLoader("sw_anomaly"), autoescape=True, undefined=StrictUndefined)
    kinds = sorted({tested.image.kind for tested in evaluation.tested}, key=lambda kind: (kind == GOOD, kind))
    html = environment.get_template("report.html.j2").render(
        title=f"Defects in {result['category']}",
        synthetic=result["synthetic"],
        facts=_facts(result),
        metrics=METRICS,
        rows={"all defects": percentages(evaluation.overall)}
        | {kind: percentages(scores) for kind, scores in evaluation.per_defect.items()},
        counts={kind: sum(one.image.kind == kind for one in evaluation.tested) for kind in kinds},
        missed=evaluation.missed,
        false_alarms=evaluation.false_alarms,
        curves=[_curve(name, evaluation) for name in CURVES],
        groups={kind: _cards(evaluation, kind, result["pixel_threshold"]) for kind in kinds},
    )
    write_atomically(path, lambda partial: partial.write_text(html, encoding="utf-8"))


def _facts(result: Mapping[str, Any]) -> dict[str, str]:
    thresholds = f"{result['image_threshold']:.3f} for images, {result['pixel_threshold']:.3f} for pixels"
    return {
        "data": result["data"] + (" (SYNTHETIC)" if result["synthetic"] else ""),
        "model": f"{result['model']}, at {result['image_size']} pixels",
        "checkpoint": result["checkpoint"],
        "thresholds": f"{thresholds}; from held-out good images with synthetic defects, not from test images",
        "time": ", ".join(f"{what} {seconds:.0f} s" for what, seconds in result["seconds"].items()),
        "versions": ", ".join(f"{name} {number}" for name, number in result["versions"].items()),
    }


def colour(heat: np.ndarray) -> np.ndarray:
    """Heat in [0, 1], of any shape, as uint8 colours with one more axis of 3."""
    place = np.clip(heat, 0, 1) * (len(HEAT) - 1)
    channels = [np.interp(place, np.arange(len(HEAT)), HEAT[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).astype(np.uint8)


def outline(picture: np.ndarray, mask: np.ndarray, line: tuple[int, int, int] = (0, 229, 160)) -> np.ndarray:
    """`picture`, uint8 [H, W, 3], with a line of three pixels around the regions of `mask`, bool [H, W]."""
    edge = ndimage.binary_dilation(mask, iterations=3) & ~mask
    return np.where(edge[..., None], np.array(line, dtype=np.uint8), picture)


def _cards(evaluation: Evaluation, kind: str, pixel_threshold: float) -> list[dict[str, Any]]:
    chosen = [one for one in evaluation.tested if one.image.kind == kind]
    return [_card(one, pixel_threshold) for one in sorted(chosen, key=lambda one: -one.inspection.score)]


def _card(tested: TestedImage, pixel_threshold: float) -> dict[str, Any]:
    picture = tested.image.load()[0]
    height, width = picture.shape[:2]
    scale = PICTURE_SIZE / max(height, width)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    small = np.asarray(
        Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC)
    )
    mask = np.asarray(Image.fromarray(tested.mask).resize(size, Image.Resampling.NEAREST))
    found = np.asarray(Image.fromarray(tested.inspection.map).resize(size, Image.Resampling.BILINEAR))
    heat = found / max(2 * pixel_threshold, 1e-6)  # the threshold is the middle of the colours
    blended = 0.35 * small + 0.65 * colour(heat)
    return {
        "file": f"{tested.image.kind}/{tested.image.path.name}",
        "score": tested.inspection.score,
        "verdict": "defective" if tested.called_defective else "good",
        "right": tested.is_right,
        "picture": _embed(small),
        "masked": _embed(outline(small, mask)) if mask.any() else None,
        "heat": _embed(blended.astype(np.uint8)),
        "found": _embed(outline(small, found >= pixel_threshold, (255, 64, 96))),
    }


def _embed(picture: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=86)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _curve(title: str, evaluation: Evaluation) -> dict[str, Any]:
    name, height, metric, limit = CURVES[title]
    shown = limit >= CURVE_FPR
    points = zip(100 * CURVE_FPR[shown] / limit, 100 - 100 * evaluation.curves[name][shown], strict=True)
    line = " ".join(f"{x:.2f},{y:.2f}" for x, y in points)
    value = getattr(evaluation.overall, metric)
    return {
        "title": title,
        "name": name,
        "height": height,
        "limit": limit,
        "line": line,
        "value": value,
        "metric": METRICS[metric],
    }


def percentages(scores: Scores) -> dict[str, str]:
    """The metrics of `METRICS` as text; a dash where one is not defined."""
    values = {name: getattr(scores, name) for name in METRICS}
    return {name: "–" if math.isnan(value) else f"{100 * value:.1f}" for name, value in values.items()}
