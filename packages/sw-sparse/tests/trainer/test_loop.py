"""Whole runs on the digits, of a network so small that an epoch takes a fraction of a second."""

import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState

from sw_models.checkpoints.tensor_file import write_state
from sw_models.errors import InputError, Interrupted
from sw_models.files import lock_folder
from sw_sparse.trainer import checkpoint, loop
from sw_sparse.trainer.callbacks import Callback
from sw_sparse.trainer.evaluate import evaluate, evaluate_checkpoint
from sw_sparse.trainer.loop import train
from sw_sparse.trainer.processes import keep_global_batch
from sw_sparse.trainer.recipe import read_recipe

DATA = Path(__file__).parents[1] / "data"
TINY = {
    "model_args": {
        "dims": [8, 8, 8, 8], "depths": [1, 1, 1, 1], "kernel_sizes": [13, 13, 7, 7], "layer_scale_init": 0.1,
    },
    "batch_size": 128,
    "epochs": 4,
    "update_every": 3,
    "trackers": [],
}  # fmt: skip


def recipe(output, **flags):
    return read_recipe("digits", {**TINY, "output": str(output), **flags})


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A run from start to end, and its folder."""
    output = tmp_path_factory.mktemp("straight") / "run"
    return train(recipe(output, trackers=["tensorboard"])), output


def test_a_run_leaves_its_files(straight):
    summary, output = straight
    assert sorted(p.name for p in output.iterdir()) == [
        ".lock", "best.safetensors", "checkpoints", "config.json", "curves.png", "log.jsonl", "model.safetensors",
        "sparsity.png", "summary.json", "sw-sparse",
    ]  # fmt: skip
    assert [p.name for p in sorted((output / "checkpoints").iterdir())] == [
        f"epoch-000{epoch}.safetensors" for epoch in (1, 2, 3)
    ]
    assert list((output / "sw-sparse").glob("events.out.tfevents.*"))
    assert json.loads((output / "summary.json").read_text()) == summary
    log = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in log] == [0, 1, 2, 3]
    assert summary["test_images"] == 360
    assert log[-1]["train_loss"] < log[0]["train_loss"]


def test_the_density_asked_holds_in_the_weights_themselves(straight):
    _, output = straight
    record = json.loads((output / "log.jsonl").read_text().splitlines()[-1])
    weights = checkpoint.load_weights(output / "model.safetensors").tensors
    filters = [w for name, w in weights.items() if ".conv.weights.0" in name]
    on = sum(int(w.flatten(1).any(1).sum()) for w in filters)
    assert on == round(0.7 * sum(len(w) for w in filters))
    assert sum(record["density"].values()) / len(record["density"]) == pytest.approx(0.7, abs=0.15)
    assert all(record["explored"][layer] >= density for layer, density in record["density"].items())


def test_evaluation_reproduces_the_figures(straight):
    summary, output = straight
    figures = evaluate_checkpoint(output / "model.safetensors", {}, lambda images: None)
    assert (figures["split"], figures["top1"]) == ("test", summary["test_top1"])
    last = evaluate_checkpoint(output / "checkpoints" / "epoch-0003.safetensors", {"val_split": "validation"}, print)
    assert last["top1"] == summary["top1"]


def test_the_same_recipe_gives_the_same_weights_and_another_seed_does_not(straight, tmp_path):
    digest = straight[0]["weights_sha256"]
    assert train(recipe(tmp_path / "again"))["weights_sha256"] == digest
    assert train(recipe(tmp_path / "other", seed=1))["weights_sha256"] != digest


def test_starting_a_finished_run_again_changes_nothing(straight):
    summary, output = straight
    assert train(recipe(output)) == summary


def test_a_folder_with_another_run_is_left_alone(straight):
    _, output = straight
    before = {path: path.read_bytes() for path in output.rglob("*.*") if path.is_file()}
    with pytest.raises(InputError, match="holds a run with lr 0.004, not 0.1"):
        train(recipe(output, lr=0.1))
    assert before == {path: path.read_bytes() for path in output.rglob("*.*") if path.is_file()}


@pytest.mark.parametrize(
    "flags",
    [
        {"sparsity": 0.0, "ema_decay": 0.0, "distribution": "uniform"},
        {"accumulate": 3, "clip_grad": 0.5, "mixup": 0.8, "cutmix": 1.0, "amp": "bf16", "channels_last": True},
        {"update": "rigl", "granularity": "element", "targets": ["*.expand.weight"], "distribution": "erk"},
        {"update": "gradual", "drop_schedule": "cubic", "weight_decay_end": 0.2, "sched": "step", "opt": "sgd"},
        {"published": True, "checkpoint_every": 2, "layer_decay": 0.8},
    ],
)
def test_options_run(tmp_path, flags):
    AcceleratorState._reset_state(reset_partial_state=True)  # it holds one precision per process
    summary = train(recipe(tmp_path / "run", epochs=2, **flags))
    AcceleratorState._reset_state(reset_partial_state=True)
    assert summary["epochs"] == 2
    assert (tmp_path / "run" / "model.safetensors").is_file()


def test_too_little_data_for_a_step_is_named(tmp_path):
    with pytest.raises(InputError, match="one step takes 128 x 9 x 1 images, more than the 1078 of 'train'"):
        train(recipe(tmp_path / "run", accumulate=9))


def test_a_loss_that_explodes_stops_the_run(tmp_path):
    with pytest.raises(InputError, match="the loss became nan in epoch"):
        train(recipe(tmp_path / "run", lr=1e30, epochs=3, opt="sgd"))


def run_in_child(settings, results=None):
    torch.set_num_threads(1)
    summary = train(settings)
    if results is not None:
        results.put(summary["weights_sha256"])


@pytest.fixture(scope="module")
def context():
    """Processes that start in a moment, from a server that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sw_sparse.trainer.loop", "torch._dynamo", "hypothesis", "pytest"])
    return context


