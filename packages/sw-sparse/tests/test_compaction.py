"""Compact models compute what the sparse ones do."""

import json

import pytest
import timm
import torch
from networks import UnitNet, loss_of
from safetensors import safe_open
from safetensors.torch import save_file
from timm.utils import reparameterize_model
from torch import nn

import sw_models  # noqa: F401  (its models, in timm)
from sw_models.errors import InputError
from sw_models.export import export_model
from sw_sparse import Sparsifier, SparsityConfig, compact, load_compact, save_compact
from sw_sparse.compaction import widths

SMALL = {"depths": (1, 1, 1, 1), "dims": (8, 8, 12, 16), "layer_scale_init": 0.5}
MODELS = {
    "shiftwise_pico": SMALL,
    "shiftwise_v1_tiny": SMALL,
    "unireplknet_tiny": SMALL,
    "slak_tiny": SMALL,
    "resnet18": {},
    "convnext_atto": {"ls_init_value": 0.5},
    "convnextv2_atto": {},
    "vit_tiny_patch16_224": {"img_size": 64, "depth": 3},
}
INPUTS = (torch.zeros(2, 3, 64, 64),)


def drawn(name):
    """Return a model as after training: nothing is at a start that hides an error."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=7, **MODELS[name])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)
    return model.eval()


def sparse(name, granularity="unit"):
    model = drawn(name)
    config = SparsityConfig(sparsity=0.5, granularity=granularity, initialisation="random", update="static")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    return model, optimizer, Sparsifier(model, optimizer, config, inputs=INPUTS)


def outputs(*models):
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return [model.eval()(images) for model in models]


def same(model, smaller):
    expected, actual = outputs(model, smaller)
    assert expected.std() > 1e-3
    assert (actual - expected).abs().max() < 1e-5 * expected.abs().max()


def numbers(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "granularity"),
    [*((name, "unit") for name in MODELS), ("shiftwise_pico", "channel"), ("shiftwise_v1_tiny", "channel")],
)
def test_a_compact_model_computes_the_same_loads_and_trains_on(name, granularity, tmp_path):
    model, _, sparsifier = sparse(name, granularity)
    smaller = sparsifier.compact(model)
    same(model, smaller)
    on = {layer.name: int(layer.counts) for layer in sparsifier.layers}
    assert {w.layer: w.after for w in widths(model, smaller) if w.layer in on} == on
    assert numbers(smaller) < numbers(model)

    save_compact(smaller, tmp_path / "compact.safetensors")
    torch.manual_seed(5)
    loaded = load_compact(tmp_path / "compact.safetensors", timm.create_model(name, num_classes=7, **MODELS[name]))
    assert all(torch.equal(a, b) for a, b in zip(outputs(smaller), outputs(loaded), strict=True))

    before = {name: parameter.detach().clone() for name, parameter in loaded.named_parameters()}
    optimizer = torch.optim.SGD(loaded.parameters(), lr=0.1)
    loaded.train()(torch.randn(4, 3, 64, 64)).logsumexp(1).sum().backward()
    optimizer.step()
    moved = [not torch.equal(value, loaded.get_parameter(name)) for name, value in before.items()]
    assert sum(moved) > 0.8 * len(moved)


@pytest.mark.parametrize(
    ("name", "granularity"),
    [("shiftwise_pico", "unit"), ("shiftwise_pico", "channel"), ("shiftwise_v1_tiny", "channel"),
     ("unireplknet_tiny", "unit")],
)  # fmt: skip
def test_both_orders_of_deploying_and_compacting_give_the_same(name, granularity, tmp_path):
    model, _, sparsifier = sparse(name, granularity)
    smaller = sparsifier.compact(model)
    deployed_then = reparameterize_model(smaller)
    then_compacted = compact(reparameterize_model(model), INPUTS)
    same(model, deployed_then)
    same(model, then_compacted)
    assert numbers(deployed_then) == numbers(then_compacted)
    save_compact(then_compacted, tmp_path / "deployed.safetensors")
    full = reparameterize_model(timm.create_model(name, num_classes=7, **MODELS[name]))
    same(model, load_compact(tmp_path / "deployed.safetensors", full))


def test_files_leave_out_the_tables_and_refuse_a_model_of_others(tmp_path):
    model, _, sparsifier = sparse("shiftwise_pico")
    save_compact(sparsifier.compact(model), tmp_path / "compact.safetensors")
    with safe_open(tmp_path / "compact.safetensors", "pt") as file:
        assert not any(".slots_" in name or ".weights.1" in name for name in file.keys())  # noqa: SIM118
    other = timm.create_model("shiftwise_pico", num_classes=7, table_seed=5, **SMALL)
    with pytest.raises(InputError, match=r"compact\.safetensors: model: it shifts otherwise"):
        load_compact(tmp_path / "compact.safetensors", other)


def test_a_model_without_units_says_why_of_each_layer():
    model = timm.create_model("shiftwise_tiny_coordatt", **SMALL)
    with pytest.raises(ValueError, match=r"blocks\.0\.expand\.weight: native_group_norm of .*local_norm\.weight mixes"):
        Sparsifier(model, torch.optim.SGD(model.parameters(), 0.1), SparsityConfig(granularity="unit"), inputs=INPUTS)


def test_a_compact_model_exports(tmp_path):
    model, _, sparsifier = sparse("shiftwise_pico")
    assert export_model(sparsifier.compact(model), tmp_path / "compact.pt2", "exported", size=64) < 1e-5


def test_deployed_blocks_of_different_widths_share_their_memory():
    torch.manual_seed(0)
    model = timm.create_model("shiftwise_pico", num_classes=7, **{**SMALL, "depths": (2, 2, 2, 2)}).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    config = SparsityConfig(sparsity=0.6, granularity="unit", initialisation="random", distribution="erk")
    sparsifier = Sparsifier(model, torch.optim.SGD(model.parameters(), 0.1), config, inputs=INPUTS)
    for layer in sparsifier.layers:
        layer.switch([torch.rand(layer.active[0].shape) < torch.rand(())])
        layer.active[0][0, 0] = True
    for layer in sparsifier.layers:
        layer.switch(layer.active)
    smaller = sparsifier.compact(model)
    assert len({block.expand.out_channels for block in smaller.stages[1].blocks}) == 2
    same(model, reparameterize_model(smaller))


def test_units_that_are_gone_still_count_in_the_mean_of_a_response_norm():
    model = UnitNet()
    inputs = (torch.zeros(2, 4, 5, 5),)
    config = SparsityConfig(sparsity=0.5, granularity="unit", targets="expand.*", update="static")
    sparsifier = Sparsifier(model, torch.optim.SGD(model.parameters(), 0.1), config, inputs=inputs)
    smaller = sparsifier.compact(model)
    assert smaller.grn.eps == pytest.approx(2e-6)
    kept = sparsifier.layers[0].active[0][0]
    torch.testing.assert_close(smaller.grn.weight, 2 * model.grn.weight[kept])
    torch.testing.assert_close(loss_of(smaller.eval()), loss_of(model.eval()))


def test_a_layer_keeps_one_unit():
    model = UnitNet()
    for name in ("expand.weight", "expand.bias", "grn.weight", "grn.bias", "project.weight"):
        nn.init.zeros_(model.get_parameter(name))
    smaller = compact(model, (torch.zeros(2, 4, 5, 5),))
    assert (smaller.expand.out_channels, smaller.project.in_channels) == (1, 1)


def test_a_dense_model_stays_as_it_is():
    model = UnitNet()
    smaller = compact(model, (torch.zeros(2, 4, 5, 5),))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), smaller.parameters(), strict=True))


def test_tied_weights_stay_tied():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 3))
    model[3].weight = model[1].weight
    with torch.no_grad():
        for tensor in (model[0].weight[1], model[1].weight[1], model[1].weight[:, 1], model[4].weight[:, 1],
                       *(model[i].bias[1] for i in (0, 1, 3))):  # fmt: skip
            tensor.zero_()
    smaller = compact(model, (torch.zeros(2, 3),))
    assert smaller[3].weight is smaller[1].weight
    assert smaller[1].weight.shape == (3, 3)
    torch.testing.assert_close(smaller(torch.ones(2, 3)), model(torch.ones(2, 3)))


class Stubborn(nn.Module):
    """Scales by a width that is written into its code."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.b(self.a(x)) * self.a.out_features


