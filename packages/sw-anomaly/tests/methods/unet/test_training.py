"""Training: reproducible, resumable, and blind to everything but the images it is given."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sw_anomaly.config import CHECKPOINT, TrainingConfig, is_unfinished, read_config
from sw_anomaly.data.layouts import read_category
from sw_anomaly.data.manifest import digest
from sw_anomaly.data.splits import Protocol, make_split
from sw_anomaly.experiment.fit import fit
from sw_anomaly.methods.unet.training import STATE, segmentation_loss
from sw_models.errors import InputError


@pytest.fixture
def category(tiny_root):
    return read_category(tiny_root, "disc")


@pytest.fixture
def split(category):
    return make_split(category, Protocol(), 0)


@pytest.fixture
def config(category):
    return TrainingConfig("disc", digest(category.train), 64, epochs=2, steps_per_epoch=2, batch_size=4, threads=1)


@pytest.fixture
def make_folder(tmp_path):
    def make(name):
        (tmp_path / name).mkdir()
        return tmp_path / name

    return make


def interrupt_in_the_second_epoch(what, done, total, note=""):
    if what == "training" and done == 3:
        raise KeyboardInterrupt


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


def test_a_changed_byte_in_the_state_of_a_training_is_refused(split, config, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(split, config, tmp_path, interrupt_in_the_second_epoch)
    content = (tmp_path / STATE).read_bytes()
    for place in (0, 30, len(content) // 2, len(content) - 30):
        changed = bytearray(content)
        changed[place] ^= 1
        (tmp_path / STATE).write_bytes(changed)
        with pytest.raises(InputError, match=STATE):
            fit(split, config, tmp_path)
