"""Pictures of score maps: colors in order, thresholds in the middle, outlines beside what they surround."""

import numpy as np

from sw_anomaly.report import heat_maps
from sw_anomaly.report.heat_maps import FOUND, color, edge, heat, overlay, shrink


def test_colors_rise_from_dark_to_light():
    brightness = color(np.linspace(-1, 2, 50)[None])[0] @ [0.299, 0.587, 0.114]
    assert (np.diff(brightness) >= 0).all()
    assert brightness[-1] > 3 * brightness[0]


def test_the_threshold_is_the_middle_of_the_heat():
    np.testing.assert_allclose(heat(np.array([0.0, 3.0, 6.0, 60.0]), 3.0), [0, 0.5, 1, 1])
    assert np.isfinite(heat(np.zeros(3), 0.0)).all()
    np.testing.assert_allclose(heat(np.array([28.0, 30.0, 31.0, 32.0]), 31.0, 30.0), [0, 0, 0.5, 1])


def test_an_outline_lies_around_the_region_and_not_in_it():
    mask = np.zeros((20, 20), dtype=bool)
    mask[8:12, 8:12] = True
    line = edge(mask)
    assert not line[mask].any()
    assert line[7, 8:12].all()
    assert not line[:5].any()


def test_an_overlay_outlines_what_reaches_the_threshold():
    picture, score_map = np.full((32, 32, 3), 200, dtype=np.uint8), np.zeros((32, 32))
    score_map[10:20, 10:20] = 1.0
    over = overlay(picture, score_map, 1.0, score_map >= 1)
    assert over.dtype == np.uint8
    assert (over[9, 10:20] == FOUND).all()
    assert not (over[10:20, 10:20] == FOUND).all(axis=2).any()
    assert not (overlay(picture, score_map, 1.1, score_map >= 1.1) == FOUND).all(axis=2).any()


def test_strips_leave_no_trace(monkeypatch):
    rng = np.random.default_rng(0)
    picture, score_map = rng.integers(0, 256, (640, 600, 3), dtype=np.uint8), rng.random((640, 600))
    found = np.zeros((640, 600), dtype=bool)
    found[40:170, 100:300] = found[260:300, 5:] = found[511:513, :50] = True
    over = overlay(picture, score_map, 0.5, found)
    for rows in (1, 13, 640):
        monkeypatch.setattr(heat_maps, "STRIP", rows)
        np.testing.assert_array_equal(overlay(picture, score_map, 0.5, found), over)


def test_pictures_keep_their_proportions():
    assert shrink(np.zeros((50, 200, 3), dtype=np.uint8), 100).size == (100, 25)
    assert shrink(np.zeros((2, 900, 3), dtype=np.uint8), 100).size == (100, 1)