def test_a_copy_that_computes_something_else_is_refused():
    model = Stubborn()
    with torch.no_grad():
        for tensor in (model.a.weight[2:4], model.a.bias[2:4], model.b.weight[:, 2:4]):
            tensor.zero_()
    with pytest.raises(ValueError, match="the compact Stubborn computes something else"):
        compact(model, (torch.zeros(2, 4),))


def test_files_tell_the_widths_and_others_are_refused(tmp_path):
    model, _, sparsifier = sparse("shiftwise_pico")
    path = tmp_path / "compact.safetensors"
    save_compact(sparsifier.compact(model), path)
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["compact"])["widths"]["stages.0.blocks.0.expand.weight"] == 16
    with pytest.raises(InputError, match=r"compact\.safetensors: model: it and the file do not both have"):
        load_compact(path, timm.create_model("resnet18"))
    with pytest.raises(InputError, match=r"head\.fc\.\w+ has shape \(3"):
        load_compact(path, timm.create_model("shiftwise_pico", num_classes=3, **SMALL))
    save_file({"a": torch.zeros(1)}, tmp_path / "plain.safetensors")
    with pytest.raises(InputError, match="no compact model"):
        load_compact(tmp_path / "plain.safetensors", model)
    with pytest.raises(InputError, match="no such file"):
        load_compact(tmp_path / "nothing.safetensors", model)
