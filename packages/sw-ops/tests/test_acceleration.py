from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

import sw_ops

from conftest import assert_close_to_maximum, seeded


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1),
        nn.Conv2d(12, 12, 13, padding=6, groups=12),
        nn.GELU(),
        nn.Conv2d(12, 12, (5, 7), padding="same", groups=12, bias=False),
        nn.Sequential(nn.Conv2d(12, 12, 7, padding=3, groups=12), nn.Conv2d(12, 5, 1)),
    )


def outputs_and_gradients(model: nn.Module) -> list[torch.Tensor]:
    model.zero_grad()
    x = torch.randn(2, 3, 15, 17, generator=seeded(1), requires_grad=True)
    y = model(x)
    y.square().sum().backward()
    return [y.detach(), x.grad, *(p.grad.clone() for p in model.parameters())]


def test_a_model_computes_the_same_faster_layers_and_back() -> None:
    model = network()
    want, kinds = outputs_and_gradients(model), [type(m) for m in model.modules()]
    keys = list(model.state_dict())
    assert sw_ops.accelerate(model) == ["1", "3", "4.0"]
    assert list(model.state_dict()) == keys
    for got, expected in zip(outputs_and_gradients(model), want, strict=True):
        assert_close_to_maximum(got, expected, 1e-5)
    assert sw_ops.accelerate(model) == []
    assert sw_ops.accelerate(model, undo=True) == ["1", "3", "4.0"]
    assert [type(m) for m in model.modules()] == kinds
    for got, expected in zip(outputs_and_gradients(model), want, strict=True):
        assert_close_to_maximum(got, expected, 1e-6)


def test_the_operator_of_this_package_computes() -> None:
    model = network()
    sw_ops.accelerate(model)
    x = torch.randn(2, 12, 9, 9, generator=seeded(1))
    assert torch.equal(model[1](x), sw_ops.depthwise_conv2d(x, model[1].weight, model[1].bias))
    assert_close_to_maximum(model[1](x[0]), model[1](x)[0], 1e-6)  # without a batch


class Special(nn.Conv2d):
    pass


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(8, 8, 7, padding=3),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.Conv2d(8, 8, 7, padding=3, groups=4),
        nn.Conv2d(8, 16, 7, padding=3, groups=8),
        nn.Conv2d(8, 8, 7, padding=3, groups=8, stride=2),
        nn.Conv2d(8, 8, 7, padding=6, groups=8, dilation=2),
        nn.Conv2d(8, 8, 7, padding=2, groups=8),
        nn.Conv2d(8, 8, 7, groups=8),
        nn.Conv2d(8, 8, 6, padding="same", groups=8),
        nn.Conv2d(8, 8, 7, padding=3, groups=8, padding_mode="reflect"),
        Special(8, 8, 7, padding=3, groups=8),
        nn.Conv1d(8, 8, 7, padding=3, groups=8),
    ],
)
def test_other_layers_are_left_alone(layer: nn.Module) -> None:
    kind = type(layer)
    assert sw_ops.accelerate(layer) == []
    assert type(layer) is kind


def test_what_holds_on_to_a_layer_goes_on_working() -> None:
    model, seen = network(), []
    model[1].register_forward_hook(lambda *_: seen.append(1))
    parameters = list(model.parameters())
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    sw_ops.accelerate(model)
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    outputs_and_gradients(model)
    before = model[1].weight.detach().clone()
    optimizer.step()
    assert seen == [1]
    assert not torch.equal(model[1].weight, before)


def test_copies_pickles_and_compiled_models_compute_the_same() -> None:
    model = network()
    want = outputs_and_gradients(model)[0]
    sw_ops.accelerate(model)
    x = torch.randn(2, 3, 15, 17, generator=seeded(1))
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), torch.compile(model, fullgraph=True)):
        assert_close_to_maximum(other(x), want, 1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_script() -> None:
    model = network()
    sw_ops.accelerate(model)
    x = torch.randn(2, 3, 15, 17, generator=seeded(1))
    assert_close_to_maximum(torch.jit.script(model)(x), model(x), 1e-6)


class Doubled(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return 2 * weight


def test_a_parametrized_layer_is_another_class_and_left_alone() -> None:
    model = network()
    parametrize.register_parametrization(model[1], "weight", Doubled())
    assert sw_ops.accelerate(model) == ["3", "4.0"]
