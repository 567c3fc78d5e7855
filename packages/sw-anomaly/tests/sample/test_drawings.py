"""What is drawn: masks true to the defects, colour where it is said."""

import numpy as np
import pytest

from sw_anomaly.sample.drawings import CATEGORIES


@pytest.mark.parametrize("category", CATEGORIES)
def test_masks_hold_what_the_defect_changed(category):
    draw, defects = CATEGORIES[category]
    for defect in defects.values():
        changed_inside = []
        for seed in range(4):
            good, _ = draw(None, np.random.default_rng(seed))
            before = {}

            def spy(picture, x, y, rng, defect=defect, before=before):
                before["picture"] = picture.copy()
                shape = defect(picture, x, y, rng)
                before["change"] = np.abs(picture - before["picture"]).max(axis=2)
                return shape

            bad, mask = draw(spy, np.random.default_rng(seed))
            inside = mask > 0
            assert good.shape == bad.shape
            assert 20 < inside.sum() < 0.25 * inside.size
            assert before["change"][~inside].mean() < 0.002
            changed_inside.append(before["change"][inside].mean())
        assert min(changed_inside) > 0.05


@pytest.mark.parametrize(("category", "is_grey"), [("bottle", False), ("tile", False), ("grid", True)])
def test_the_grid_is_grey_and_the_others_are_not(category, is_grey):
    picture = CATEGORIES[category][0](None, np.random.default_rng(0))[0].astype(int)
    saturation = (picture.max(axis=2) - picture.min(axis=2)).mean()
    assert (saturation == 0) == is_grey
