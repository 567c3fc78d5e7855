import colorsys

import numpy as np
import pytest
from PIL import Image, ImageDraw

pytest.importorskip("mmengine", reason="mmengine is not installed (extra openmmlab)")

from sw_sparse.openmmlab.sample_shapes import CLASSES, draw, label_map

PICTURES = [draw(index, size=96) for index in range(40)]
INSTANCES = [instance for _, instances in PICTURES for instance in instances]


def test_the_same_arguments_give_the_same_picture_and_others_do_not():
    image, instances = draw(3, seed=1)
    again, same = draw(3, seed=1)
    assert image.shape == (128, 128, 3)
    assert np.array_equal(image, again)
    assert [i.polygon for i in instances] == [i.polygon for i in same]
    assert not np.array_equal(image, draw(4, seed=1)[0])
    assert not np.array_equal(image, draw(3, seed=2)[0])


def test_nothing_global_is_drawn_from():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    draw(0)
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_every_class_and_crowds_occur():
    assert {i.category for i in INSTANCES} == set(range(len(CLASSES)))
    assert 0 < sum(i.crowd for i in INSTANCES) < len(INSTANCES) / 2


def test_masks_of_a_picture_do_not_overlap():
    for _, instances in PICTURES:
        assert sum(i.mask.astype(int) for i in instances).max() <= 1


def test_boxes_and_polygons_are_those_of_the_masks():
    for instance in INSTANCES:
        x, y, width, height = instance.box
        rows, columns = np.nonzero(instance.mask)
        assert (x, y, x + width - 1, y + height - 1) == (columns.min(), rows.min(), columns.max(), rows.max())
        if not instance.crowd:
            canvas = Image.new("1", instance.mask.shape)
            ImageDraw.Draw(canvas).polygon(instance.polygon, fill=1)
            assert np.array_equal(np.array(canvas), instance.mask)


def test_each_class_has_its_hues():
    for image, instances in PICTURES:
        for instance in instances:
            hue, _, _ = colorsys.rgb_to_hsv(*image[instance.mask].mean(axis=0) / 255)
            assert abs((hue * 3 - instance.category + 1.5) % 3 - 1.5) < 0.6


def test_the_label_map_has_the_class_of_every_pixel():
    _, instances = draw(0)
    labels = label_map(instances)
    assert all((labels[i.mask] == i.category + 1).all() for i in instances)
    assert (labels > 0).sum() == sum(i.mask.sum() for i in instances)