def killed_and_resumed(context, output, kills, seed, **flags):
    """Kill a run that often at random moments, check its files each time, and return the final digest."""
    settings, moments = recipe(output, **flags), random.Random(seed)
    for _ in range(kills):
        process = context.Process(target=run_in_child, args=(settings,))
        process.start()
        time.sleep(moments.uniform(0.5, 4))
        if process.exitcode is None:
            os.kill(process.pid, signal.SIGKILL)
        process.join()
        for path in output.rglob("*.safetensors"):
            if not path.name.startswith("."):
                checkpoint.load_weights(path)  # raises where it is not whole
        for line in (output / "log.jsonl").read_text().splitlines() if (output / "log.jsonl").exists() else ():
            json.loads(line)
    digest = digest_of_child(context, settings)
    assert not list(output.rglob(".*.writing"))
    return digest


def digest_of_child(context, settings):
    results = context.SimpleQueue()
    process = context.Process(target=run_in_child, args=(settings, results))
    process.start()
    process.join()
    assert process.exitcode == 0
    return results.get()


def check_kills(context, tmp_path, kills, **flags):
    output = tmp_path / "run"
    expected = digest_of_child(context, recipe(output, **flags))
    output.rename(tmp_path / "uninterrupted")
    assert killed_and_resumed(context, output, kills, seed=kills, **flags) == expected


def test_runs_killed_at_random_moments_end_with_the_same_weights(context, tmp_path):
    check_kills(context, tmp_path, 3, epochs=6)


@pytest.mark.slow
def test_runs_killed_twenty_times_end_with_the_same_weights(context, tmp_path):
    check_kills(context, tmp_path, 20, epochs=24)


def test_a_damaged_newest_checkpoint_is_named_and_the_run_ends_the_same(straight, tmp_path):
    class Notes(Callback):
        def __init__(self):
            self.lines = []

        def note(self, text):
            self.lines.append(text)

    output = tmp_path / "run"
    train(recipe(output))
    newest = output / "checkpoints" / "epoch-0003.safetensors"
    newest.write_bytes(newest.read_bytes()[:-100])
    notes = Notes()
    summary = train(recipe(output), notes)
    assert str(newest) in notes.lines[0]
    assert notes.lines[1].endswith("after epoch 3")
    assert summary["weights_sha256"] == straight[0]["weights_sha256"]


