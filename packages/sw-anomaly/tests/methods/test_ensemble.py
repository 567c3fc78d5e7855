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


def test_a_unit_is_what_nine_in_ten_good_views_do_not_reach():
    scores = np.stack([np.arange(1, 11), 10 * np.arange(1, 11)]).astype(float)
    np.testing.assert_allclose(find_units(scores), [9.1, 91])
    assert (find_units(np.zeros((2, 4))) > 0).all()


def test_scores_and_maps_add_up_in_their_units():
    view, units = np.zeros((8, 6, 3), dtype=np.uint8), np.array([0.5, 4], dtype=np.float32)
    found = Ensemble({"one": Constant(1.0), "other": Constant(2.0)}, units).inspect(view)
    assert found.score == pytest.approx(1 / 0.5 + 2 / 4)
    np.testing.assert_allclose(found.map, np.full((8, 6), 2.5))
    assert found.map.dtype == np.float32


def test_a_score_is_the_sum_of_scores_not_the_score_of_the_sum():
    left, right = np.zeros((2, 4), dtype=np.float32), np.zeros((2, 4), dtype=np.float32)
    left[0, 0] = right[1, 3] = 1
    found = add([Inspection(1.0, left), Inspection(1.0, right)], np.ones(2, dtype=np.float32))
    assert found.score == 2
    assert found.map.max() == 1
