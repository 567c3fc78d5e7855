import pytest

pytest.importorskip("mmengine", reason="mmengine is not installed (extra openmmlab)")

from mmengine.config import Config

from sw_models.errors import InputError
from sw_sparse.openmmlab import runner as experiment
from sw_sparse.openmmlab import schedule
from sw_sparse.openmmlab.config import load_config
from sw_sparse.openmmlab.config_options import parse_options, read_pairs
from sw_sparse.openmmlab.hooks.curves import read_log


def by_epochs():
    pipeline = [{"type": "Resize", "scale": (512, 320), "keep_ratio": True}, {"type": "Pad", "size": (640, 640)}]
    choice = {
        "type": "RandomChoice",
        "transforms": [[{"type": "RandomChoiceResize", "scales": [(512, 256), (512, 384)]}]],
    }
    return Config(
        {
            "model": {"type": "ToyModel"},
            "train_cfg": {"type": "EpochBasedTrainLoop", "max_epochs": 50, "val_interval": 2},
            "param_scheduler": [
                {"type": "LinearLR", "by_epoch": False, "begin": 0, "end": 50},
                {"type": "CosineAnnealingLR", "by_epoch": True, "begin": 0, "end": 50, "T_max": 50, "eta_min": 1e-5},
                {"type": "MultiStepLR", "by_epoch": True, "begin": 0, "end": 50, "milestones": [30, 40]},
            ],
            "optim_wrapper": {"optimizer": {"type": "AdamW", "lr": 1e-3}},
            "auto_scale_lr": {"base_batch_size": 8},
            "default_hooks": {"checkpoint": {"interval": 1, "save_best": "mAP"}},
            "train_dataloader": {"batch_size": 8, "dataset": {"pipeline": [choice, *pipeline]}},
            "val_dataloader": {"dataset": {"pipeline": pipeline}},
            "test_dataloader": {"dataset": {"pipeline": pipeline}},
        }
    )


def by_iterations():
    cfg = by_epochs()
    cfg.train_cfg = {"type": "IterBasedTrainLoop", "max_iters": 4000, "val_interval": 500}
    cfg.param_scheduler = [
        {"type": "LinearLR", "by_epoch": False, "begin": 0, "end": 100},
        {"type": "PolyLR", "by_epoch": False, "begin": 100, "end": 4000},
    ]
    cfg.default_hooks.checkpoint.interval = 500
    cfg.model = {"data_preprocessor": {"size": (256, 256)}, "test_cfg": {"crop_size": (256, 256), "stride": (170, 170)}}
    for name in ("train", "val", "test"):
        cfg[f"{name}_dataloader"].dataset.pipeline = [{"type": "RandomCrop", "crop_size": (256, 256)}]
    return cfg


def test_the_schedule_ends_with_training():
    cfg = by_epochs()
    schedule.use_epochs(cfg, 10)
    assert cfg.train_cfg.max_epochs == 10
    warm_up, cosine, steps = cfg.param_scheduler
    assert (warm_up.begin, warm_up.end) == (0, 50)  # in iterations
    assert (cosine.begin, cosine.end, cosine.T_max) == (0, 10, 10)
    assert steps.milestones == [6, 8]
    assert cfg.train_cfg.val_interval == 1
    schedule.use_epochs(cfg, 100)
    assert cfg.param_scheduler[1].end == 100
    with pytest.raises(InputError, match="want --epochs"):
        schedule.use_iterations(cfg, 10)


def test_iterations_move_warm_up_and_intervals_too():
    cfg = by_iterations()
    schedule.use_iterations(cfg, 400)
    assert [(s.begin, s.end) for s in cfg.param_scheduler] == [(0, 10), (10, 400)]
    assert cfg.train_cfg.val_interval == cfg.default_hooks.checkpoint.interval == 50


def test_a_warm_up_without_a_step_goes(task, tmp_path):
    cfg = by_iterations()
    schedule.use_iterations(cfg, 10)
    assert [(s.type, s.begin, s.end) for s in cfg.param_scheduler] == [("PolyLR", 0, 10)]
    cfg = load_config(task, "toy_sample")
    cfg.param_scheduler = by_iterations().param_scheduler
    schedule.use_iterations(cfg, 1)
    assert experiment.train(task, cfg, tmp_path / "run")["iterations"] == 1


