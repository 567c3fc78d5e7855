"""The metrics against scikit-learn and against brute force that follows the definitions word by word."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from scipy.integrate import trapezoid
from sklearn import metrics as reference

from sw_anomaly.metrics.ranking import CURVE_AXIS, Ranking, agreement, rank_images, rank_pixels, region_overlap

from conftest import scored_masks


def brute_force_aupro(maps, masks, limit):
    """One threshold after the other, one region after the other, trapezoids, cut at the limit."""
    regions = []
    for index, mask in enumerate(masks):
        labels, count = ndimage.label(mask, np.ones((3, 3)))
        regions += [(index, labels == number + 1) for number in range(count)]
    thresholds = sorted({value for score_map in maps for value in score_map.ravel()}, reverse=True)
    free = sum((~mask).sum() for mask in masks)
    fpr, pro = [0.0], [0.0]
    for threshold in thresholds:
        found = [score_map >= threshold for score_map in maps]
        fpr.append(sum((hit & ~mask).sum() for hit, mask in zip(found, masks, strict=True)) / free)
        pro.append(np.mean([found[index][region].mean() for index, region in regions]))
    area = 0.0
    for i in range(1, len(fpr)):
        if fpr[i - 1] >= limit or fpr[i] == fpr[i - 1]:
            continue
        end = min(fpr[i], limit)
        end_pro = pro[i - 1] + (pro[i] - pro[i - 1]) * (end - fpr[i - 1]) / (fpr[i] - fpr[i - 1])
        area += (end - fpr[i - 1]) * (pro[i - 1] + end_pro) / 2
    return area / limit


def f1(labels, called):
    return 2 * (labels & called).sum() / (labels.sum() + called.sum())


@given(scored_masks())
def test_auroc_and_average_precision_agree_with_scikit_learn(data):
    maps, masks = data
    labels, scores = np.concatenate([m.ravel() for m in masks]), np.concatenate([m.ravel() for m in maps])
    ranking = rank_pixels(maps, masks)
    assert ranking.auroc() == pytest.approx(reference.roc_auc_score(labels, scores), abs=1e-9)
    assert ranking.average_precision() == pytest.approx(reference.average_precision_score(labels, scores), abs=1e-9)


@given(scored_masks())
def test_f1_max_is_the_highest_f1_of_any_threshold(data):
    maps, masks = data
    labels, scores = np.concatenate([m.ravel() for m in masks]), np.concatenate([m.ravel() for m in maps])
    best, threshold = rank_images(scores, labels).f1_max()
    assert best == pytest.approx(max(f1(labels, scores >= value) for value in np.unique(scores)), abs=1e-9)
    assert best == pytest.approx(f1(labels, scores >= threshold), abs=1e-9)


@given(scored_masks(), st.sampled_from([0.0, 1.0, 2.0, 25.0]))
def test_agreement_at_a_threshold_is_that_of_the_pixels_called_defective(data, threshold):
    maps, masks = data
    called = np.concatenate([m.ravel() for m in maps]) >= threshold
    labels = np.concatenate([m.ravel() for m in masks])
    measured = agreement(*rank_pixels(maps, masks).counts(threshold))
    assert measured["dice"] == pytest.approx(reference.f1_score(labels, called), abs=1e-9)
    assert measured["iou"] == pytest.approx(reference.jaccard_score(labels, called), abs=1e-9)
    assert measured["recall"] == pytest.approx(reference.recall_score(labels, called), abs=1e-9)
    if called.any():
        assert measured["precision"] == pytest.approx(reference.precision_score(labels, called), abs=1e-9)
    else:
        assert np.isnan(measured["precision"])


@given(scored_masks(), st.sampled_from([0.05, 0.3, 1.0]))
def test_aupro_agrees_with_brute_force(data, limit):
    maps, masks = data
    found = region_overlap(rank_pixels(maps, masks), maps, masks, [limit, 0.1])
    assert found.areas[limit] == pytest.approx(brute_force_aupro(maps, masks, limit), abs=1e-9)


def test_aupro_agrees_with_brute_force_on_smooth_maps():
    rng = np.random.default_rng(0)
    masks = [ndimage.gaussian_filter(rng.normal(size=(48, 64)), 3) > 0.1 for _ in range(3)]
    maps = [ndimage.gaussian_filter(mask + 0.8 * rng.normal(size=mask.shape), 1) for mask in masks]
    found = region_overlap(rank_pixels(maps, masks), maps, masks)
    for limit in (0.3, 0.05):
        assert found.areas[limit] == pytest.approx(brute_force_aupro(maps, masks, limit), abs=1e-9)
    assert 0.1 < found.areas[0.05] < found.areas[0.3] < 0.95


def test_aupro_counts_every_region_alike_and_diagonal_neighbours_as_one():
    mask = np.zeros((20, 20), dtype=bool)
    mask[:10, :10] = True
    mask[15, 15] = mask[16, 16] = True
    only_large = np.where(mask & (np.arange(20) < 12), 1.0, 0.0) + np.linspace(0, 0.5, 400).reshape(20, 20)
    only_large[mask & (np.arange(20) > 12)] = -1
    found = region_overlap(rank_pixels([only_large], [mask]), [only_large], [mask])
    assert found.areas[0.3] == pytest.approx(0.5)


@given(scored_masks())
def test_only_the_order_of_scores_matters(data):
    maps, masks = data
    moved = [np.exp(score_map.astype(np.float64) / 8) - 3 for score_map in maps]
    one, other = rank_pixels(maps, masks), rank_pixels(moved, masks)
    assert one.auroc() == other.auroc()
    assert one.average_precision() == other.average_precision()
    assert region_overlap(one, maps, masks).areas == region_overlap(other, moved, masks).areas


@pytest.mark.parametrize(("positives", "negatives"), [([], [1.0]), ([1.0], []), ([], [])])
def test_without_positives_or_negatives_there_is_no_area(positives, negatives):
    ranking = Ranking(np.array(positives), np.array(negatives))
    assert np.isnan(ranking.auroc())
    assert ranking.roc().shape == ranking.precision_recall().shape == CURVE_AXIS.shape


def test_curves_end_at_the_areas_they_belong_to():
    rng = np.random.default_rng(1)
    masks = [ndimage.gaussian_filter(rng.normal(size=(64, 64)), 4) > 0.05]
    maps = [masks[0] + rng.normal(size=(64, 64))]
    ranking = rank_pixels(maps, masks)
    overlap = region_overlap(ranking, maps, masks, [1.0])
    assert trapezoid(ranking.roc(), CURVE_AXIS) == pytest.approx(ranking.auroc(), abs=5e-3)
    assert trapezoid(overlap.curve, CURVE_AXIS) == pytest.approx(overlap.areas[1.0], abs=5e-3)
    assert trapezoid(ranking.precision_recall(), CURVE_AXIS) == pytest.approx(ranking.average_precision(), abs=5e-3)


def test_nan_scores_are_refused():
    with pytest.raises(ValueError, match="NaN"):
        rank_images([0.1, float("nan")], [True, False])


def test_a_mask_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"\(4, 4\).*\(4, 5\)"):
        rank_pixels([np.zeros((4, 4))], [np.zeros((4, 5), dtype=bool)])
