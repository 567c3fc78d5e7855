"""Export: the file decides by itself what the detector decides, and what cannot be exported is refused."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from sw_anomaly.dataset import load_image
from sw_anomaly.detector import TrainedDetector
from sw_anomaly.errors import InputError
from sw_anomaly.export import OUTPUTS, check_file, export_detector
from sw_anomaly.framing import Framing
from sw_anomaly.patchcore import PatchCore, create_backbone
from sw_anomaly.pose import Crop
from sw_anomaly.segmenter import IN_CHANNELS, Segmenter
from sw_anomaly.unet import create_model

from conftest import refusal

SIZE = 64


def decide(means, **changes):
    """A detector by these means; what a checkpoint says besides what export needs is left out."""
    info = {"category": "disc", "method": "unet", "model": "swnano", "framing": Framing(SIZE)}
    thresholds = {"image_threshold": 0.5, "pixel_threshold": 0.5}
    return TrainedDetector(means, SimpleNamespace(**{**info, **thresholds, **changes}))


@pytest.fixture(scope="module")
def detector():
    """A network with random weights whose maps reach from 0 to 1, and thresholds in the middle of what it says."""
    model = create_model("swnano", IN_CHANNELS, 0)
    model.head.weight.data *= 120
    model.head.bias.data.zero_()
    reference = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    return decide(Segmenter(model, reference, SIZE))


@pytest.fixture(scope="module")
def exporter():
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="the extra sw-anomaly[export] is not installed")


@pytest.fixture(scope="module")
def exported(exporter, detector, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "disc.onnx"
    check = export_detector(detector, path)
    assert check.images == 3
    return path


def test_the_file_alone_decides_as_the_detector_does(detector, exported, tiny_root):
    import onnxruntime

    session = onnxruntime.InferenceSession(exported)
    seen = []
    for path in sorted((tiny_root / "disc" / "test").rglob("*.png")):
        image = np.ascontiguousarray(load_image(path)[: 64 - 7 * len(seen)])  # sizes that the export did not see
        score, score_map, is_defective, mask = session.run(OUTPUTS, {"image": image})
        wanted = detector.inspect(image)
        assert score == pytest.approx(wanted.score, abs=0.01)
        np.testing.assert_allclose(score_map, wanted.map, atol=0.01)
        assert is_defective == (score >= 0.5)
        np.testing.assert_array_equal(mask, score_map >= 0.5)
        seen.append(score_map)
    assert max(one.max() for one in seen) - min(one.min() for one in seen) > 0.3  # not one answer to everything


@pytest.mark.usefixtures("exporter")
def test_a_memory_of_features_is_exported_too(tmp_path):
    views = np.random.default_rng(0).integers(0, 256, (4, SIZE, SIZE, 3), dtype=np.uint8)
    memory = PatchCore.fit(create_backbone("shiftwise_nano", None, 0), views, SIZE, 0)
    check = export_detector(decide(memory, method="patchcore", image_threshold=2.0), tmp_path / "disc.onnx")
    assert check.map < 0.01


def test_the_file_says_what_it_is(exported):
    import onnx

    properties = {one.key: one.value for one in onnx.load(exported).metadata_props}
    assert json.loads(properties["sw-anomaly"]) == {
        "category": "disc",
        "method": "unet",
        "model": "swnano",
        "image_threshold": 0.5,
        "pixel_threshold": 0.5,
    }


def test_a_file_that_disagrees_is_not_kept(detector, exported, tmp_path, monkeypatch):
    other = decide(detector.method, image_threshold=0.0, pixel_threshold=2.0)
    with pytest.raises(RuntimeError, match="do not follow the thresholds"):
        check_file(exported, other)
    monkeypatch.setattr("sw_anomaly.export._write", lambda *given: given[-1].write_bytes(exported.read_bytes()))
    with pytest.raises(RuntimeError):
        export_detector(other, tmp_path / "other.onnx")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported_is_refused(detector, tmp_path, monkeypatch):
    aligned = decide(detector.method, framing=Framing(SIZE, Crop(SIZE, SIZE, 2, (200.0, 200.0, 200.0))))
    with pytest.raises(InputError, match="train with --align off"):
        export_detector(aligned, tmp_path / "disc.onnx")
    with pytest.raises(InputError, match="'bank' cannot be exported"):
        export_detector(decide(object(), method="bank"), tmp_path / "disc.onnx")
    monkeypatch.setattr("sw_anomaly.export.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"install sw-anomaly\[export\]"):
        export_detector(detector, tmp_path / "disc.onnx")
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_a_file_once(run, detector, exported, tmp_path, monkeypatch):
    monkeypatch.setattr("sw_anomaly.methods.load_detector", lambda path: detector)
    monkeypatch.setattr("sw_anomaly.export._write", lambda *given: given[-1].write_bytes(exported.read_bytes()))
    result = run("export", "any", tmp_path / "disc.onnx")
    assert result.exit_code == 0, result.output
    assert "agrees with the detector" in result.stdout
    assert "already exists" in refusal(run("export", "any", tmp_path / "disc.onnx"))
    assert "is not a folder" in refusal(run("export", "any", tmp_path / "nowhere" / "disc.onnx"))
