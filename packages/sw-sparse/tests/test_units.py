"""Units: every invariant of the engine, and units that grow."""

import copy
from typing import Any

import pytest
import torch
from networks import ChannelNet, UnitNet, loss_of
from timm.utils import ModelEmaV3
from torch import nn

from sw_sparse import Sparsifier, SparsityConfig

INPUTS = (torch.zeros(2, 4, 5, 5),)
OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
}


NETWORKS = {"unit": UnitNet, "channel": ChannelNet}


def sparse(model=None, optimizer="adamw", ema=None, state=None, **settings):
    model = model or NETWORKS[settings.get("granularity", "unit")]()
    optimizer = OPTIMIZERS[optimizer]([p for p in model.parameters() if p.requires_grad])
    config = SparsityConfig(
        **{"sparsity": 0.5, "granularity": "unit", "update_every": 2, "total_steps": 20, **settings}
    )
    return model, optimizer, Sparsifier(model, optimizer, config, loss=loss_of, ema=ema, state=state, inputs=INPUTS)


def train(model, optimizer, sparsifier, steps):
    for step in steps:
        optimizer.zero_grad()
        loss_of(model, step).backward()
        optimizer.step()
        sparsifier.step()


def entries(layer, name, tensor, units):
    """Return what the units (bool ``[units]``) have in a parameter, one part per dimension that they lie in."""
    return [tensor.movedim(along.dim, 0)[units.repeat_interleave(along.each)] for along in layer.slices[name]]


def check(model, optimizer, sparsifier, ema=None):
    for layer in sparsifier.layers:
        (active,) = layer.active
        assert int(active.sum()) == int(layer.counts) or sparsifier.config.update == "gradual"
        off = ~active[0]
        for name, weight in layer.weights.items():
            moments = [
                v for v in optimizer.state.get(weight, {}).values() if torch.is_tensor(v) and v.shape == weight.shape
            ]
            for tensor in [weight, *moments, *([ema.module.get_parameter(name)] if ema else [])]:
                assert not any(part.any() for part in entries(layer, name, tensor, off)), name


def test_a_unit_is_all_that_belongs_to_it():
    _, _, sparsifier = sparse()
    assert {layer.name: sorted(layer.weights) for layer in sparsifier.layers} == {
        "stem.weight": sorted([
            "stem.weight", "stem.bias", "norm.weight", "norm.bias", "depthwise.weight", "depthwise.bias",
            "expand.weight", "project.weight", "project.bias", "mix.weight", "mix.bias", "head.weight",
        ]),
        "expand.weight": sorted(["expand.weight", "expand.bias", "grn.weight", "grn.bias", "project.weight"]),
    }  # fmt: skip
    assert sparsifier.skipped == {"head.weight": "they are the model's outputs"}


