"""Ensembles: scores and maps add up in units of what each says about good views."""

import numpy as np
import pytest
import torch

from sw_anomaly.methods.base import HeatMethod, Inspection
from sw_anomaly.methods.ensemble import Ensemble, add, find_units


class Constant(HeatMethod):
    def __init__(self, value):
        super().__init__()
        self.image_size, self.value = 8, value

    def heat(self, view):
        return torch.full((1, 1, *view.shape[2:]), self.value)

    describe = heat


def test_a_score_counts_by_how_widely_those_of_good_views_spread_wherever_they_lie():
    scores = np.stack([np.arange(1, 11), 10 * np.arange(1, 11)]).astype(float)
    names = ["unet", "bank"]
    np.testing.assert_allclose(find_units(names, scores)[0], [3.6, 36])
    np.testing.assert_allclose(find_units(names, scores + 1000)[0], [3.6, 36])
    assert (find_units(names, np.zeros((2, 4))) > 0).all()


def test_a_map_counts_by_what_a_high_score_of_a_good_view_is():
    scores = np.stack([np.arange(1, 11), 10 * np.arange(1, 11)]).astype(float)
    np.testing.assert_allclose(find_units(["unet", "bank"], scores)[1], [9.1, 91])


def test_features_of_a_pretrained_network_count_four_times():
    scores = np.stack([np.arange(1, 11), 10 * np.arange(1, 11)]).astype(float)
    even = find_units(["unet", "bank"], scores)
    np.testing.assert_allclose(find_units(["unet", "patchcore"], scores), even / [[1, 4], [1, 16]], rtol=1e-6)
    np.testing.assert_allclose(find_units(["unet", "patchcore"], scores, in_tiles=True), even, rtol=1e-6)


def test_scores_and_maps_add_up_in_their_units():
    view, units = np.zeros((8, 6, 3), dtype=np.uint8), np.array([[0.5, 4], [0.25, 2]], dtype=np.float32)
    ensemble = Ensemble({"one": Constant(1.0), "other": Constant(2.0)}, units)
    found = ensemble.inspect(view)
    assert found.score == pytest.approx(1 / 0.5 + 2 / 4)
    np.testing.assert_allclose(found.map, np.full((8, 6), 1 / 0.25 + 2 / 2))
    assert found.map.dtype == np.float32
    score, heat = ensemble(torch.zeros(1, 3, 8, 6))
    assert (score.item(), heat.unique().item()) == pytest.approx((2.5, 5.0))


def test_one_row_of_units_counts_for_both():
    """Files of older versions have one."""
    view, units = np.zeros((8, 6, 3), dtype=np.uint8), np.array([0.5, 4], dtype=np.float32)
    found = Ensemble({"one": Constant(1.0), "other": Constant(2.0)}, units).inspect(view)
    assert found.score == pytest.approx(2.5)
    np.testing.assert_allclose(found.map, np.full((8, 6), 2.5))


def test_parts_inspect_large_views_in_tiles_each():
    parts = {"one": Constant(1.0), "other": Constant(2.0)}
    for part in parts.values():
        part.tiles = True
    view = np.random.default_rng(0).integers(0, 256, (20, 31, 3)).astype(np.uint8)
    found = Ensemble(parts, np.array([0.5, 4], dtype=np.float32)).inspect(view)
    expected = add([part.inspect(view) for part in parts.values()], np.array([0.5, 4], dtype=np.float32))
    assert found.score == pytest.approx(expected.score)
    np.testing.assert_allclose(found.map, expected.map)


def test_a_score_is_the_sum_of_scores_not_the_score_of_the_sum():
    left, right = np.zeros((2, 4), dtype=np.float32), np.zeros((2, 4), dtype=np.float32)
    left[0, 0] = right[1, 3] = 1
    found = add([Inspection(1.0, left), Inspection(1.0, right)], np.ones(2, dtype=np.float32))
    assert found.score == 2
    assert found.map.max() == 1
