"""The view as a graph: what Pillow, OpenCV and scikit-image make of an image, made by tensor operations."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from skimage.filters import threshold_otsu

from sw_anomaly.data.intensity import Intensity
from sw_anomaly.preprocessing import graph
from sw_anomaly.preprocessing.graph import ViewGraph, components, dilate, erode, gradient_magnitude, otsu
from sw_anomaly.preprocessing.pose import Crop
from sw_anomaly.preprocessing.view import View

from conftest import draw_nail

CROP = Crop(112, 64, 8, (210.0, 205.0, 200.0))
small_masks = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=16))


def assert_viewed_alike(view, image):
    viewed = view.apply(image)
    pixels, put_back = ViewGraph(view)(torch.from_numpy(image))
    np.testing.assert_array_equal(pixels[0].permute(1, 2, 0).numpy(), viewed.pixels)
    heat = np.random.default_rng(0).random(view.shape).astype(np.float32)
    np.testing.assert_allclose(put_back(torch.from_numpy(heat)).numpy(), viewed.put_back(heat), atol=1e-5)


@pytest.mark.parametrize("size", [160, 192])  # the larger one leaves some of the canvas empty
@pytest.mark.parametrize("seed", range(6))
def test_parts_are_brought_into_their_pose_and_maps_back(seed, size):
    rng = np.random.default_rng(seed)
    image = draw_nail(rng.uniform(0, 2 * np.pi), *rng.uniform(65, 95, 2), shadow=rng.uniform(0, 70))
    image = (image * rng.uniform(0.5, 1, 3)).astype(np.uint8)[: 160 - rng.integers(30)]
    assert_viewed_alike(View(size, CROP), image)


@pytest.mark.parametrize(
    "image",
    [
        np.full((100, 140, 3), 120, dtype=np.uint8),
        np.random.default_rng(0).integers(0, 256, (160, 120, 3), dtype=np.uint8),
    ],
    ids=["even", "noise"],
)
def test_without_a_part_the_middle_is_viewed(image):
    assert_viewed_alike(View(160, CROP), image)


@given(mask=small_masks)
def test_components_are_those_of_scipy(mask):
    wanted = np.zeros(mask.shape, dtype=int)
    for pixels in (mask, ~mask):
        labels, count = ndimage.label(pixels)
        for label in range(1, count + 1):
            wanted[labels == label] = np.flatnonzero(labels == label)[0]
    np.testing.assert_array_equal(components(torch.from_numpy(mask)).numpy(), wanted)


def maze(side):
    """Walls and ways, each in one piece, the ways as long and winding as can be."""
    ways, rng = np.zeros((side, side), dtype=bool), np.random.default_rng(0)
    path = [(1, 1)]
    ways[1, 1] = True
    while path:
        row, column = path[-1]
        steps = [(0, 2), (2, 0), (0, -2), (-2, 0)]
        steps = [(r, c) for r, c in steps if 0 < row + r < side - 1 and 0 < column + c < side - 1]
        steps = [(r, c) for r, c in steps if not ways[row + r, column + c]]
        if not steps:
            path.pop()
            continue
        r, c = steps[rng.integers(len(steps))]
        ways[row + r // 2, column + c // 2] = ways[row + r, column + c] = True
        path.append((row + r, column + c))
    return ways


def meander(side):
    """One way that fills the square, along every second row."""
    ways = np.zeros((side, side), dtype=bool)
    ways[::2] = True
    ways[1::4, -1] = ways[3::4, 0] = True
    return ways


@pytest.mark.parametrize("ways", [maze(321), meander(321), meander(321).T, meander(321)[::-1, ::-1]])
def test_the_rounds_are_enough_for_the_most_winding_shapes(ways, monkeypatch):
    monkeypatch.setattr(graph, "ROUNDS", graph.ROUNDS - 2)  # not by a hair's breadth
    labels = components(torch.from_numpy(ways.copy())).numpy()
    assert len(np.unique(labels[ways])) == 1


@given(mask=small_masks, reach=st.integers(1, 3))
def test_masks_grow_and_shrink_as_by_scipy(mask, reach):
    tensor = torch.from_numpy(mask)
    grown, shrunk = (change(tensor, torch.tensor(reach), 4).numpy() for change in (dilate, erode))
    np.testing.assert_array_equal(grown, ndimage.binary_dilation(mask, iterations=reach))
    np.testing.assert_array_equal(shrunk, ndimage.binary_erosion(mask, iterations=reach))


@pytest.mark.parametrize("sigma", [0.4, 1.0])
def test_steepness_and_its_threshold_are_those_of_the_libraries(sigma):
    image = draw_nail(0.7)[:130, :, 0].astype(np.float32)
    wanted = ndimage.gaussian_gradient_magnitude(image, sigma)
    canvas = torch.zeros(160, 160, dtype=torch.float64)
    canvas[:130] = torch.from_numpy(image)
    steepness = gradient_magnitude(canvas, torch.tensor([130.0, 160.0]), torch.tensor(sigma).double(), 5)
    np.testing.assert_allclose(steepness[:130].numpy(), wanted, atol=1e-3)
    counted = torch.zeros(160, 160, dtype=torch.bool)
    counted[:130] = True
    assert otsu(steepness, counted).item() == pytest.approx(threshold_otsu(wanted), abs=1e-3)


@pytest.mark.parametrize("crop", [None, CROP])
def test_deep_images_are_viewed_alike_without_rounding(crop):
    intensity = Intensity(4095.0)
    image = np.rint(draw_nail(0.9)[:140].astype(np.float64) * 4095 / 255 + 3).astype(np.uint16)
    viewed = View(160, crop).apply(intensity.levels(image))
    pixels, _ = ViewGraph(View(160, crop), intensity)(torch.from_numpy(image))
    assert viewed.pixels.dtype == np.float32
    np.testing.assert_allclose(pixels[0].permute(1, 2, 0).numpy(), viewed.pixels, atol=0.02)
