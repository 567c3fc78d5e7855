"""What the engine does when layers stop training, or another optimizer takes over."""

import copy

import pytest
import torch
from networks import SmallNet, loss_of

from sw_sparse import Sparsifier, SparsityConfig

UPDATES = [
    {"update": "set"},
    {"update": "rigl"},
    {"update": "gradual", "schedule": "cubic", "total_steps": 8},
    {"update": "set", "importance": "movement"},
    {"update": "set", "granularity": "shared_filter", "distribution": "snip", "published": True},
]


def sparse(model=None, make=lambda p: torch.optim.AdamW(p, lr=0.05), **settings):
    model = model or SmallNet()
    groups = [{"params": [p]} for p in model.parameters() if p.requires_grad]
    optimizer = make(groups)
    settings = {"sparsity": 0.5, "targets": ("expand.*", "project.*"), "update_every": 1, **settings}
    return model, optimizer, Sparsifier(model, optimizer, SparsityConfig(**settings), loss=loss_of)


def step(model, optimizer, sparsifier, number=0):
    optimizer.zero_grad()
    loss_of(model, number).backward()
    optimizer.step()
    return sparsifier.step()


def frozen(model, optimizer):
    model.expand.requires_grad_(False)


def learning_rate_of_zero(model, optimizer):
    group_of(model.expand.weight, optimizer)["lr"] = 0.0


def learning_rate_of_zero_as_a_tensor(model, optimizer):
    group_of(model.expand.weight, optimizer)["lr"] = torch.tensor(0.0)


def group_removed(model, optimizer):
    gone = group_of(model.expand.weight, optimizer)
    optimizer.param_groups[:] = [group for group in optimizer.param_groups if group is not gone]


def never_reached(model, optimizer):
    forward = model.expand.forward
    model.expand.forward = lambda x: forward(x).detach() + model.grn * 0


def group_of(parameter, optimizer):
    return next(g for g in optimizer.param_groups if any(p is parameter for p in g["params"]))


@pytest.mark.parametrize("settings", UPDATES)
@pytest.mark.parametrize(
    "stop", [frozen, learning_rate_of_zero, learning_rate_of_zero_as_a_tensor, group_removed, never_reached]
)
def test_a_layer_that_is_not_training_keeps_its_values_and_its_mask_exactly(stop, settings):
    model, optimizer, sparsifier = sparse(**settings)
    step(model, optimizer, sparsifier)
    stop(model, optimizer)
    layer = next(layer for layer in sparsifier.layers if layer.name == "expand.weight")
    before, mask = model.expand.weight.detach().clone(), layer.active[0].clone()
    others = [layer.active[0].clone() for layer in sparsifier.layers if layer.name != "expand.weight"]
    for number in range(4):
        assert step(model, optimizer, sparsifier, number)
    assert torch.equal(model.expand.weight, before)
    assert torch.equal(layer.active[0], mask)
    now = [layer.active[0] for layer in sparsifier.layers if layer.name != "expand.weight"]
    assert any(not torch.equal(a, b) for a, b in zip(others, now, strict=True))


def test_a_layer_that_trains_again_follows_the_updates_again():
    model, optimizer, sparsifier = sparse()
    model.expand.requires_grad_(False)
    step(model, optimizer, sparsifier)
    mask = sparsifier.layers[0].active[0].clone()
    model.expand.requires_grad_(True)
    step(model, optimizer, sparsifier)
    assert not torch.equal(sparsifier.layers[0].active[0], mask)


def test_paths_that_share_a_mask_rest_together():
    model, optimizer, sparsifier = sparse(targets="weights.*", granularity="shared_filter")
    model.weights[1].requires_grad_(False)
    before, masks = model.weights[1].detach().clone(), [m.clone() for m in sparsifier.layers[0].active]
    step(model, optimizer, sparsifier)
    assert torch.equal(model.weights[1], before)
    assert all(torch.equal(a, b) for a, b in zip(masks, sparsifier.layers[0].active, strict=True))


def check_zero(sparsifier):
    for layer in sparsifier.layers:
        for weight, off in zip(layer.parameters, layer.off(), strict=True):
            assert not weight[off.expand(weight.shape)].any()


@pytest.mark.parametrize("clip", [False, True])
def test_a_rebuilt_optimizer_leaves_what_is_off_at_zero_and_is_an_error(clip):
    model, _, sparsifier = sparse()
    rebuilt = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    loss_of(model).backward()
    if clip:
        sparsifier.mask_gradients()  # what is off then stays 0 by itself, and the masks would stand still
    rebuilt.step()
    with pytest.raises(
        RuntimeError, match=r"optimizer: the one given at construction was not stepped, but .*expand\.w"
    ):
        sparsifier.step()
    check_zero(sparsifier)
    assert sparsifier.steps == 0


def test_weights_put_in_place_of_others_are_an_error():
    model, _, sparsifier = sparse()
    model.load_state_dict(copy.deepcopy(model.state_dict()), assign=True)
    rebuilt = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    with pytest.raises(RuntimeError, match="optimizer: the one given at construction was not stepped"):
        step(model, rebuilt, sparsifier)


def test_a_step_that_a_gradient_scaler_skips_after_clipping_is_no_error():
    model, _, sparsifier = sparse()
    loss_of(model).backward()
    sparsifier.mask_gradients()
    assert sparsifier.step() is False
    check_zero(sparsifier)
