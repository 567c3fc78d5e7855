import re

import pytest
import yaml

from sw_models.errors import InputError
from sw_sparse.trainer.recipe import Recipe, read_recipe, shipped_recipes


def test_shipped_recipes_are_read():
    assert shipped_recipes() == ["digits", "sw_t"]
    assert read_recipe("digits", {}).dataset == "digits"


def test_the_papers_recipe_is_the_default_spelled_out():
    shipped = read_recipe("sw_t", {"data_dir": "x"})
    assert shipped == Recipe(data_dir="x", output="runs/sw_t")
    assert shipped.batch_size * shipped.accumulate * 8 == 4096


def test_flags_win_over_the_file(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text("dataset: digits\nlr: 4e-3\nepochs: 10\nmean: [0.1, 0.2, 0.3]\n")
    recipe = read_recipe(str(path), {"epochs": 20})
    assert (recipe.lr, recipe.epochs, recipe.mean) == (0.004, 20, (0.1, 0.2, 0.3))


def test_plain_form_is_read_back_as_it_was():
    recipe = read_recipe("digits", {})
    text = yaml.safe_dump(recipe.plain())
    assert read_recipe(None, yaml.safe_load(text)) == recipe


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epocs": 3}, "no option is called 'epocs'"),
        ({"epochs": "three"}, "epochs: got 'three', want int"),
        ({"epochs": 1.5}, "epochs: got 1.5, want int"),
        ({"channels_last": 1}, "channels_last: got 1, want bool"),
        ({"lr": True}, "lr: got True, want float"),
        ({"epochs": 0}, "epochs: got 0, want more than 0"),
        ({"amp": "fp8"}, "amp: got 'fp8', want no, bf16 or fp16"),
        ({"trackers": ["tensorboard", "paper"]}, "trackers: got 'paper', want some of tensorboard, wandb, trackio"),
        ({"warmup_epochs": 300}, "warmup_epochs: got 300"),
        ({"batch_size": 31}, "want an even number"),
        ({"granularity": "tensor"}, "granularity: got 'tensor'"),
        ({"data_dir": None}, "data_dir: got nothing"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(InputError, match=re.escape(message)):
        read_recipe(None, {"data_dir": "x", **settings})


@pytest.mark.parametrize(("text", "message"), [("[1, 2]", "got a list"), ("a: [", "not YAML"), ("", "got a NoneType")])
def test_files_that_are_no_recipes_are_named(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=f"bad.yaml: {message}") as error:
        read_recipe(str(path), {})
    assert "\n" not in str(error.value)


def test_an_unknown_config_is_named():
    with pytest.raises(InputError, match="want a YAML file or one of digits, sw_t"):
        read_recipe("nowhere", {})


def test_no_sparsity_is_dense_training():
    assert read_recipe("digits", {"sparsity": 0.0}).sparsity_config(10) is None
    config = read_recipe("digits", {"drop_schedule": "cubic"}).sparsity_config(10)
    assert (config.schedule, config.total_steps, config.targets) == ("cubic", 10, ("*.conv.weights.*",))
