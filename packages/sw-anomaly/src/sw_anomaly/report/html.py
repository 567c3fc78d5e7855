"""One HTML file, for a browser without a network, that shows what evaluations found.

What is said about a category is first gathered in a plain dictionary, images included, so that categories that were
evaluated in different processes can be laid into one file.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from sw_anomaly.data.category import GOOD
from sw_anomaly.data.intensity import Intensity
from sw_anomaly.evaluation.evaluate import Evaluation, Scores, TestedImage
from sw_anomaly.metrics.bootstrap import LEVEL, RESAMPLES, Interval
from sw_anomaly.metrics.ranking import CURVE_AXIS, PRO_LIMITS
from sw_anomaly.report.heat_maps import FOUND, TRUTH, color, edge, heat, shrink
from sw_models.files import write_atomically

THUMBNAIL_SIZE = 256  # pixels along the longer side of the images in the report
BARS = 40  # of the histogram
METRICS = {
    "image_auroc": "image AUROC",
    "image_ap": "image AP",
    "image_f1_max": "image F1-max",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "pixel_f1_max": "pixel F1-max",
    "aupro": f"AUPRO {PRO_LIMITS[0]}",
    "aupro_05": f"AUPRO {PRO_LIMITS[1]}",
    "dice": "Dice",
    "iou": "IoU",
    "precision": "precision",
    "recall": "recall",
}
HEADLINES = ("image_auroc", "image_ap", "pixel_auroc", "pixel_ap", "aupro", "aupro_05")  # shown first
# shown elsewhere than under facts
BULKY = {"overall", "per_defect", "intervals", "images", "missed", "false_alarms", "operating_points"}


def write_sections(path: Path, sections: Sequence[Mapping[str, Any]]) -> None:
    """Write one report on evaluations of one category or several, each as ``describe`` gives it."""
    names = [section["name"] for section in sections]
    labels = [
        name if names.count(name) == 1 else f"{name}, seed {section['facts'].get('seed', number)}"
        for number, (name, section) in enumerate(zip(names, sections, strict=True))
    ]
    environment = Environment(
        loader=PackageLoader("sw_anomaly.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    html = environment.get_template("report.html.j2").render(
        title=f"Defects in {', '.join(dict.fromkeys(names))}",
        sections=[{**section, "label": label} for section, label in zip(sections, labels, strict=True)],
        metrics=METRICS,
        headlines=HEADLINES,
        synthetic=any(section["synthetic"] for section in sections),
        leaky=any(section["leaky"] for section in sections),
        means={name: _mean([section["overall"][name]["value"] for section in sections]) for name in METRICS},
        level=LEVEL,
        resamples=RESAMPLES,
    )
    write_atomically(path, lambda partial: partial.write_text(html, encoding="utf-8"))


def describe(evaluation: Evaluation, result: Mapping[str, Any], intensity: Intensity) -> dict[str, Any]:
    """Gather all that the report says about one category.

    Args:
        evaluation: What was measured.
        result: What ``results.json`` says about how it came about; what it names ``leaky`` or ``synthetic`` is
            stamped so.
        intensity: The scale that images are read on.

    Returns:
        Strings, numbers, lists and dictionaries, which other processes can hand over.
    """
    kinds = sorted({tested.image.kind for tested in evaluation.tested}, key=lambda kind: (kind == GOOD, kind))
    rows = {"all defects": _estimates(evaluation.overall, evaluation.overall_intervals)}
    for kind, scores in evaluation.per_defect.items():
        rows[kind] = _estimates(scores, evaluation.per_defect_intervals[kind])
    scale = (result["pixel_threshold"], result["map_level"])
    cards = [_card(tested, scale, intensity) for tested in evaluation.tested]
    return {
        "name": result["category"],
        "synthetic": bool(result["synthetic"]),
        "leaky": bool(result.get("leaky", False)),
        "facts": _facts(result),
        "overall": rows["all defects"],
        "rows": rows,
        "counts": {kind: sum(one.image.kind == kind for one in evaluation.tested) for kind in kinds},
        "missed": evaluation.missed,
        "false_alarms": evaluation.false_alarms,
        "points": [
            {
                "at": point.at,
                "false_alarms": _estimate(point.false_alarms, point.false_alarms_interval),
                "escapes": _estimate(point.escapes, point.escapes_interval),
            }
            for point in evaluation.operating_points
        ],
        "charts": _charts(evaluation),
        "histogram": _histogram(evaluation, result["image_threshold"]),
        "cards": sorted(cards, key=lambda card: (card["right"], card["kind"] == GOOD, -card["score"])),
    }


def percentages(scores: Scores) -> dict[str, str]:
    """Return the metrics of ``METRICS`` as text; a dash where one is not defined."""
    return {name: _percentage(getattr(scores, name)) for name in METRICS}


def _percentage(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.1f}"


def _estimates(scores: Scores, intervals: Mapping[str, Interval]) -> dict[str, dict[str, Any]]:
    return {name: _estimate(getattr(scores, name), intervals[name]) for name in METRICS}


def _estimate(value: float, interval: Interval) -> dict[str, Any]:
    ends = "" if math.isnan(interval[0]) else f"{_percentage(interval[0])} – {_percentage(interval[1])}"
    return {"value": value, "text": _percentage(value), "interval": ends}


def _mean(values: Sequence[float]) -> str:
    defined = [value for value in values if not math.isnan(value)]
    return _percentage(float(np.mean(defined)) if defined else math.nan)


def _facts(result: Mapping[str, Any]) -> dict[str, str]:
    """List what results.json says beside the figures, in its order: what a run notes is seen without code for it."""
    return {
        name.replace("_", " "): ", ".join(f"{key} {_plain(one)}" for key, one in value.items())
        if isinstance(value, Mapping)
        else _plain(value)
        for name, value in result.items()
        if name not in BULKY
    }


def _plain(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _card(tested: TestedImage, scale: tuple[float, float], intensity: Intensity) -> dict[str, Any]:
    photo = shrink(intensity.displayed(tested.image.load()[0]), THUMBNAIL_SIZE)
    scores = np.asarray(Image.fromarray(tested.inspection.map).resize(photo.size, Image.Resampling.BILINEAR))
    truth, found = (
        np.asarray(Image.fromarray(mask).resize(photo.size, Image.Resampling.NEAREST))
        for mask in (tested.mask, tested.inspection.map >= min(scale[0], tested.inspection.map.max()))
    )
    warmth = Image.fromarray(color(heat(scores, *scale)))
    return {
        "kind": tested.image.kind,
        "file": f"{tested.image.kind}/{tested.image.path.name}",
        "path": str(tested.image.path.resolve()),
        "score": tested.inspection.score,
        "called": tested.called_defective,
        "right": tested.is_right,
        "shape": "{} / {}".format(*photo.size),
        "photo": _embed(photo, "JPEG", quality=86),
        "heat": _embed(warmth, "JPEG", quality=80),
        "truth": _outline(truth, TRUTH),
        "found": _outline(found, FOUND),
    }


def _outline(mask: np.ndarray, line: tuple[int, int, int]) -> str:
    """Return a transparent image with lines around the regions of a mask."""
    lines = Image.fromarray(edge(mask).astype(np.uint8), "P")
    lines.putpalette((0, 0, 0, *line))
    return _embed(lines, "PNG", transparency=0, optimize=True)


def _embed(image: Image.Image, kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64," + base64.b64encode(buffer.getvalue()).decode()


def _charts(evaluation: Evaluation) -> list[dict[str, Any]]:
    def line(name: str, curve: str, metric: str, limit: float = 1.0) -> dict[str, str]:
        shown = limit >= CURVE_AXIS - 1e-9
        points = zip(100 * CURVE_AXIS[shown] / limit, 100 - 100 * evaluation.curves[curve][shown], strict=True)
        value = _percentage(getattr(evaluation.overall, metric))
        return {
            "name": f"{name}, {METRICS[metric].removeprefix(name + ' ')} {value}",
            "points": " ".join(f"{x:.2f},{y:.2f}" for x, y in points),
        }

    limit, strict_limit = PRO_LIMITS
    rate = "false-positive rate"
    images_and_pixels = ("image", "pixel")
    return [
        {
            "title": "ROC",
            "across": rate,
            "up": "true-positive rate",
            "limit": 1.0,
            "mark": None,
            "lines": [line(what, f"{what} ROC", f"{what}_auroc") for what in images_and_pixels],
        },
        {
            "title": "Per-region overlap",
            "across": rate,
            "up": "overlap",
            "limit": limit,
            "mark": strict_limit / limit,
            "lines": [
                line("region", "PRO", "aupro", limit),
                {
                    "name": f"{METRICS['aupro_05']} {_percentage(evaluation.overall.aupro_05)}, left of the mark",
                    "points": "",
                },
            ],
        },
        {
            "title": "Precision and recall",
            "across": "recall",
            "up": "precision",
            "limit": 1.0,
            "mark": None,
            "lines": [line(what, f"{what} PR", f"{what}_ap") for what in images_and_pixels],
        },
    ]


def _histogram(evaluation: Evaluation, threshold: float) -> dict[str, Any]:
    """Bars of image scores in percent of the chart's width and height; good ones and defective ones."""
    scores = {
        name: [one.inspection.score for one in evaluation.tested if one.image.is_good == is_good]
        for name, is_good in (("good", True), ("defective", False))
    }
    everything = [*scores["good"], *scores["defective"], threshold]
    low, high = min(everything), max(everything)
    high = high if high > low else low + 1
    counts = {name: np.histogram(values, BARS, (low, high))[0] for name, values in scores.items()}
    most = 4 * math.ceil(max(count.max() for count in counts.values()) / 4)  # so that quarters are whole numbers
    return {
        "low": f"{low:.3g}",
        "high": f"{high:.3g}",
        "most": most,
        "range": (low, high),
        "threshold": threshold,
        "mark": 100 * (threshold - low) / (high - low),
        "bars": {name: [100 * int(count) / most for count in values] for name, values in counts.items()},
        "width": 100 / BARS,
    }
