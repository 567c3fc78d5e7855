import pytest
import torch

from sw_sparse.granularity import parse_granularity


@pytest.mark.parametrize(
    ("text", "shape", "units"),
    [
        ("element", (4, 3, 2, 2), (1, 48)),
        ("filter", (4, 3, 2, 2), (1, 4)),
        ("shared_filter", (4, 1, 3, 3), (1, 4)),
        ("2:4", (3, 8), (6, 4)),
        ("1:2", (3, 8, 3, 3), (108, 2)),
    ],
)
def test_a_mask_covers_the_weights_of_its_units(text, shape, units):
    granularity = parse_granularity(text)
    scores = torch.rand(shape)
    assert granularity.units(scores).shape == units
    active = torch.rand(units) < 0.5
    mask = granularity.mask(active, torch.Size(shape))
    weight_is_on = mask.expand(shape)
    # Reading the mask back as scores must give the units that were on, and only those.
    assert torch.equal(granularity.units(weight_is_on.double()), active.double())


def test_a_filter_is_worth_the_mean_of_its_weights():
    weight = torch.tensor([[1.0, 3.0], [5.0, 5.0]])
    assert parse_granularity("filter").units(weight).tolist() == [[2.0, 5.0]]


def test_groups_of_n_to_m_run_along_the_inputs():
    weight = torch.arange(8.0).reshape(1, 4, 2)  # [out, in, tap]
    assert parse_granularity("2:4").units(weight).tolist() == [[0, 2, 4, 6], [1, 3, 5, 7]]


def test_n_to_m_refuses_inputs_that_cannot_be_grouped():
    assert "no multiple of 4" in parse_granularity("2:4").unsuited(torch.Size((8, 6)))


@pytest.mark.parametrize("text", ["weights", "4:2", "0:4", "2:2", "2-4"])
def test_unknown_granularity_is_named(text):
    with pytest.raises(ValueError, match=text):
        parse_granularity(text)
