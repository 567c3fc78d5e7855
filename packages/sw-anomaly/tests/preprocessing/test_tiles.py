"""Tiles: they cover an image, count for one at every pixel, and are taken where a defect would be lost otherwise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sw_anomaly.preprocessing.tiles import OVERLAP, choose_tiling, cut, place_tiles, weighted
from sw_anomaly.preprocessing.view import View


@given(st.integers(32, 500), st.integers(16, 64).map(lambda half: 2 * half))
def test_tiles_lie_within_the_image_and_overlap_enough(length, side):
    length = max(length, side)
    starts = place_tiles(length, side)
    assert (starts[0], starts[-1] + side) == (0, length)
    steps = np.diff(starts)
    assert (steps <= side - round(OVERLAP * side) + 1).all()
    assert len(starts) == 1 or (steps > 0).all()


@given(st.integers(64, 300), st.integers(64, 300))
def test_every_pixel_counts_once_and_next_to_a_tiles_border_not_at_all(height, width):
    total = np.zeros((height, width))
    for (rows, columns), weights in weighted((height, width), 64):
        assert weights.shape == (64, 64)
        total[rows, columns] += weights
        if rows.start > 0:
            assert not weights[:4].any()
        if columns.stop < width:
            assert not weights[:, -4:].any()
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_an_image_of_one_tile_is_taken_as_it_is():
    ((place, weights),) = weighted((64, 64), 64)
    assert place == (slice(0, 64), slice(0, 64))
    assert (weights == 1).all()


@pytest.mark.parametrize(
    ("tile", "longest", "defect", "tiles"),
    [
        ("auto", 2000, 10, True),
        ("auto", 1024, 10, False),  # 3.1 pixels across
        ("auto", 1024, 5, True),
        ("auto", 320, 1, False),  # nothing is scaled
        ("on", 1024, 100, True),
        ("on", 200, 10, False),
        ("off", 8000, 1, False),
    ],
)
def test_tiles_are_taken_where_a_defect_would_be_lost(tile, longest, defect, tiles):
    taken, reason = choose_tiling(tile, longest, 320, defect)
    assert taken is tiles
    if tile == "auto" and longest > 320:
        assert f"a defect of {defect} pixels would be {defect * 320 / longest:.1f} wide" in reason


def test_images_smaller_than_a_tile_are_mirrored_and_their_maps_cut():
    image = np.random.default_rng(0).integers(0, 256, (50, 100, 3), dtype=np.uint8)
    viewed = View(64, tiles=True).apply(image)
    assert viewed.pixels.shape == (64, 100, 3)
    np.testing.assert_array_equal(viewed.pixels[:50], image)
    np.testing.assert_array_equal(viewed.pixels[50], image[49])
    assert viewed.put_back(np.zeros((64, 100), dtype=np.float32)).shape == (50, 100)
    assert viewed.take_mask(np.ones((50, 100), dtype=bool)).all()
    assert len(cut(viewed.pixels.shape[:2], 64)) == 2


def test_larger_images_are_taken_as_they_are():
    image = np.zeros((90, 70, 3), dtype=np.uint8)
    assert View(64, tiles=True).apply(image).pixels is image
