import pytest

pytest.importorskip("mmengine", reason="mmengine is not installed (extra openmmlab)")

from sw_models.errors import InputError
from sw_sparse.openmmlab.config import find_config, list_configs, load_config


def test_shipped_configurations_have_names(task):
    (task.configs / "_base.py").write_text("")
    assert list(list_configs(task)) == ["toy", "toy_sample"]
    assert load_config(task, "toy").model.type == "ToyModel"


def test_a_name_that_does_not_exist_is_answered_with_similar_ones(task):
    with pytest.raises(InputError, match=r"toy_sampel; want one of toy_sample"):
        find_config(task, "toy_sampel")


def test_a_file_and_a_folder_of_a_run_will_do(task, tmp_path):
    (tmp_path / "run").mkdir()
    for path in (tmp_path / "mine.py", tmp_path / "run" / "config.py"):
        path.write_text(f"_base_ = {str(task.configs / 'toy.py')!r}\ntrain_cfg = dict(max_iters=1)\n")
    assert load_config(task, "mine.py").train_cfg.max_iters == 1
    assert load_config(task, "run").train_cfg.max_iters == 1


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
        ("train_cfg={'max_iters': (1, 2)}", "cannot read"),
        ("train_cfg.max_iters=[1,2", "cannot read"),
    ],
)
def test_options_that_mean_nothing_are_refused(task, option, message):
    with pytest.raises(InputError, match=message):
        load_config(task, "toy", [option])


@pytest.mark.parametrize(("content", "message"), [("model = dict(", "cannot be read"), ("a = 1", "has no model")])
def test_a_file_that_is_no_configuration_is_refused(task, content, message, tmp_path):
    (tmp_path / "mine.py").write_text(content)
    with pytest.raises(InputError, match=message):
        load_config(task, "mine.py")


def test_a_data_folder_must_exist(task, tmp_path):
    with pytest.raises(InputError, match="no folder"):
        load_config(task, "toy", data=tmp_path / "absent")
