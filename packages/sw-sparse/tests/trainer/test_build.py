import json
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from sw_models.errors import InputError
from sw_sparse.trainer.build import build_model, build_optimizer, build_scheduler, set_weight_decay
from sw_sparse.trainer.recipe import read_recipe

GOLDEN = json.loads((Path(__file__).parents[1] / "data" / "F_recipe.json").read_text())["lr_schedule"]
SMALL = {"dims": [8, 16, 16, 16], "depths": [1, 1, 1, 1]}


def recipe(**flags):
    return read_recipe("digits", {"model": "shiftwise_nano", "model_args": SMALL, **flags})


def test_the_papers_learning_rates():
    paper = read_recipe("sw_t", {"data_dir": "x"})
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=paper.lr)
    scheduler = build_scheduler(paper, optimizer, steps_per_epoch=312)
    for step, expected in GOLDEN["values_at_step"].items():
        scheduler.step_update(int(step))
        # Published warm-up reaches its peak one step earlier and stays there for two: less than 1/1559 of it.
        assert optimizer.param_groups[0]["lr"] == pytest.approx(expected, rel=1e-6, abs=paper.lr / 1559)
        if int(step) >= 1560:
            assert optimizer.param_groups[0]["lr"] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("opt", ["sgd", "adamw", "lookahead_adamw"])
@pytest.mark.parametrize("model", ["shiftwise_nano", "convnext_atto"])
def test_vectors_are_not_decayed(model, opt):
    settings = recipe(opt=opt, model=model, model_args={})
    network = build_model(settings, 10)
    groups = build_optimizer(settings, network).param_groups
    decayed = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    for name, parameter in network.named_parameters():
        if ".grn." not in name:
            assert decayed[id(parameter)] == (0.05 if parameter.ndim > 1 and not name.endswith(".bias") else 0)


def test_layer_decay_lets_the_stem_learn_slowest():
    for name in ("shiftwise_nano", "convnext_atto"):
        settings = recipe(layer_decay=0.5, model=name, model_args={})
        model = build_model(settings, 10)
        optimizer = build_optimizer(settings, model)
        build_scheduler(settings, optimizer, 10).step_update(15)
        rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
        rates = [rate[id(p)] for p in model.parameters()]
        assert rates[0] == min(rates) < rate[id(model.get_classifier().weight)] == max(rates)


def test_weight_decay_follows_its_cosine():
    settings = recipe(weight_decay=0.1, weight_decay_end=0.3)
    optimizer = build_optimizer(settings, build_model(settings, 10))
    for progress, expected in ((0, 0.1), (0.5, 0.2), (1, 0.3)):
        set_weight_decay(settings, optimizer, progress)
        assert sorted({group["weight_decay"] for group in optimizer.param_groups}) == pytest.approx([0, expected])


def test_width_factor_scales_the_channels():
    model = build_model(recipe(model_args={}, width_factor=0.5), 10)
    assert [stage["num_chs"] for stage in model.feature_info] == [12, 24, 48, 96]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"model": "shiftwise_giant"}, "model: timm knows no 'shiftwise_giant'"),
        ({"model_args": {"wings": 2}}, "model: shiftwise_nano does not take these arguments"),
        ({"opt": "magic"}, "opt: 'magic'"),
        ({"sched": "magic"}, "sched: "),
    ],
)
def test_bad_parts_are_named_in_one_line(flags, message):
    settings = recipe(**flags)

    def build():
        build_scheduler(settings, build_optimizer(settings, build_model(settings, 10)), 10)

    with pytest.raises(InputError, match=message) as error:
        build()
    assert "\n" not in str(error.value)


def test_initial_weights_fit_but_for_the_classifier(tmp_path):
    torch.manual_seed(0)
    other = timm.create_model("shiftwise_nano", num_classes=7, **SMALL)
    path = tmp_path / "weights.safetensors"
    save_file(other.state_dict(), path)
    model = build_model(recipe(initial_checkpoint=str(path)), 10)
    assert torch.equal(model.stem.conv1.weight, other.stem.conv1.weight)
    assert model.get_classifier().out_features == 10
    save_file({"stem.conv1.weight": torch.zeros(1)}, path)
    with pytest.raises(InputError, match=r"weights\.safetensors"):
        build_model(recipe(initial_checkpoint=str(path)), 10)


def test_published_weights_start_a_training(published_state, tmp_path):
    path = tmp_path / "published.pth"
    torch.save({"model": published_state}, path)
    settings = recipe(initial_checkpoint=str(path), model_args={"dims": [16, 32, 64, 128], "depths": [1, 1, 2, 1]})
    model = build_model(settings, 10)
    ours = model.stages[0].blocks[0].conv.weights[1]
    assert torch.equal(ours, published_state["stages.0.0.large_kernel.LoRAs.1.weight"])
