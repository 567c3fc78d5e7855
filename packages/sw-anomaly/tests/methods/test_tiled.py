"""Inspecting in tiles: what is said of each place is what would be said of it in the whole image."""

import numpy as np
import pytest
import torch

from sw_anomaly.methods.base import HeatMethod
from sw_anomaly.methods.patchcore import PatchCore, create_backbone

from conftest import draw_textures


class Brightness(HeatMethod):
    """Brightness, averaged over 5x5 pixels."""

    image_size = 64

    def heat(self, view):
        return torch.nn.functional.avg_pool2d(view.mean(1, keepdim=True), 5, 1, 2, count_include_pad=False)

    describe = heat


@pytest.mark.parametrize("shape", [(64, 64), (65, 130), (200, 330)])
def test_the_map_of_tiles_is_the_map_of_the_whole(shape):
    view = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    method = Brightness()
    whole = method.inspect(view)
    method.tiles = True
    found = method.inspect(view)
    np.testing.assert_allclose(found.map, whole.map, rtol=1e-5)
    assert found.score == pytest.approx(whole.score, rel=1e-5)


def test_one_tile_is_inspected_as_if_there_were_no_tiles():
    views = draw_textures(4, 96, np.random.default_rng(0))
    method = PatchCore.fit(create_backbone("shiftwise_pico", None, 0), views[:3], 96, 0)
    whole = method.inspect(views[3])
    method.tiles = True
    found = method.inspect(views[3])
    np.testing.assert_array_equal(found.map, whole.map)
    assert found.score == whole.score


def test_there_are_no_seams():
    """Of a texture, a map changes no more from pixel to pixel where tiles meet than elsewhere."""
    side, rng = 96, np.random.default_rng(1)
    views = draw_textures(6, side, rng)
    method = PatchCore.fit(create_backbone("resnet10t", None, 0), views, side, 0)
    method.tiles = True
    view = draw_textures(1, 240, rng)[0]
    heat = method.inspect(view).map
    steps = np.abs(np.diff(heat, axis=1)).mean(axis=0)
    borders = [column for start in (0, 72, 144) for column in (start - 1, start + side - 1) if 0 < column < 239]
    assert steps[borders].max() < 2 * np.median(steps)