@pytest.mark.parametrize("granularity", NETWORKS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("importance", ["magnitude", "gradient", "snip", "movement"])
@pytest.mark.parametrize(
    "settings",
    [
        {"update": "set"},
        {"update": "set", "regrow_dropped": True, "drop_fraction": 1.0},
        {"update": "gradual", "schedule": "cubic", "distribution": "erk"},
        {"update": "static", "initialisation": "random", "distribution": "snip"},
    ],
)
def test_invariants_hold_after_every_step(settings, importance, optimizer, granularity):
    model = NETWORKS[granularity]()
    ema = ModelEmaV3(model, decay=0.5)
    parts = sparse(model, optimizer, ema.module, **settings, importance=importance, granularity=granularity)
    for step in range(8):
        train(*parts, [step])
        ema.update(model)
        check(*parts, ema)
    total = sum(layer.active[0].numel() for layer in parts[2].layers)
    assert sum(int(layer.counts.sum()) for layer in parts[2].layers) == round(0.5 * total)


def test_units_grow_without_changing_anything_and_then_learn():
    model, optimizer, sparsifier = sparse(UnitNet(grn=False), update_every=5, drop_fraction=0.5)
    train(model, optimizer, sparsifier, range(4))
    before = [layer.active[0][0].clone() for layer in sparsifier.layers]
    train(model, optimizer, sparsifier, [4])
    born = [layer.active[0][0] & ~was for layer, was in zip(sparsifier.layers, before, strict=True)]
    assert all(grown.any() for grown in born)
    model.eval()
    images = torch.randn(4, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    twin = copy.deepcopy(model)
    for layer, grown in zip(sparsifier.layers, born, strict=True):
        for name in layer.weights:
            for along in layer.slices[name]:
                weight = twin.get_parameter(name).data.movedim(along.dim, 0)
                if layer.outgoing.get(name) == along:
                    assert not weight[grown].any(), "it begins with 0 where it acts on others"
                elif weight.ndim > 1 and name in ("stem.weight", "expand.weight"):
                    assert weight[grown].any(), "it has something to compute with"
                weight[grown] = 0
    torch.testing.assert_close(model(images), twin(images))
    assert all(bool((model.norm.running_var[grown] == 1).all()) for grown in born[:1])
    model.train()
    train(model, optimizer, sparsifier, range(5, 8))
    for layer, grown in zip(sparsifier.layers, born, strict=True):
        alive = grown & layer.active[0][0]
        moved = [layer.weights[name].movedim(along.dim, 0)[alive] for name, along in layer.outgoing.items()]
        assert all(any(bool(part[unit].any()) for part in moved) for unit in range(int(alive.sum())))


def test_a_channel_that_is_off_is_a_ghost_channel():
    model, _, sparsifier = sparse(granularity="channel", targets="*.weights.*")
    (layer,) = sparsifier.layers
    assert set(layer.weights) == {name for name, _ in model.named_parameters() if name.startswith("shift.")}
    off = model.shift.rep_channels[~layer.active[0][0]]
    x = torch.randn(3, 12, 9, 9, generator=torch.Generator().manual_seed(0))
    places = torch.isin(model.shift.outputs, off)
    for training in (True, False):
        y = model.shift.train(training)(x)
        torch.testing.assert_close(y[:, places], x[:, model.shift.outputs[places]])
        assert (y[:, ~places] - x[:, model.shift.outputs[~places]])[:, : len(model.shift.rep_channels)].any()
    assert torch.equal(model.shift.fuse().rep_channels, model.shift.rep_channels[layer.active[0][0]])


def test_channels_grow_without_changing_anything_and_then_learn():
    model, optimizer, sparsifier = sparse(granularity="channel", update_every=3, drop_fraction=0.5)
    train(model, optimizer, sparsifier, range(2))
    (layer,) = sparsifier.layers
    before = layer.active[0][0].clone()
    train(model, optimizer, sparsifier, [2])
    grown = layer.active[0][0] & ~before
    assert grown.any()
    assert all(weight.unflatten(0, (len(grown), -1))[grown].flatten(1).any(1).all() for weight in model.shift.weights)
    norms = [model.shift.norm_horizontal, model.shift.norm_vertical, model.shift.norm_identity]
    assert not any(norm.weight[grown].any() or norm.bias[grown].any() for norm in norms)
    train(model, optimizer, sparsifier, [3])
    assert all(norm.weight[grown].all() for norm in norms)


def test_channels_are_those_of_shift_wise_layers_that_train():
    with pytest.raises(ValueError, match=r"no channels for 'head\.\*'"):
        sparse(granularity="channel", targets="head.*")
    model = ChannelNet()
    model.shift.norm_vertical.requires_grad_(False)
    with pytest.raises(ValueError, match=r"shift\.weights\.0: shift\.norm_vertical\.weight is frozen"):
        sparse(model, granularity="channel")


@pytest.mark.parametrize("at_construction", [True, False])
@pytest.mark.parametrize(("granularity", "update"), [("unit", "set"), ("unit", "gradual"), ("channel", "set")])
def test_resumed_training_is_bitwise_equal(granularity, update, at_construction):
    settings = {"granularity": granularity, "update": update, "importance": "movement"}
    straight = sparse(**settings)
    train(*straight, range(12))
    first = sparse(**settings)
    train(*first, range(7))
    saved = copy.deepcopy([part.state_dict() for part in first])
    model = NETWORKS[granularity](seed=1)
    if at_construction:
        model.load_state_dict(saved[0])
    second = sparse(model, **settings, state=saved[2] if at_construction else None)
    for part, state in zip(second, saved, strict=True):
        part.load_state_dict(state)
    train(*second, range(7, 12))
    for one, other in zip(straight, second, strict=True):
        flat, again = (torch.utils._pytree.tree_leaves(part.state_dict()) for part in (one, other))
        assert all(torch.equal(a, b) if torch.is_tensor(a) else a == b for a, b in zip(flat, again, strict=True))


def test_the_zeros_of_a_sparse_model_can_be_kept():
    model, optimizer, sparsifier = sparse()
    train(model, optimizer, sparsifier, range(3))
    sparsifier.squash()
    again = sparse(model, initialisation="nonzero", update="static")
    assert again[2].densities() == sparsifier.densities()
    train(*again, range(3, 6))
    check(*again)


def test_layers_are_chosen_by_the_weight_whose_outputs_they_are():
    _, _, sparsifier = sparse(targets="expand.*")
    assert [layer.name for layer in sparsifier.layers] == ["expand.weight"]
    with pytest.raises(ValueError, match=r"no units for 'head.*' \(head\.weight: they are the model's outputs\)"):
        sparse(targets="head.*")
    with pytest.raises(ValueError, match="no weight's outputs match"):
        sparse(targets="norm.*")


def test_a_group_of_which_a_part_is_frozen_is_left_alone():
    model = UnitNet()
    model.grn.requires_grad_(False)
    _, _, sparsifier = sparse(model)
    assert [layer.name for layer in sparsifier.layers] == ["stem.weight"]
    assert sparsifier.skipped["expand.weight"] == "grn.weight is frozen"


def test_a_group_that_freezes_later_keeps_its_mask():
    model, optimizer, sparsifier = sparse(update_every=1)
    model.grn.requires_grad_(False)
    before = {layer.name: layer.active[0].clone() for layer in sparsifier.layers}
    train(model, optimizer, sparsifier, range(3))
    same = {layer.name: torch.equal(layer.active[0], before[layer.name]) for layer in sparsifier.layers}
    assert same == {"stem.weight": False, "expand.weight": True}


def test_gradients_cannot_choose_which_unit_grows():
    with pytest.raises(ValueError, match="update: got 'rigl', but the gradient of a unit that is off is 0"):
        SparsityConfig(granularity="unit", update="rigl")


def test_a_model_that_does_not_tell_its_inputs_wants_them():
    model = UnitNet()
    with pytest.raises(ValueError, match="inputs: got none, but UnitNet does not tell"):
        Sparsifier(model, OPTIMIZERS["sgd"](model.parameters()), SparsityConfig(granularity="unit"))


def test_wrapped_models_are_traced():
    model: Any = torch.compile(UnitNet(), backend="eager")
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    sparsifier = Sparsifier(model, optimizer, SparsityConfig(granularity="unit", sparsity=0.5), inputs=INPUTS)
    assert [layer.name for layer in sparsifier.layers] == ["stem.weight", "expand.weight"]


class Rows(nn.Module):
    """A mean over units that is no response norm's."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 8), nn.Linear(8, 5), nn.Linear(5, 3)

    def forward(self, x):
        x = self.a(x)
        return self.c(self.b(x - x.mean(1, keepdim=True)).relu())


def test_other_means_over_units_are_refused():
    model = Rows()
    config = SparsityConfig(granularity="unit", sparsity=0.5)
    sparsifier = Sparsifier(model, OPTIMIZERS["sgd"](model.parameters()), config, inputs=(torch.zeros(2, 4),))
    assert [layer.name for layer in sparsifier.layers] == ["b.weight"]
    assert sparsifier.skipped["a.weight"] == "a mean is taken over its outputs"
