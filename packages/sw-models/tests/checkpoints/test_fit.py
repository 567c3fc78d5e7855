import re

import pytest
import torch
from torch import nn

from sw_models.checkpoints.fit import load_fitting
from sw_models.errors import InputError


def network():
    return nn.ModuleDict({"fc": nn.Linear(2, 3), "stages": nn.ModuleList([nn.ModuleDict({"blocks": nn.ModuleList(
        [nn.Linear(2, 2), nn.Linear(2, 2)])})])})  # fmt: skip


def test_weights_that_fit_are_loaded():
    one, other = network(), network()
    load_fitting(other, one.state_dict(), "x:")
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in one.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("fc.bias"), "x: lacks fc.bias, which the model has"),
        (lambda s: s.update(more=torch.ones(1)), "x: has more, which the model lacks"),
        (lambda s: s.update({"fc.bias": torch.ones(4)}), "x: has fc.bias of shape (4,), the model wants (3,)"),
        (
            lambda s: [s.pop(f"stages.0.blocks.1.{name}") for name in ("weight", "bias")],
            "x: lacks stages.0.blocks.1, which the model has",
        ),
        (lambda s: s.update({f"w{i}": torch.ones(1) for i in range(9)}), "x: has w0, w1, w2, w3, w4, w5 and 3 more,"),
    ],
)
def test_others_are_refused_by_name_and_nothing_is_loaded(change, message):
    model = network()
    state = {key: value + 1 for key, value in model.state_dict().items()}
    before = {key: value.clone() for key, value in model.state_dict().items()}
    change(state)
    with pytest.raises(InputError, match=re.escape(message)):
        load_fitting(model, state, "x:")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
