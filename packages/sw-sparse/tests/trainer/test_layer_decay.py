import json
from pathlib import Path

import pytest
import timm
import torch

from sw_models import ShiftwiseNet
from sw_sparse.trainer.layer_decay import decays, layer_wise_id, parameter_groups, stage_wise_id

GOLDEN = json.loads((Path(__file__).parents[1] / "data" / "F_recipe.json").read_text())
LAYER_IDS = {name: table for name, table in GOLDEN["layer_ids"].items() if isinstance(table, dict)}


def our_name(published):
    """Return a parameter of the module that the published code calls so."""
    if published.startswith("downsample_layers.0"):
        return "backbone.stem.conv1.weight"
    if published.startswith("downsample_layers."):
        return f"backbone.stages.{published[-1]}.downsample.conv.weight"
    if published.startswith("stages."):
        _, stage, block = published.split(".")
        return f"backbone.stages.{stage}.blocks.{block}.gamma"
    return "neck.weight"


@pytest.mark.parametrize("depths", LAYER_IDS)
@pytest.mark.parametrize(
    ("scheme", "number", "layers", "rate"),
    [
        ("classification", layer_wise_id, 12, 0.8),
        ("detection", layer_wise_id, 12, 0.8),
        ("segmentation", layer_wise_id, 9, 0.9),
        ("stage_wise", stage_wise_id, 6, 0.9),
    ],
)
def test_layers_and_their_learning_rates_are_the_published_ones(depths, scheme, number, layers, rate):
    (table,) = (table for name, table in LAYER_IDS[depths].items() if name.startswith(scheme))
    for name, (layer, scale) in table.items():
        # Published numbers above the last stage's make a block learn faster than the head; ours stop there.
        layer = min(layer, layers) if name.startswith("stages") else layer
        assert number(our_name(name), layers) == layer, name
        if layer == table[name][0]:
            assert rate ** (layers + 1 - layer) == pytest.approx(scale)


@pytest.mark.parametrize(("layer_of", "layers"), [(layer_wise_id, 12), (stage_wise_id, 6)])
def test_groups_hold_every_parameter_once_with_its_scale(layer_of, layers):
    model = timm.create_model("shiftwise_nano", num_classes=4)
    groups = parameter_groups(model.named_parameters(), 0.05, 0.8, layers, layer_of)
    scale = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    assert len(scale) == sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        assert scale[id(parameter)] == pytest.approx(0.8 ** (layers + 1 - layer_of(name, layers)))


def test_what_is_decayed_is_what_was_decayed():
    with torch.device("meta"):
        model = ShiftwiseNet(depths=(3, 3, 18, 3), dims=(80, 160, 320, 640))
    decayed = [p.numel() for name, p in model.named_parameters() if decays(name, p)]
    undecayed = [p.numel() for name, p in model.named_parameters() if not decays(name, p)]
    expected = [(group["n_tensors"], group["n_params"]) for group in GOLDEN["param_groups_tiny"]]
    assert [(len(decayed), sum(decayed)), (len(undecayed), sum(undecayed))] == expected
