"""A detector says the same after saving and loading, whatever the image's size, and knows foreign files."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sw_anomaly.data.intensity import Intensity
from sw_anomaly.data.splits import Protocol
from sw_anomaly.detector import FORMAT, Detector, DetectorInfo, load_detector, read_info
from sw_anomaly.methods.base import HeatMethod, score
from sw_anomaly.methods.calibration import Case, combine
from sw_anomaly.methods.patch_bank import PatchBank
from sw_anomaly.metrics.thresholds import GoodScores
from sw_anomaly.preprocessing.pose import Crop
from sw_anomaly.preprocessing.view import View
from sw_models.errors import InputError

VIEW = View(100, Crop(96, 48, 3, (200.0, 201.0, 202.0)))


def describe(view):
    return DetectorInfo(
        category="disc",
        method="bank",
        model="none",
        protocol=Protocol("supervised", 4, "dent"),
        seed=3,
        training_images="digest",
        seen=("a", "b"),
        view=view,
        intensity=Intensity(1023.0),
        alignment="why",
        image_threshold=0.4,
        pixel_threshold=0.6,
        good=GoodScores((0.1, 0.3, 0.2), (0.2, 0.5, 0.4), 2, 0.05),
    )


class Bright(HeatMethod):
    """Calls what is bright defective."""

    def __init__(self, image_size=128):
        super().__init__()
        self.image_size = image_size
        self.nothing = torch.nn.Buffer(torch.zeros(1))

    def heat(self, view):
        return view.mean(dim=1, keepdim=True) / 255

    describe = heat


def test_equal_detectors_give_equal_files(tmp_path):
    files = set()
    for number in range(8):  # three keys in an order drawn anew would be the same eight times in 6^7 cases
        path = tmp_path / f"{number}.safetensors"
        Detector(Bright(), describe(View(128))).save(path)
        files.add(path.read_bytes())
        assert read_info(path) == describe(View(128))
    assert len(files) == 1


@pytest.mark.parametrize("size", [(64, 64), (50, 90), (200, 130)])
def test_maps_lie_over_the_image_whatever_its_size(size):
    image = np.zeros((*size, 3), dtype=np.uint8)
    top, left, bottom, right = size[0] // 4, size[1] // 2, size[0] // 2, 3 * size[1] // 4
    image[top:bottom, left:right] = 255
    detector = Detector(Bright(), describe(View(128)))
    inspection = detector.inspect(image)
    assert inspection.map.shape == size
    assert inspection.map.dtype == np.float32
    found = np.argwhere(inspection.map > 0.5)
    assert found.min(axis=0) == pytest.approx([top, left], abs=1)
    assert found.max(axis=0) == pytest.approx([bottom - 1, right - 1], abs=1)
    assert inspection.score == pytest.approx(1, abs=1e-6)
    assert detector.inspect(np.zeros_like(image)).score == 0


def test_the_score_is_the_mean_of_the_highest_pixels():
    heat = torch.rand(300, 200, generator=torch.Generator().manual_seed(0))
    assert score(heat, 200).item() == pytest.approx(heat.flatten().sort().values[-20:].mean().item())
    assert score(heat[:3, :3], 200).item() == pytest.approx(heat[:3, :3].mean().item())  # fewer than are to be averaged
    assert score(heat, 8) == heat.max()


def test_thresholds_separate_what_can_be_separated():
    good, bad = np.full((8, 8, 3), 50, dtype=np.uint8), np.full((8, 8, 3), 50, dtype=np.uint8)
    mask = np.zeros((8, 8), dtype=bool)
    bad[2:4, 2:4], mask[2:4, 2:4] = 200, True
    _, thresholds = combine({"bright": Bright(8)}, good[None], 1, [Case(bad, mask, 0)])
    assert 50 / 255 < thresholds.image < 200 / 255
    assert 50 / 255 < thresholds.pixel < 200 / 255
    assert thresholds.good.scores == pytest.approx((50 / 255,))
    assert (thresholds.good.held_out, thresholds.good.level) == (1, pytest.approx(50 / 255))


@pytest.mark.parametrize(("origin", "strength"), [(0, 0.5), (None, 1.0)])
def test_real_defects_may_be_half_as_strong_as_drawn_ones(origin, strength):
    """The threshold of pixels is halfway between good ones and these; of what is known to be real all counts."""
    good, bad = np.full((8, 8, 3), 50, dtype=np.uint8), np.full((8, 8, 3), 50, dtype=np.uint8)
    mask = np.zeros((8, 8), dtype=bool)
    bad[2:4, 2:4], mask[2:4, 2:4] = 200, True
    _, thresholds = combine({"bright": Bright(8)}, good[None], 1, [Case(bad, mask, origin)])
    assert thresholds.pixel == pytest.approx((50 + strength * 150 / 2) / 255)


@pytest.mark.parametrize("view", [View(64), VIEW])
def test_all_that_a_checkpoint_says_is_read_again(tmp_path, view):
    info = describe(view)
    Detector(Bright(), info).save(tmp_path / "checkpoint.safetensors")
    assert read_info(tmp_path / "checkpoint.safetensors") == info
    assert list(load_file(tmp_path / "checkpoint.safetensors")) == ["nothing"]


def test_other_rates_of_false_alarms_follow_from_what_the_checkpoint_holds(tmp_path):
    scores = tuple(np.linspace(0, 1, 200).tolist())
    info = replace(describe(View(64)), good=GoodScores(scores, tuple(2 * score for score in scores), 200, 0.0))
    Detector(Bright(), info).save(tmp_path / "checkpoint.safetensors")
    detector = Detector(Bright(), read_info(tmp_path / "checkpoint.safetensors"))
    strict, loose = detector.keeping(0.01), detector.keeping(0.3)
    assert strict.image_threshold > 1 > loose.image_threshold > 0.7
    assert loose.pixel_threshold == pytest.approx(2 * loose.image_threshold, rel=1e-6)
    assert "0 of 200 held-out good images reach the threshold: at most 1.1 % false" in strict.promise(0.01)
    assert "1 % takes 230 held-out images" in strict.promise(0.01)
    assert "takes" not in loose.promise(0.3)
    with pytest.raises(InputError, match="--false-alarms: got 2, want a rate above 0"):
        detector.keeping(2)
    with pytest.raises(InputError, match="holds no scores; train again"):
        Detector(Bright(), replace(info, good=None)).keeping(0.1)


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(InputError, match=r"gone\.safetensors is not a file"):
        read_info(tmp_path / "gone.safetensors")


def test_a_file_of_another_kind_is_named(tmp_path):
    (tmp_path / "model.pth").write_bytes(b"PK\x03\x04 something else entirely")
    with pytest.raises(InputError, match=r"model\.pth is not a safetensors file"):
        read_info(tmp_path / "model.pth")


@pytest.mark.parametrize("metadata", [None, {"format": "theirs"}, {"format": FORMAT[:-1] + "1"}])
def test_a_safetensors_file_of_another_program_or_version_is_named(tmp_path, metadata):
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors", metadata)
    with pytest.raises(InputError, match=r"other\.safetensors holds something else.*want a checkpoint"):
        read_info(tmp_path / "other.safetensors")


def save_bank(path):
    views = np.random.default_rng(0).integers(0, 256, (2, 24, 20, 3), dtype=np.uint8)
    bank = PatchBank(torch.ones(40, 3, 17, 17), torch.ones(2, 12, 10, 40, dtype=torch.float16), 24)
    assert bank.inspect(views[0]).score > 0
    Detector(bank, describe(View(24))).save(path)
    return path


def test_a_changed_byte_is_refused_wherever_it_is(tmp_path):
    path = save_bank(tmp_path / "checkpoint.safetensors")
    content = path.read_bytes()
    load_detector(path)
    for place in (*range(8, 2000, 97), len(content) // 2, len(content) - 1):
        changed = bytearray(content)
        changed[place] ^= 1
        path.write_bytes(changed)
        with pytest.raises(InputError, match=r"checkpoint\.safetensors"):
            load_detector(path)


def test_a_score_that_is_not_finite_is_an_error():
    broken = Bright()
    broken.heat = lambda view: view.mean(dim=1, keepdim=True) * torch.nan
    with pytest.raises(InputError, match="score: got nan"):
        broken.inspect(np.zeros((8, 8, 3), dtype=np.uint8))


def test_a_checkpoint_with_values_that_are_not_finite_is_refused(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    filters = torch.ones(40, 3, 17, 17)
    filters[0, 0, 0, 0] = torch.nan
    Detector(PatchBank(filters, torch.ones(2, 12, 10, 40).half(), 24), describe(View(24))).save(path)
    with pytest.raises(InputError, match="not finite in 'filters'"):
        load_detector(path)
