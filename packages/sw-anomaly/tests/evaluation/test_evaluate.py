"""Evaluation: what is measured, over which images, with whose threshold."""

import json
from dataclasses import astuple

import numpy as np
import pytest

from sw_anomaly.data.layouts import read_category
from sw_anomaly.detector import Inspection
from sw_anomaly.evaluation.evaluate import evaluate
from sw_models.errors import InputError


class Brightness:
    """A detector that calls bright spots on dark ground defective."""

    pixel_threshold = 0.9

    def __init__(self, image_threshold=0.5, blind=False):
        self.image_threshold = image_threshold
        self.blind = blind

    def inspect(self, image):
        inner = image[8:-8, 8:-8].mean(axis=2) > 240
        heat = np.zeros(image.shape[:2], dtype=np.float32)
        heat[8:-8, 8:-8] = inner
        return Inspection(0.0 if self.blind else float(inner.any()), heat)


@pytest.fixture
def images(tiny_root):
    return read_category(tiny_root, "disc").test


def test_a_perfect_detector_scores_one_everywhere(images):
    evaluation = evaluate(Brightness(), images)
    assert set(evaluation.per_defect) == {"spot"}
    for scores in (evaluation.overall, evaluation.per_defect["spot"]):
        assert astuple(scores) == pytest.approx([1] * 12)
    for interval in evaluation.overall_intervals.values():
        assert interval == pytest.approx((1, 1))
    assert (evaluation.missed, evaluation.false_alarms) == (0, 0)


def test_decisions_follow_the_detectors_own_threshold(images):
    assert evaluate(Brightness(image_threshold=0.0), images).false_alarms == 2
    assert evaluate(Brightness(image_threshold=1.5), images).missed == 2


class Uneven(Brightness):
    """Marks two pixels of every image, one of them brightly."""

    pixel_threshold = 0.5

    def inspect(self, image):
        heat = np.zeros(image.shape[:2], dtype=np.float32)
        heat[3, 4], heat[5, 6] = 0.9, 0.4
        return Inspection(0.7, heat)


def test_pixels_are_marked_in_images_that_are_called_defective_and_in_no_others(images):
    for image_threshold, pixel_threshold, marked in ((0.5, 0.5, 1), (0.5, 0.3, 2), (0.5, 2.0, 1), (0.8, 0.3, 0)):
        detector = Uneven(image_threshold)
        detector.pixel_threshold = pixel_threshold
        evaluation = evaluate(detector, images)
        for tested in evaluation.tested:
            assert tested.verdict.pixels.sum() == marked
            assert tested.verdict.pixels.any() == tested.called_defective
        assert np.nan_to_num(evaluation.overall.recall) == 0


@pytest.mark.parametrize("what", ["score", "map", "image_threshold", "pixel_threshold"])
def test_nothing_is_decided_by_a_number_that_is_not_finite(images, what):
    class Damaged(Brightness):
        def inspect(self, image):
            found = super().inspect(image)
            if what == "map":
                found.map[0, 0] = np.nan
            return Inspection(float("inf"), found.map) if what == "score" else found

    detector = Damaged()
    if what.endswith("threshold"):
        setattr(detector, what, float("nan"))
    with pytest.raises(InputError, match=rf"000\.png: {what.replace('_', ' ')} of the detector: got (nan|inf)"):
        evaluate(detector, images)


def test_a_blind_detector_is_at_chance(images):
    assert evaluate(Brightness(blind=True), images).overall.image_auroc == 0.5


def test_each_type_is_measured_against_all_good_images(tiny_root):
    (tiny_root / "disc" / "test" / "spot").rename(tiny_root / "disc" / "test" / "stain")
    (tiny_root / "disc" / "ground_truth" / "spot").rename(tiny_root / "disc" / "ground_truth" / "stain")
    images = list(read_category(tiny_root, "disc").test)
    images[3] = images[3].__class__(images[3].path, "other", images[3].mask_path)
    evaluation = evaluate(Brightness(), images)
    assert list(evaluation.per_defect) == ["other", "stain"]
    assert evaluation.per_defect["other"].image_auroc == 1


def test_without_good_images_there_is_no_image_auroc_and_json_says_null(images):
    evaluation = evaluate(Brightness(), [image for image in images if not image.is_good])
    assert np.isnan(evaluation.overall.image_auroc)
    written = json.loads(json.dumps(evaluation.as_dict(), allow_nan=False))
    assert written["overall"]["image_auroc"] is None
    assert written["overall"]["pixel_auroc"] == 1
    assert [image["called_defective"] for image in written["images"]] == [True, True]
