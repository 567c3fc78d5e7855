import numpy as np
import pytest
import torch
from torch import nn

from sw_models.analysis.receptive_field import area_shares, receptive_field


class OneConvolution(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3, padding=1, bias=False)
        nn.init.constant_(self.conv.weight, 0.5)

    def forward_features(self, x):
        return self.conv(x)


def test_the_field_of_a_convolution_is_its_kernel():
    field = receptive_field(OneConvolution(), [torch.ones(1, 3, 9, 9), torch.ones(1, 3, 9, 9)])
    expected = np.zeros((9, 9))
    expected[3:6, 3:6] = 0.5 * 2 * 3
    np.testing.assert_allclose(field, expected)


def test_images_with_gradients_that_are_not_finite_are_left_out():
    model = OneConvolution()
    bad = torch.full((1, 3, 9, 9), float("inf"))
    nn.init.constant_(model.conv.weight, float("nan"))
    with pytest.raises(ValueError, match="images: got none with a finite gradient"):
        receptive_field(model, [bad])


@pytest.mark.parametrize(("threshold", "side"), [(0.2, 5), (0.5, 9), (0.99, 11)])
def test_areas_are_those_of_a_search_over_squares(threshold, side):
    found, area = area_shares(np.ones((11, 11)), [threshold])[threshold]
    brute = next(s for s in (3, 5, 7, 9, 11) if s * s / 121 > threshold)
    assert found == brute == side
    assert area == pytest.approx(side * side / 121)
