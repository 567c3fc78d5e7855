import pytest
import timm

from sw_models.export import export_model


@pytest.mark.parametrize("form", ["onnx", "torchscript", "exported"])
def test_files_give_what_the_model_gives(form, tmp_path):
    if form == "onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    model = timm.create_model("shiftwise_pico", depths=(1, 1, 1, 1), dims=(8, 16, 16, 16), num_classes=3)
    assert export_model(model, tmp_path / "model", form, size=64) < 1e-4
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