def test_epochs_are_iterations_where_those_are_counted(task):
    cfg = load_config(task, "toy", ["train_dataloader.dataset.length=10"])
    schedule.use_epochs(cfg, 3)
    assert cfg.train_cfg.max_iters == 9  # batches of four
    with pytest.raises(InputError, match="want --iterations"):
        schedule.use_epochs(load_config(task, "toy_sample"), 3)


def test_all_sizes_grow_together():
    cfg = by_epochs()
    schedule.use_size(cfg, 640)
    (choice, resize, pad) = cfg.train_dataloader.dataset.pipeline
    assert choice["transforms"][0][0]["scales"] == [(1024, 512), (1024, 768)]
    assert (resize["scale"], pad["size"]) == ((1024, 640), (1280, 1280))
    assert cfg.test_dataloader.dataset.pipeline[0]["scale"] == (1024, 640)
    cfg = by_iterations()
    schedule.use_size(cfg, 128)
    assert cfg.model.data_preprocessor.size == cfg.model.test_cfg.crop_size == (128, 128)
    assert cfg.model.test_cfg.stride == (85, 85)
    assert cfg.train_dataloader.dataset.pipeline[0]["crop_size"] == (128, 128)
    cfg.train_dataloader.dataset.pipeline = []
    with pytest.raises(InputError, match="takes images as they are"):
        schedule.use_size(cfg, 128)


def test_a_stated_learning_rate_is_that_which_is_used(task, tmp_path):
    cfg = by_epochs()
    schedule.use_learning_rate(cfg, 2e-3)
    assert cfg.param_scheduler[1].eta_min == pytest.approx(2e-5)
    cfg = load_config(task, "toy_sample")
    schedule.use_learning_rate(cfg, 0.003)
    experiment.train(task, cfg, tmp_path / "run")
    assert {record["lr"] for record in read_log(tmp_path / "run")[0].values()} == {0.003}


def test_a_batch_is_a_number_or_found_out(task):
    cfg = load_config(task, "toy")
    assert schedule.batch_size(cfg, "3") == 3
    for wrong in ("0", "-1", "many", "1.5"):
        with pytest.raises(InputError, match=f"--batch: got {wrong}, want a number of images or auto"):
            schedule.batch_size(cfg, wrong)


def test_training_ends_when_nothing_gets_better(task, tmp_path):
    """With a learning rate of nothing no validation is better than the first, at iteration 2 of 20."""
    cfg = load_config(task, "toy_sample", ["train_cfg.max_iters=20", "optim_wrapper.optimizer.lr=1e-20"])
    schedule.use_patience(cfg, 3)
    summary = experiment.train(task, cfg, tmp_path / "run")
    assert summary["iterations"] == 8
    assert experiment.train(task, cfg, tmp_path / "run")["iterations"] == 8  # and so it is when asked again
    cfg.default_hooks.checkpoint.save_best = None
    with pytest.raises(InputError, match="--patience: the configuration has no metric"):
        schedule.use_patience(cfg, 3)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("epochs=5", "epochs is only a name in the configuration's file, and nothing reads it later; want --epochs"),
        ("data_root=x", "want --data"),
        ("train_cfg.max_iter=1", "train_cfg has no max_iter, but max_iters"),
        ("optim_wraper=1", "the configuration has no optim_wraper, but optim_wrapper"),
    ],
)
def test_options_that_would_change_nothing_are_refused(task, option, message):
    cfg = load_config(task, "toy")
    cfg.epochs = 50
    with pytest.raises(InputError, match=message):
        parse_options([option], cfg)


def test_words_keep_their_spaces_and_lists_are_lists():
    options = ["a=x1 y1 class", "b='x1 y1'", "c=[1, 2]", "d=x,y", "e=(3, 4)", "f=1", "g= h "]
    read = {"a": "x1 y1 class", "b": "x1 y1", "c": [1, 2], "d": ["x", "y"], "e": (3, 4), "f": 1, "g": "h"}
    assert read_pairs(options) == read