class SignalAt(Callback):
    """Sends this process a signal when an epoch begins."""

    def __init__(self, epoch, number):
        self.epoch, self.number, self.lines = epoch, number, []

    def note(self, text):
        self.lines.append(text)

    def start_epoch(self, epoch, epochs, images, done=0):
        if epoch == self.epoch:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_writes_a_checkpoint_within_the_epoch_and_the_run_goes_on_bitwise(straight, tmp_path, number):
    handlers = [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)]
    output = tmp_path / "run"
    with pytest.raises(Interrupted, match=f"{number.name} after step 1 of 8 in epoch 2; the same command") as stop:
        train(recipe(output), SignalAt(1, number))
    assert stop.value.exit_code == 128 + number
    assert handlers == [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)]
    assert (output / "checkpoints" / "epoch-0001-step-000001.safetensors").is_file()
    quiet = SignalAt(-1, number)
    assert train(recipe(output), quiet)["weights_sha256"] == straight[0]["weights_sha256"]
    assert quiet.lines[0].endswith("after step 1 of epoch 2")
    logs = [
        [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        for folder in (output, straight[1])
    ]
    assert [{**line, "seconds": 0} for line in logs[0]] == [{**line, "seconds": 0} for line in logs[1]]


def test_checkpoints_are_written_every_so_many_minutes(straight, tmp_path):
    class Crash(Callback):
        def end_epoch(self, record):
            raise RuntimeError

    output = tmp_path / "run"
    with pytest.raises(RuntimeError):
        train(recipe(output, checkpoint_minutes=1e-9, checkpoint_every=100), Crash())
    assert [p.name for p in (output / "checkpoints").iterdir()] == ["epoch-0000-step-000008.safetensors"]
    assert train(recipe(output))["weights_sha256"] == straight[0]["weights_sha256"]


def test_weights_that_diverge_in_the_last_step_are_not_saved_and_the_last_good_checkpoint_stands(tmp_path, monkeypatch):
    output = tmp_path / "run"
    train(recipe(output, epochs=4), None)
    for path in (output / "checkpoints").glob("epoch-000[23]*"):
        path.unlink()
    before = {path: path.read_bytes() for path in output.rglob("*.safetensors")}

    def spoiled(model, *arguments):
        figures = evaluate(model, *arguments)
        with torch.no_grad():
            next(model.parameters()).fill_(float("nan"))  # as the very last step of an epoch would
        return figures

    monkeypatch.setattr(loop, "evaluate", spoiled)
    with pytest.raises(InputError, match="no longer finite in epoch 3; nothing was saved of it"):
        train(recipe(output, epochs=4))
    assert before == {path: path.read_bytes() for path in output.rglob("*.safetensors")}


def test_a_run_of_version_0_1_0_goes_on_and_is_evaluated(tmp_path):
    output = tmp_path / "run"
    shutil.copytree(DATA / "run-0.1.0", output)
    assert evaluate_checkpoint(output / "model.safetensors", {}, lambda images: None)["images"] == 360
    weights = checkpoint.load_weights(output / "model.safetensors")
    assert weights.classes is None
    summary = train(read_recipe(None, {**weights.recipe, "output": str(output)}))
    assert summary["epoch"] == 2
    assert checkpoint.load_weights(output / "model.safetensors").classes == [str(digit) for digit in range(10)]


def test_another_number_of_processes_keeps_the_global_batch():
    asked = read_recipe("digits", {"batch_size": 64, "accumulate": 2})
    for world, expected in ((1, (64, 4)), (2, (64, 2)), (4, (64, 1)), (8, (32, 1))):
        there = keep_global_batch(asked, 256, world)
        assert (there.batch_size, there.accumulate) == expected
    with pytest.raises(InputError, match="a step of this run takes 256 images, which 3 processes cannot share equally"):
        keep_global_batch(asked, 256, 3)


def test_a_run_of_two_processes_goes_on_as_one(tmp_path):
    output = tmp_path / "run"
    train(recipe(output, epochs=2, batch_size=128))
    newest = checkpoint.newest(output / "checkpoints", print)
    for path in (output / "checkpoints").iterdir():
        path.unlink()
    # What the first epoch of two processes with 64 images each would have left.
    assert newest is not None
    newest["recipe"] |= {"batch_size": 64}
    assert newest["images_per_step"] == 128
    write_state(checkpoint.file_of(output / "checkpoints", 0), {**newest, "epoch": 0})
    notes = SignalAt(-1, 0)
    assert train(recipe(output, epochs=2, batch_size=64), notes)["epoch"] == 1
    assert notes.lines[0] == "1 processes, 64 images each, 2 times per step"


def test_a_folder_that_another_process_writes_in_is_refused(tmp_path):
    output = tmp_path / "run"
    output.mkdir()
    with lock_folder(output), pytest.raises(InputError, match="is writing there"):
        train(recipe(output))


def test_resuming_on_other_data_is_refused(tmp_path):
    output = tmp_path / "run"
    train(recipe(output, epochs=2))
    path = output / "checkpoints" / "epoch-0001.safetensors"
    state = checkpoint.load(path)
    state["data"]["train"]["images"] = 1000
    write_state(path, state)
    with pytest.raises(InputError, match=r"the images of 'train' are not those .*\(1000 then, 1078 now\)"):
        train(recipe(output, epochs=2))


# No batch norm and no random crop: what several processes compute together is what one computes.
EXACT = {
    "model": "test_convnext", "model_args": {}, "targets": ["*.mlp.fc*.weight"], "granularity": "element",
    "scale": [1.0, 1.0], "ratio": [1.0, 1.0], "smoothing": 0.0, "epochs": 2, "distribution": "erk",
}  # fmt: skip


def one_of_several(rank, world, port, output, callback=None):
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world),
                   "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}  # fmt: skip
    torch.set_num_threads(1)
    try:
        train(recipe(output, **EXACT, batch_size=128 // world), callback)
    except Interrupted as stopped:
        sys.exit(stopped.exit_code)


def run_two_processes(context, output, callback=None):
    """Train with two processes, and return their exit codes."""
    port = random.SystemRandom().randint(20000, 60000)
    processes = [context.Process(target=one_of_several, args=(rank, 2, port, output, callback)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    return [process.exitcode for process in processes]


def read_log(output):
    return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    """The folder of a run of one process."""
    output = tmp_path_factory.mktemp("one") / "run"
    train(recipe(output, **EXACT))
    return output


def check_equal_runs(one, two):
    for first, second in zip(read_log(one), read_log(two), strict=True):
        assert second["train_loss"] == pytest.approx(first["train_loss"], abs=1e-5)
        assert second["loss"] == pytest.approx(first["loss"], abs=1e-5)
        assert second["images"] == first["images"]
    first, second = (checkpoint.load_weights(output / "model.safetensors").tensors for output in (one, two))
    assert all(torch.equal(first[name] == 0, second[name] == 0) for name in first if ".mlp.fc" in name)


def test_two_processes_train_as_one_does(context, one_process, tmp_path):
    assert run_two_processes(context, tmp_path / "two") == [0, 0]
    check_equal_runs(one_process, tmp_path / "two")


def test_a_run_of_two_processes_that_was_stopped_within_an_epoch_ends_as_one_process(context, one_process, tmp_path):
    output = tmp_path / "run"
    assert run_two_processes(context, output, SignalAt(1, signal.SIGTERM)) == [128 + signal.SIGTERM] * 2
    assert (output / "checkpoints" / "epoch-0001-step-000001.safetensors").is_file()
    notes = SignalAt(-1, 0)
    train(recipe(output, **EXACT, batch_size=64), notes)  # the same command as before
    assert notes.lines[0] == "1 processes, 64 images each, 2 times per step"
    check_equal_runs(one_process, output)
