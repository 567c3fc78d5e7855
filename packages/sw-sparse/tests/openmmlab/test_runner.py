import json
import signal

import pytest
import torch

pytest.importorskip("mmengine", reason="mmengine is not installed (extra openmmlab)")

from mmengine.runner import ValLoop

from sw_models.errors import InputError, Interrupted
from sw_sparse.openmmlab import checkpoint as checkpoints
from sw_sparse.openmmlab import runner as experiment
from sw_sparse.openmmlab.config import load_config
from sw_sparse.openmmlab.hooks.curves import read_log
from sw_sparse.openmmlab.interrupt import StopRequest


def train(task, folder, *options):
    return experiment.train(task, load_config(task, "toy_sample", options), folder)


def train_and_interrupt(task, folder, after):
    """Train until a signal comes, which is no part of what the run's folder remembers."""
    settle = experiment.settle

    def settle_and_expect_a_signal(cfg):
        settled = settle(cfg)
        settled.custom_hooks = [*settled.custom_hooks, {"type": "InterruptHook", "after": after}]
        return settled

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "settle", settle_and_expect_a_signal)
        with pytest.raises(KeyboardInterrupt):
            train(task, folder)


def weights(path):
    return torch.load(path, weights_only=True)["state_dict"]


def test_a_run_leaves_everything_in_its_folder(task, tmp_path):
    summary = train(task, tmp_path / "run")
    files = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"config.yaml", "curves.png", "iter_4.pth", "iter_6.pth", "synthetic-data"} <= files
    assert "iter_2.pth" not in files  # the last two are kept, and the best
    assert summary["iterations"] == 6
    (log,) = (tmp_path / "run").glob("*/vis_data/scalars.json")
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert [r["step"] for r in records if "closeness" in r] == [2, 4, 6]
    assert list((tmp_path / "run").glob("*/vis_data/events*"))
    best = max((r for r in records if "closeness" in r), key=lambda r: r["closeness"])
    assert summary["best_score"] == pytest.approx(best["closeness"])
    assert summary["checkpoint"].endswith(f"best_closeness_iter_{best['step']}.pth")


def test_two_runs_of_one_process_have_logs_of_their_own(task, tmp_path):
    for name in ("first", "second"):
        cfg = load_config(task, "toy_sample")
        cfg.visualizer = {"type": "Visualizer", "name": "visualizer"}
        experiment.train(task, cfg, tmp_path / name)
        (log,) = (tmp_path / name).glob("*/vis_data/scalars.json")
        assert len(log.read_text().splitlines()) == 9  # six iterations, three validations


