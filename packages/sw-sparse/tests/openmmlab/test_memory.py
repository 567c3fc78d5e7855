import json
from dataclasses import replace

import pytest
import torch

pytest.importorskip("mmengine", reason="mmengine is not installed (extra openmmlab)")

from typer.testing import CliRunner

from sw_models.errors import InputError
from sw_sparse.openmmlab import memory, schedule
from sw_sparse.openmmlab.app import build_app
from sw_sparse.openmmlab.config import load_config
from sw_sparse.openmmlab.run_config import find_run_config, read_data

MB = 2**20


def test_bytes_are_counted_while_they_are_there():
    x = torch.zeros(1024, 256, requires_grad=True)  # 1 MB
    with memory.TensorBytes() as used:
        doubled = x * 2
        positive = doubled.relu()
        assert (used.now, used.peak) == (2 * MB, 2 * MB)
        same = positive.view(-1)
        assert (used.now, used.peak) == (2 * MB, 2 * MB)
        del doubled, positive
        assert used.now == MB  # what the gradient needs
        same.sum().backward()
        del same
        assert used.now == MB  # the gradient itself
    assert 3 * MB <= used.peak <= 4 * MB
    torch.zeros(1024, 256)
    assert used.now == MB


@pytest.fixture
def photographs(task, tmp_path):
    (tmp_path / "photographs").mkdir()
    return load_config(task, "toy", ["train_dataloader.dataset.side=96"], tmp_path / "photographs")


@pytest.mark.parametrize("images", [2.1, 3.9, 9, 70])
def test_the_largest_batch_fits_and_the_next_does_not(photographs, monkeypatch, images):
    """Two thirds of what is free hold so many images, by what eight of them take."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    each = (bytes_of(photographs, 8) - bytes_of(photographs, 4)) / 4
    monkeypatch.setattr(memory, "_free", lambda: images * each * 1.5)
    found = memory.largest_batch(photographs, most=1024)
    assert found & found - 1 == 0
    assert found <= images * 1.01
    assert 2 * found > images * 0.99
    assert memory.largest_batch(photographs, most=2) == 2


def bytes_of(cfg, count):
    """Train with a batch, and return the most bytes of its tensors."""
    dataset, model = memory.DATASETS.build(cfg.train_dataloader.dataset), memory.MODELS.build(cfg.model)
    images, targets = zip(*(dataset[number % len(dataset)].values() for number in range(count)), strict=True)
    with memory.TensorBytes() as used:
        model(torch.stack(images), torch.stack(targets), mode="loss")["loss"].backward()
    return used.peak


def test_a_batch_that_cannot_be_found_is_refused(task, photographs, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(memory, "_free", lambda: 100)
    with pytest.raises(InputError, match="--batch: not even two images fit into memory, each needs"):
        memory.largest_batch(photographs, most=8)
    with pytest.raises(InputError, match="--batch: auto wants --data"):
        memory.largest_batch(load_config(task, "toy_sample"), most=8)


def test_a_run_keeps_the_batch_that_it_found(task, tmp_path, monkeypatch):
    """Four times the batch that the learning rate is for, 2, where memory is no matter."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (tmp_path / "photographs").mkdir()
    command = ["train", "--data", "photographs", "--batch", "auto", "--epochs", "1", "--out", "run", "--json"]
    done = CliRunner().invoke(build_app(task), command)
    assert done.exit_code == 0, done.stderr
    assert "a batch of 8 images fits into memory" in done.stderr
    assert read_data(find_run_config(tmp_path / "run"))["train_dataloader"]["batch_size"] == 8
    monkeypatch.setattr(memory, "_free", lambda: 100)
    again = CliRunner().invoke(build_app(task), command)
    assert (again.exit_code, json.loads(again.stdout)) == (0, json.loads(done.stdout))


@pytest.mark.parametrize(("stated", "size"), [((), 96), (("--size", "64"), 64)])
def test_a_batch_is_found_at_the_size_that_is_trained_with(stated, size, task, tmp_path, monkeypatch):
    """That is the stated one, or the one that suits the data."""
    (tmp_path / "photographs").mkdir()
    sizes = []

    def adapt(cfg, folder):
        cfg.suited_size = 96
        return task.adapt_to_data(cfg, folder)

    def note_size(cfg, batch):
        sizes.append(cfg.get("side"))
        return 2

    monkeypatch.setattr(schedule, "use_size", lambda cfg, size: cfg.update(side=size))
    monkeypatch.setattr(schedule, "batch_size", note_size)
    command = ["train", "--data", "photographs", "--batch", "auto", *stated, "--epochs", "1", "--out", "run"]
    assert CliRunner().invoke(build_app(replace(task, adapt_to_data=adapt)), command).exit_code == 0
    assert sizes == [size]
    assert "suited_size" not in read_data(find_run_config(tmp_path / "run"))
