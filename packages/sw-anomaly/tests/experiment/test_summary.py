"""The table over categories and seeds: means of what is defined, in strict JSON."""

import json

import numpy as np
import pytest

from sw_anomaly.experiment.run import Outcome
from sw_anomaly.experiment.summary import summarize
from sw_anomaly.report.html import HEADLINES


def outcome(tmp_path, category, **values):
    overall = {**dict.fromkeys(HEADLINES, 0.5), **values}
    return Outcome(tmp_path, {"category": category, "overall": overall}, {}, None)


def test_the_table_holds_means_and_deviations_over_the_seeds(tmp_path):
    values = [0.7, 0.8, 0.95]
    screws = [outcome(tmp_path, "screw", image_auroc=value) for value in values]
    table = summarize([*screws, outcome(tmp_path, "disc", image_auroc=1.0)])
    assert list(table) == ["disc", "screw", "mean"]
    assert table["screw"]["image_auroc"]["mean"] == pytest.approx(np.mean(values))
    assert table["screw"]["image_auroc"]["deviation"] == pytest.approx(np.std(values, ddof=1))
    assert table["disc"]["image_auroc"] == {"mean": 1.0}
    assert table["mean"]["image_auroc"] == {"mean": pytest.approx((1 + np.mean(values)) / 2)}


def test_what_one_category_does_not_define_does_not_spoil_the_mean(tmp_path):
    without_defects = dict.fromkeys(HEADLINES, None)
    outcomes = [outcome(tmp_path, "screw", image_auroc=0.7), outcome(tmp_path, "nut", **without_defects)]
    table = summarize(outcomes)
    assert table["mean"]["image_auroc"] == {"mean": pytest.approx(0.7)}
    assert table["nut"]["image_auroc"] == {"mean": None}
    json.dumps(table, allow_nan=False)
    twice = summarize([*outcomes, outcome(tmp_path, "nut", **without_defects)])
    assert twice["nut"]["image_auroc"] == {"mean": None, "deviation": None}
    assert summarize(outcomes[1:])["nut"]["pixel_ap"] == {"mean": None}