def test_batch_norms_that_average_over_gpus_are_plain_on_cpus(task, monkeypatch):
    """Whoever made them: a configuration, the backbone, or a detector by itself."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(torch.nn.Sequential(torch.nn.BatchNorm2d(3)))
    built = experiment._Runner.build_model(object.__new__(experiment._Runner), model)
    assert not isinstance(built[0], torch.nn.SyncBatchNorm)
    assert built.state_dict().keys() == model.state_dict().keys()
    built(torch.randn(2, 3, 4, 4))


def test_the_learning_rate_follows_the_batch(task, tmp_path):
    train(task, tmp_path / "run")
    (log,) = (tmp_path / "run").glob("*/vis_data/scalars.json")
    assert json.loads(log.read_text().splitlines()[0])["lr"] == pytest.approx(0.01 * 4 / 2)


def test_an_interrupted_run_ends_as_one_that_was_not(task, tmp_path):
    train(task, tmp_path / "whole")
    train_and_interrupt(task, tmp_path / "broken", after=5)
    assert not (tmp_path / "broken" / "iter_6.pth").exists()
    train(task, tmp_path / "broken")
    whole, broken = weights(tmp_path / "whole" / "iter_6.pth"), weights(tmp_path / "broken" / "iter_6.pth")
    assert all(torch.equal(whole[key], broken[key]) for key in whole)


def by_single_epochs(cfg):
    by_epoch(cfg)
    cfg.train_cfg.val_interval = 1
    cfg.default_hooks.checkpoint.update(by_epoch=True, interval=1)


@pytest.mark.parametrize("killed_in", [2, 3], ids=["in the middle", "at the end"])
@pytest.mark.parametrize("loop", [lambda cfg: None, by_single_epochs], ids=["by iteration", "by epoch"])
def test_a_run_killed_within_a_validation_makes_up_for_it(task, tmp_path, loop, killed_in):
    """The checkpoint that would have been validated is there; all three validations come out as in an unbroken run."""
    cfg = load_config(task, "toy_sample")
    loop(cfg)
    experiment.train(task, cfg, tmp_path / "whole")
    validate, calls = ValLoop.run, []

    def counted(self):
        calls.append(self.runner.iter)
        if len(calls) == killed_in:
            raise KeyboardInterrupt
        return validate(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ValLoop, "run", counted)
        with pytest.raises(KeyboardInterrupt):
            experiment.train(task, cfg, tmp_path / "broken")
        experiment.train(task, cfg, tmp_path / "broken")
        experiment.train(task, cfg, tmp_path / "broken")  # what is known is not measured again
    assert len(calls) == 4
    logs = [read_log(tmp_path / name)[1] for name in ("whole", "broken")]
    whole, broken = ({step: record["closeness"] for step, record in log.items()} for log in logs)
    assert len(whole) == 3
    assert broken == pytest.approx(whole)
    best = [checkpoints.find_checkpoint(tmp_path / name).name for name in ("whole", "broken")]
    assert best[0] == best[1]


def by_epoch(cfg):
    cfg.train_cfg = {"type": "EpochBasedTrainLoop", "max_epochs": 3, "val_interval": 3}
    cfg.train_dataloader.sampler.type = "DefaultSampler"


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("loop", [lambda cfg: None, by_epoch], ids=["by iteration", "by epoch"])
def test_random_numbers_go_on_where_they_were(task, tmp_path, workers, loop):
    """Data are shuffled and changed at random, and neurons dropped.

    A run is stopped after each of three iterations, and is compared with runs that were not.
    """
    random = (f"train_dataloader.num_workers={workers}", "train_dataloader.dataset.noise=0.5", "model.dropout=0.5")
    cfg = load_config(task, "toy_sample", (*random, "train_dataloader.dataset.length=7", "train_cfg.val_interval=6"))
    cfg.train_dataloader.sampler.shuffle = True
    loop(cfg)
    for name in ("whole", "again"):
        experiment.train(task, cfg, tmp_path / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StopRequest, "received", property(lambda self: True, lambda self, value: None), raising=False)
        for _ in range(3):
            with pytest.raises(Interrupted, match="give the same command again"):
                experiment.train(task, cfg, tmp_path / "broken")
    assert (tmp_path / "broken/interrupted.pth").exists()
    experiment.train(task, cfg, tmp_path / "broken")
    assert not (tmp_path / "broken/interrupted.pth").exists()
    whole, again, broken = (weights(tmp_path / name / "iter_6.pth") for name in ("whole", "again", "broken"))
    assert all(torch.equal(whole[key], again[key]) for key in whole)
    assert all(torch.equal(whole[key], broken[key]) for key in whole)


def test_a_signal_ends_a_run_after_its_iteration(task, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    hook = {"type": "InterruptHook", "after": 3, "signal": int(signal.SIGTERM)}
    cfg = load_config(task, "toy_sample")
    cfg.custom_hooks = [hook]
    cfg.train_dataloader.update(num_workers=1, persistent_workers=True)
    with pytest.raises(Interrupted, match=r"stopped by SIGTERM after iteration 3 of 6"):
        experiment.train(task, cfg, tmp_path / "run")
    assert signal.getsignal(signal.SIGTERM) is before
    assert checkpoints.newest_checkpoint(tmp_path / "run").name == "interrupted.pth"


def test_a_damaged_newest_checkpoint_is_passed_over(task, tmp_path, caplog):
    train_and_interrupt(task, tmp_path / "run", after=5)
    newest = tmp_path / "run" / "iter_4.pth"
    newest.write_bytes(newest.read_bytes()[:1000])
    train(task, tmp_path / "run")
    assert "iter_4.pth" in caplog.text
    assert weights(tmp_path / "run" / "iter_6.pth")


def test_weights_that_are_no_numbers_are_not_saved(task, tmp_path):
    with pytest.raises(InputError, match="lr: .* became NaN or infinite"):
        train(task, tmp_path / "run", "optim_wrapper.optimizer.lr=1e30", "train_cfg.val_interval=100")
    assert not list((tmp_path / "run").glob("*.pth"))


def test_a_folder_with_another_run_is_left_alone(task, tmp_path):
    train_and_interrupt(task, tmp_path / "run", after=3)
    with pytest.raises(InputError, match=r"holds a run with train_cfg.max_iters=6, now it is 8"):
        train(task, tmp_path / "run", "train_cfg.max_iters=8")


def test_the_best_checkpoint_tests_as_it_did_in_training(task, tmp_path):
    summary = train(task, tmp_path / "run")
    cfg = load_config(task, str(tmp_path / "run"))
    checkpoint = checkpoints.find_checkpoint(tmp_path / "run")
    metrics = experiment.test(cfg, checkpoint, tmp_path / "run" / "test")
    assert metrics["closeness"] == pytest.approx(summary["best_score"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("head.bias"), r"lacks head\.bias, which the model has"),
        (lambda state: state.update(extra=torch.ones(1)), "has extra, which the model lacks"),
        (lambda state: state.update({"head.bias": torch.ones(7)}), r"head\.bias of shape \(7,\), .* wants \(1,\)"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused(task, tmp_path, change, message):
    cfg = load_config(task, "toy")
    state = checkpoints.load_model(cfg).state_dict()
    change(state)
    torch.save({"state_dict": state}, tmp_path / "c.pth")
    with pytest.raises(InputError, match=message):
        checkpoints.load_model(cfg, tmp_path / "c.pth")


def test_a_checkpoint_that_would_run_code_is_refused(task, tmp_path):
    torch.save({"state_dict": print}, tmp_path / "c.pth")
    with pytest.raises(InputError, match="want named tensors only"):
        checkpoints.load_model(load_config(task, "toy"), tmp_path / "c.pth")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("model.backbone.frozen_stages=9", "frozen_stages: got 9"),
        ("optim_wrapper.optimizer.lr=-1", "Invalid learning rate: -1"),
        ("optim_wrapper.optimizer.type=Nope", "got Nope, want one of torch"),
        ("train_cfg.max_iters=-1", "train_cfg: got -1 iterations, want 1 or more"),
    ],
)
def test_parts_that_cannot_be_built_are_bad_input(task, tmp_path, option, message):
    with pytest.raises(InputError, match=message):
        train(task, tmp_path / "run", option)


@pytest.mark.parametrize("loader", ["train_dataloader", "val_dataloader"])
def test_data_that_are_not_there_are_bad_input(task, tmp_path, loader):
    cfg = load_config(task, "toy", [f"{loader}.dataset.length=-1"])
    with pytest.raises(InputError, match="no images"):
        experiment.train(task, cfg, tmp_path / "run")
