import pytest

pytest.importorskip("mmengine", reason="mmengine is not installed (extra openmmlab)")

from sw_models.errors import InputError
from sw_sparse.openmmlab.config import find_config, list_configs, load_config
from sw_sparse.openmmlab.run_config import write_run_config


def test_shipped_configurations_have_names(task):
    (task.configs / "_base.py").write_text("")
    assert list(list_configs(task)) == ["toy", "toy_sample"]
    assert load_config(task, "toy").model.type == "ToyModel"


def test_a_name_that_does_not_exist_is_answered_with_similar_ones(task):
    with pytest.raises(InputError, match=r"toy_sampel; want one of toy_sample"):
        find_config(task, "toy_sampel")


def test_a_file_and_a_folder_of_a_run_will_do(task, tmp_path):
    (tmp_path / "mine.py").write_text(f"_base_ = {str(task.configs / 'toy.py')!r}\ntrain_cfg = dict(max_iters=1)\n")
    assert load_config(task, "mine.py").train_cfg.max_iters == 1
    write_run_config(load_config(task, "mine.py").to_dict(), tmp_path / "run")
    assert load_config(task, "run").to_dict() == load_config(task, "mine.py").to_dict()  # tuples too
    assert load_config(task, "run").model.backbone.dims == (4, 8, 16, 32)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.yaml", "model: !!python/object/apply:os.system ['touch executed']", "cannot be read as data"),
        ("config.yaml", "model: {type: os.system, command: touch executed}", "wants os.system, which is not trusted"),
        ("config.yaml", "custom_imports: {imports: [antigravity]}", "wants antigravity"),
        ("config.yaml", "custom_imports: 3", "wants 3"),
        ("config.yaml", "model: &a [*a]", "it has aliases"),
        ("config.yaml", "model: " + "[" * 5000, "cannot be read as data"),
        ("config.py", "model = __import__('os').system('touch executed')", "cannot be read as data"),
        ("config.py", "import os\nmodel = 1", "line 1 is a program"),
        ("config.py", "_base_ = 'other.py'\nmodel = dict()", "wants _base_"),
    ],
)
def test_nothing_in_a_runs_folder_is_run(task, tmp_path, name, content, message):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).write_text(content)
    with pytest.raises(InputError, match=message):
        load_config(task, "run")
    assert not (tmp_path / "executed").exists()


def test_a_yaml_file_of_ones_own_is_data_too(task, tmp_path):
    (tmp_path / "mine.yaml").write_text("model: !!python/object/apply:os.system ['touch executed']")
    with pytest.raises(InputError, match="cannot be read as data"):
        load_config(task, "mine.yaml")
    assert not (tmp_path / "executed").exists()
    (tmp_path / "mine.json").write_text('{"model": {"type": "ToyModel"}}')
    assert load_config(task, "mine.json").model.type == "ToyModel"


def test_what_is_no_data_is_not_written(tmp_path):
    with pytest.raises(InputError, match="is no number, text or list"):
        write_run_config({"model": {"type": print}}, tmp_path)
    assert not list(tmp_path.iterdir())


def test_options_come_last_and_reach_inside(task, tmp_path):
    cfg = load_config(task, "toy", ["train_cfg.max_iters=3", "model.backbone.dims=(4, 8, 16, 32)"], tmp_path)
    assert cfg.train_cfg.max_iters == 3
    assert cfg.model.backbone.dims == (4, 8, 16, 32)
    assert cfg.data_root == cfg.train_dataloader.dataset.data_root == str(tmp_path)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("train_cfg.max_iters", "want key=value"),
        ("trian_cfg.max_iters=3", "has no trian_cfg, but train_cfg"),
        ("train_cfg.max_iter=3", "train_cfg has no max_iter, but max_iters"),
        ("default_hooks.checkpoint.intervall=3", "default_hooks.checkpoint has no intervall, but interval"),
        ("model.backbone.depth=3", "model.backbone has no depth, but depths"),
        ("optim_wrapper.optimiser.lr=3", "optim_wrapper has no optimiser, but optimizer"),
        ("train_cfg.max_iters.x=3", "train_cfg.max_iters is 6, which has no x"),
        ("train_cfg={'max_iters': (1, 2)}", "cannot read"),
        ("train_cfg=3", "train_cfg is a part with settings"),
        ("optim_wrapper.optimizer.lr=high", "want a number as 0.01 is"),
        ("train_cfg.max_iters=[1,2", "cannot read"),
    ],
)
def test_options_that_mean_nothing_are_refused(task, option, message):
    with pytest.raises(InputError, match=message):
        load_config(task, "toy", [option])


@pytest.mark.parametrize(
    "option", ["model.backbone.frozen_stages=1", "train_cfg.val_begin=2", "model.backbone.n_path=1"]
)
def test_options_that_a_part_knows_are_taken_although_the_configuration_does_not_say_them(task, option):
    assert load_config(task, "toy", [option])


@pytest.mark.parametrize(("content", "message"), [("model = dict(", "cannot be read"), ("a = 1", "has no model")])
def test_a_file_that_is_no_configuration_is_refused(task, content, message, tmp_path):
    (tmp_path / "mine.py").write_text(content)
    with pytest.raises(InputError, match=message):
        load_config(task, "mine.py")


def test_a_data_folder_must_exist(task, tmp_path):
    with pytest.raises(InputError, match="no folder"):
        load_config(task, "toy", data=tmp_path / "absent")
