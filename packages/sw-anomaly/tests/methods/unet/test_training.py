"""Training: reproducible, resumable, and blind to everything but the images it is given."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sw_anomaly.data.layouts import read_category
from sw_anomaly.data.manifest import digest
from sw_anomaly.data.splits import Protocol, make_split
from sw_anomaly.experiment.fit import fit
from sw_anomaly.methods.unet import training
from sw_anomaly.methods.unet.training import (
    CHECKPOINT,
    STATE,
    TrainingConfig,
    choose_image_size,
    is_unfinished,
    read_config,
    segmentation_loss,
)
from sw_models.errors import InputError


@pytest.fixture
def category(tiny_root):
    return read_category(tiny_root, "disc")


@pytest.fixture
def split(category):
    return make_split(category, Protocol(), 0)


@pytest.fixture
def config(category):
    return TrainingConfig("disc", digest(category.train), 64, epochs=2, steps_per_epoch=2, batch_size=4)


@pytest.fixture
def make_folder(tmp_path):
    def make(name):
        (tmp_path / name).mkdir()
        return tmp_path / name

    return make


def test_training_finds_defects_it_was_never_shown(category, split, config, make_folder):
    config = replace(config, epochs=3, steps_per_epoch=16, batch_size=8)
    monitored = []
    detector = fit(split, config, make_folder("run"), lambda what, *step: monitored.append((what, step)))
    scores = {image.path: detector.inspect(image.load()[0]).score for image in category.test}
    good = [scores[image.path] for image in category.test if image.is_good]
    bad = [scores[image.path] for image in category.test if not image.is_good]
    assert min(bad) > max(good)
    assert [step[:2] for what, step in monitored if what == "training"] == [(n, 48) for n in range(1, 49)]


def test_an_interrupted_training_continues_to_the_same_weights(split, config, make_folder):
    whole = fit(split, config, make_folder("whole"))

    def interrupt_in_the_second_epoch(what, done, total, note=""):
        if what == "training" and done == 3:
            raise KeyboardInterrupt

    folder = make_folder("broken")
    with pytest.raises(KeyboardInterrupt):
        fit(split, config, folder, interrupt_in_the_second_epoch)
    assert is_unfinished(folder)
    assert read_config(folder) == config
    steps = []
    continued = fit(
        split, config, folder, lambda what, done, total, note="": steps.append(done) if what == "training" else None
    )
    assert steps == [3, 4]
    assert not is_unfinished(folder)
    assert continued.info == whole.info
    for name, tensor in whole.method.state().items():
        torch.testing.assert_close(continued.method.state()[name], tensor, rtol=0, atol=0)


def test_training_neither_reads_test_images_nor_touches_global_generators(category, split, config, make_folder):
    hidden = replace(split, test=())
    for image in category.test:
        image.path.unlink()
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    fit(hidden, replace(config, epochs=1), make_folder("run"))
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.random.get_state()[1].tolist() == numpy_state  # noqa: NPY002


def test_a_folder_without_training_is_not_unfinished(tmp_path):
    assert not is_unfinished(tmp_path)
    assert read_config(tmp_path) is None
    (tmp_path / STATE).touch()
    (tmp_path / CHECKPOINT).touch()
    assert not is_unfinished(tmp_path)


def test_the_loss_falls_to_zero_for_sure_and_right_answers():
    masks = torch.zeros(2, 1, 32, 32)
    masks[0, :, 8:24, 8:24] = 1
    sure = 40 * (masks - 0.5)
    assert segmentation_loss(sure, masks) < 5e-3
    assert segmentation_loss(-sure, masks) > 1
    assert segmentation_loss(torch.full((2, 1, 16, 16), -20.0), torch.zeros(2, 1, 32, 32)) < 1e-3


def test_missing_a_small_defect_costs_as_much_dice_as_missing_a_large_one():
    masks = torch.zeros(2, 1, 64, 64)
    masks[0, :, :32, :32] = masks[1, :, :8, :8] = 1
    sure = 40 * (masks - 0.5)
    blind = torch.full((1, 1, 64, 64), -20.0)
    losses = []
    for missed in range(2):
        logits = sure.clone()
        logits[missed] = blind
        cross_entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, masks)
        losses.append(segmentation_loss(logits, masks) - cross_entropy)
    torch.testing.assert_close(losses[0], losses[1], atol=0.02, rtol=0)
    assert losses[0] > 0.45


def test_the_image_size_is_that_of_the_images_within_reason(category, tmp_path):
    from PIL import Image

    expected = {(64, 64): 64, (200, 150): 192, (1024, 1024): 320, (20, 30): 64}
    for size, chosen in expected.items():
        Image.new("RGB", size).save(tmp_path / "image.png")
        assert choose_image_size(replace(category.train[0], path=tmp_path / "image.png")) == chosen


def test_a_changed_byte_in_the_state_of_a_training_is_refused(tmp_path):
    path, device = tmp_path / "training_state.pt", torch.device("cpu")
    training.write_state({"epoch": 1, "weights": torch.arange(100.0)}, path)
    assert training.read_state(path, device)["weights"][99] == 99
    content = path.read_bytes()
    for place in (0, 3, 40, 80, len(content) // 2, len(content) - 30):
        changed = bytearray(content)
        changed[place] ^= 1
        path.write_bytes(changed)
        with pytest.raises(InputError, match=r"training_state\.pt is damaged"):
            training.read_state(path, device)


def test_the_state_of_a_training_by_an_earlier_version_is_read(tmp_path):
    torch.save({"epoch": 2}, tmp_path / "training_state.pt")
    assert training.read_state(tmp_path / "training_state.pt", torch.device("cpu")) == {"epoch": 2}
