"""Intervals: a redraw is measured as if its images had been tested, and what is drawn is what the text says."""

import numpy as np
import pytest
from hypothesis import given
from scipy import ndimage

from sw_anomaly.metrics.bootstrap import ImageStatistics, bootstrap, collect, draw_weights, measure
from sw_anomaly.metrics.ranking import agreement, rank_images, rank_pixels, region_overlap

from conftest import scored_masks

THRESHOLD = 0.6


def smooth_images(count, seed=0, size=64):
    """Every second image has defects; their maps show them through noise."""
    rng = np.random.default_rng(seed)
    masks = [
        ndimage.gaussian_filter(rng.normal(size=(size, size)), 4) > (0.08 if number % 2 else 9)
        for number in range(count)
    ]
    maps = [ndimage.gaussian_filter(mask + 1.2 * rng.normal(size=mask.shape), 1).astype(np.float32) for mask in masks]
    return maps, masks


def statistics_of(maps, masks):
    return collect(
        names=[f"{number}.png" for number in range(len(maps))],
        defective=[bool(mask.any()) for mask in masks],
        scores=[float(score_map.max()) for score_map in maps],
        maps=maps,
        masks=masks,
        pixels=rank_pixels(maps, masks),
        called=[score_map >= THRESHOLD for score_map in maps],
    )


def exact(maps, masks):
    """The metrics themselves, by name."""
    images = rank_images([score_map.max() for score_map in maps], [mask.any() for mask in masks])
    pixels, overlap = rank_pixels(maps, masks), region_overlap(rank_pixels(maps, masks), maps, masks)
    return {
        "image_auroc": images.auroc(),
        "image_ap": images.average_precision(),
        "image_f1_max": images.f1_max()[0],
        "pixel_auroc": pixels.auroc(),
        "pixel_ap": pixels.average_precision(),
        "pixel_f1_max": pixels.f1_max()[0],
        "aupro": overlap.areas[0.3],
        "aupro_05": overlap.areas[0.05],
        **agreement(*pixels.counts(THRESHOLD)),
    }


@given(scored_masks(most_levels=3))
def test_every_image_once_gives_the_metrics_themselves_where_the_grid_holds_all_scores(data):
    maps, masks = data
    measured = measure(statistics_of(maps, masks), np.ones((1, len(maps))))
    wanted = exact(maps, masks)
    assert {name: values[0] for name, values in measured.items()} == pytest.approx(wanted, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("seed", range(3))
def test_a_redraw_is_measured_as_if_its_images_had_been_tested(seed):
    maps, masks = smooth_images(30)
    statistics = statistics_of(maps, masks)
    weights = draw_weights(statistics.defective, 1, seed)
    drawn = np.repeat(np.arange(30), weights[0].astype(int))
    measured = measure(statistics, weights)
    for name, wanted in exact([maps[i] for i in drawn], [masks[i] for i in drawn]).items():
        grid_error = 2e-3 if name.startswith(("pixel", "aupro")) else 1e-9
        assert measured[name][0] == pytest.approx(wanted, abs=grid_error), name


def test_as_many_good_and_defective_images_are_drawn_as_there_are():
    defective = np.array([True, False, False, True, True])
    weights = draw_weights(defective, 200)
    assert (weights[:, defective].sum(axis=1) == 3).all()
    assert (weights[:, ~defective].sum(axis=1) == 2).all()
    assert (weights.max(axis=0) > 1).all()
    np.testing.assert_array_equal(weights, draw_weights(defective, 200))


def test_intervals_hold_the_metric_and_shrink_with_more_images():
    few, many = (smooth_images(count) for count in (16, 144))
    wide, narrow = (bootstrap(statistics_of(*images)) for images in (few, many))
    for name, value in exact(*many).items():
        low, high = narrow[name]
        assert low <= value <= high, name
        assert high - low < 0.75 * (wide[name][1] - wide[name][0]), name


def test_an_interval_covers_the_truth_about_as_often_as_it_says():
    """Image AUROC of two normal distributions one deviation apart is 0.7602."""
    rng = np.random.default_rng(0)
    defective = np.arange(120) % 2 == 0
    blank, none = [np.zeros((1, 1), dtype=np.float32)] * 120, [np.zeros((1, 1), dtype=bool)] * 120
    hits = 0
    for _ in range(100):
        scores = rng.normal(size=120) + defective
        statistics = collect([""] * 120, defective, scores, blank, none, rank_pixels(blank, none), none)
        low, high = bootstrap(statistics)["image_auroc"]
        hits += low <= 0.7602 <= high
    assert 88 <= hits <= 100


def test_what_is_not_defined_has_no_interval():
    maps, masks = smooth_images(6)
    ends = bootstrap(statistics_of(maps[::2], masks[::2]))  # good images alone
    assert {name for name, interval in ends.items() if np.isnan(interval).all()} >= {
        "image_auroc",
        "pixel_auroc",
        "pixel_ap",
        "aupro",
        "recall",
    }


def test_statistics_are_saved_whole_and_selected_by_image(tmp_path):
    statistics = statistics_of(*smooth_images(6))
    statistics.save(tmp_path / "images.npz")
    loaded = ImageStatistics.load(tmp_path / "images.npz")
    for name, values in vars(statistics).items():
        np.testing.assert_array_equal(getattr(loaded, name), values)
    some = loaded.select([1, 4])
    assert some.names.tolist() == ["1.png", "4.png"]
    assert some.positives.shape == (2, statistics.positives.shape[1])
