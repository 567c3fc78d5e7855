"""Export: the file decides by itself what the detector decides, and one that does not is refused."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from sw_anomaly.data.category import LabelledImage
from sw_anomaly.data.intensity import Intensity
from sw_anomaly.data.manifest import write_manifest
from sw_anomaly.data.splits import Protocol, Split
from sw_anomaly.detector import Detector, DetectorInfo
from sw_anomaly.export.onnx import OUTPUTS, _thresholds_by_rate, check_file, export_detector
from sw_anomaly.methods.ensemble import Ensemble
from sw_anomaly.methods.patch_bank import PatchBank
from sw_anomaly.methods.unet.method import IN_CHANNELS, UNetMethod
from sw_anomaly.methods.unet.networks import create_model
from sw_anomaly.metrics.thresholds import GoodScores
from sw_anomaly.preprocessing.pose import Crop
from sw_anomaly.preprocessing.view import View
from sw_models.errors import InputError

from conftest import draw_nail, refusal, save

SIZE = 64
INFO = DetectorInfo("nail", "bank", "none", Protocol(), 0, "", (), View(64), Intensity(), "off", 1.0, 1.0)
CROP = Crop(48, 32, 3, (210.0, 210.0, 210.0))


def decide(means, **changes):
    """A detector by these means; what a checkpoint says besides what export needs is left out."""
    info = {
        "category": "nail",
        "method": "unet+bank",
        "model": "swnano",
        "view": View(SIZE, CROP),
        "intensity": Intensity(),
        "good": None,
    }
    thresholds = {"image_threshold": 3.0, "pixel_threshold": 2.0}
    return Detector(means, SimpleNamespace(**{**info, **thresholds, **changes}))


@pytest.fixture(scope="module")
def detector():
    """A network with random weights whose maps reach from 0 to 1, and a bank, on parts that are aligned."""
    model = create_model("swnano", IN_CHANNELS, 0)
    model.head.weight.data *= 120
    model.head.bias.data.zero_()
    views = np.random.default_rng(0).integers(0, 256, (2, *View(SIZE, CROP).shape, 3), dtype=np.uint8)
    parts = {"unet": UNetMethod(model, views[0], SIZE), "bank": PatchBank.fit(views, SIZE, seed=0)}
    return decide(Ensemble(parts, np.array([0.5, 4], dtype=np.float32)))


@pytest.fixture(scope="module")
def exported(exporter, detector, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "nail.onnx"
    check = export_detector(detector, path, [draw_nail(1.2), draw_nail(4.0)[:, 9:]])
    assert (check.given, check.drawn) == (2, 6)
    return path


def assert_agreement(file, detector, images):
    import onnxruntime

    session = onnxruntime.InferenceSession(file)
    maps = []
    for image in images:
        score, score_map, is_defective, mask = session.run(OUTPUTS, {"image": image})
        wanted = detector.inspect(image)
        assert score == pytest.approx(wanted.score, rel=0.01)
        np.testing.assert_allclose(score_map, wanted.map, atol=0.01 * wanted.map.max())
        assert is_defective == (score >= detector.image_threshold)
        marked = score_map >= min(detector.pixel_threshold, score_map.max())
        np.testing.assert_array_equal(mask, marked if is_defective else np.zeros_like(marked))
        maps.append(score_map)
    return maps


def test_the_file_alone_decides_as_the_detector_does(detector, exported):
    images = [draw_nail(angle)[number:] for number, angle in enumerate((0.4, 2.9, 5.0))]
    for found in assert_agreement(exported, detector, [*images, np.zeros((40, 90, 3), dtype=np.uint8)]):
        assert found.min() < 0.1 * found.max()  # nothing is said of places outside the crop


def test_thresholds_may_be_given_and_pixels_follow_the_verdict(exported):
    import onnxruntime

    session = onnxruntime.InferenceSession(exported)
    image = draw_nail(2.0, mark=(10, 0))
    score, score_map, *_ = session.run(OUTPUTS, {"image": image})
    level = np.float32(np.quantile(score_map, 0.99))
    for image_threshold, pixel_threshold, marked in (
        (score, level, score_map >= level),
        (score, score_map.max() + 1, score_map == score_map.max()),
        (score + 1, level, np.zeros(score_map.shape, dtype=bool)),
    ):
        given = {
            "image_threshold": np.array(image_threshold, dtype=np.float32),
            "pixel_threshold": np.array(pixel_threshold, dtype=np.float32),
        }
        *_, is_defective, mask = session.run(OUTPUTS, {"image": image, **given})
        assert is_defective == (score >= image_threshold)
        np.testing.assert_array_equal(mask, marked)


def test_the_thresholds_of_rates_are_told_with_the_file():
    good = GoodScores(tuple(np.linspace(1, 2, 200)), tuple(np.linspace(2, 3, 200)), 200, 0.5)
    told = _thresholds_by_rate(Detector(None, replace(INFO, good=good)))
    assert list(told) == ["0.005", "0.01", "0.02", "0.05", "0.1"]
    for rate, thresholds in told.items():
        kept = Detector(None, replace(INFO, good=good)).keeping(float(rate))
        assert thresholds == {"image_threshold": kept.image_threshold, "pixel_threshold": kept.pixel_threshold}
    assert _thresholds_by_rate(Detector(None, INFO)) == {}


@pytest.mark.usefixtures("exporter")
def test_images_that_the_bank_remembers_agree_although_nothing_is_far_from_them(exporter, tmp_path):
    views = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), dtype=np.uint8)
    unaligned = {"view": View(SIZE), "method": "bank", "image_threshold": 10.0, "pixel_threshold": 10.0}
    detector = decide(PatchBank.fit(views, SIZE, seed=0), **unaligned)
    assert detector.inspect(views[0]).map.max() < 0.1
    check = export_detector(detector, tmp_path / "bank.onnx", list(views))
    assert check.given == 2


def test_images_that_are_not_aligned_are_scaled(tmp_path):
    views = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)
    bank = decide(PatchBank.fit(views[:2], SIZE, seed=0), method="bank", view=View(SIZE))
    assert export_detector(bank, tmp_path / "noise.onnx").drawn == 3
    assert_agreement(tmp_path / "noise.onnx", bank, [views[2], views[2, :50], draw_nail(1.0)])


def test_the_file_says_what_it_is(exported):
    import onnx

    properties = {one.key: one.value for one in onnx.load(exported).metadata_props}
    assert json.loads(properties["sw-anomaly"]) == {
        "category": "nail",
        "method": "unet+bank",
        "model": "swnano",
        "white": 255,
        "image_threshold": 3.0,
        "pixel_threshold": 2.0,
        "false_alarms": {},
    }


def test_a_file_that_disagrees_is_not_kept(detector, exported, tmp_path, monkeypatch):
    other = decide(detector.method, image_threshold=0.0, pixel_threshold=9.0)
    with pytest.raises(RuntimeError, match="do not follow the thresholds"):
        check_file(exported, other)
    monkeypatch.setattr("sw_anomaly.export.onnx._write", lambda *given: given[-1].write_bytes(exported.read_bytes()))
    with pytest.raises(RuntimeError):
        export_detector(other, tmp_path / "other.onnx")
    assert list(tmp_path.iterdir()) == []


def test_without_its_extra_it_says_what_to_install(detector, tmp_path, monkeypatch):
    monkeypatch.setattr("sw_anomaly.export.onnx.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"install sw-anomaly\[onnx\]"):
        export_detector(detector, tmp_path / "disc.onnx")
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_a_file_once(run, detector, exported, tmp_path, monkeypatch):
    monkeypatch.setattr("sw_anomaly.detector.load_detector", lambda path: detector)
    monkeypatch.setattr("sw_anomaly.export.onnx._write", lambda *given: given[-1].write_bytes(exported.read_bytes()))
    result = run("export", "any", tmp_path / "disc.onnx")
    assert result.exit_code == 0, result.output
    assert "agrees with the detector" in result.stdout
    assert "on 6 drawn images" in result.stdout
    paths = [save(tmp_path / "data" / "nail" / "train" / "good" / f"{n}.png", draw_nail(n)) for n in range(3)]
    images = tuple(LabelledImage(path, "good") for path in paths)
    write_manifest(tmp_path / "manifest.json", Split(images, (), ()), Protocol(), 0)
    result = run("export", tmp_path / "checkpoint.safetensors", tmp_path / "nail.onnx")
    assert "on 3 training images and 6 drawn ones" in result.stdout, result.output
    assert "already there" in refusal(run("export", "any", tmp_path / "disc.onnx"))
    assert "want a file in a folder that exists" in refusal(run("export", "any", tmp_path / "nowhere" / "disc.onnx"))
