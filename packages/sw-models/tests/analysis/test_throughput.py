import pytest

from sw_models.analysis.throughput import Setting, measure


def test_every_setting_is_measured_in_turns():
    settings = [Setting("shiftwise_pico", 2, "float32", "contiguous", train, "pytorch") for train in (False, True)]
    *_, (done, speeds) = measure(settings, size=32, turns=1)
    assert done == 4
    assert [speed.setting for speed in speeds] == settings
    for speed in speeds:
        assert speed.images_per_second == pytest.approx(2 * 1000 / speed.milliseconds)


def test_a_model_is_measured_as_a_file_too():
    pytest.importorskip("onnxruntime", reason="the extra sw-models[onnx] is not installed")
    setting = Setting("shiftwise_pico", 1, "float32", "contiguous", False, "onnxruntime")
    *_, (_, speeds) = measure([setting], size=32, turns=1)
    assert [speed.setting for speed in speeds] == [setting]
