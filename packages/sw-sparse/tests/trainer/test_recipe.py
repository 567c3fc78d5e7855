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
        ({"amp": "fp8"}, "amp: got 'fp8', want one of no, bf16, fp16"),
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


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("num_classes", [0, -1]), ("workers", [-1]), ("input_size", [0, -3]), ("crop_pct", [0.0, 1.1]),
        ("interpolation", ["cubist"]), ("mean", [[2.0, 0.5, 0.5], [0.5, 0.5]]), ("std", [[0.0, 0.2, 0.2], ["a", 1, 1]]),
        ("color_jitter", [-0.1]), ("scale", [[1.0, 0.1], [0.0, 1.0], [0.1, 1.5], [0.1]]),
        ("ratio", [[1.3, 0.7], [0.0, 1.0]]), ("hflip", [2.0, -0.1, float("nan")]), ("reprob", [1.5]),
        ("remode", ["eraser"]), ("recount", [0]), ("mixup", [-1.0]), ("cutmix", [-1.0]), ("mixup_prob", [1.5]),
        ("mixup_switch_prob", [-0.5]), ("mixup_mode", ["mix"]), ("smoothing", [1.5, 1.0, -0.1]),
        ("width_factor", [0.0]), ("drop_path", [1.0, -0.1]), ("initial_checkpoint", ["nowhere.pth"]),
        ("lr", [0.0, -1.0, float("inf")]), ("weight_decay", [-0.1]), ("weight_decay_end", [-0.1]),
        ("momentum", [1.0, -0.1]), ("clip_grad", [-1.0, 0.0]), ("layer_decay", [0.0, 1.5]), ("warmup_epochs", [-1]),
        ("warmup_lr", [-0.1]), ("min_lr", [-0.1]), ("batch_size", [0]), ("accumulate", [0]), ("ema_decay", [1.5, -0.5]),
        ("sparsity", [1.0, -0.1]), ("align_every", [0]), ("update_every", [0]), ("drop_fraction", [1.5]),
        ("final_drop_fraction", [-0.5]), ("drop_schedule", ["steep"]), ("distribution", ["even"]),
        ("initialisation", ["bottom"]), ("importance", ["size"]), ("update", ["never"]), ("seed", [-1]), ("keep", [0]),
        ("checkpoint_every", [0]), ("checkpoint_minutes", [-1.0]), ("targets", [[3]]),
    ],
)  # fmt: skip
def test_options_out_of_range_are_refused_in_one_line(name, values):
    for value in values:
        with pytest.raises(InputError) as error:
            read_recipe(None, {"data_dir": "x", name: value})
        assert str(error.value).startswith(("schedule" if name == "drop_schedule" else name) + ":")
        assert "\n" not in str(error.value)


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
