import json
import os

import pytest
import timm
import torch

import sw_ops
from sw_models.checkpoints.tensor_file import write_tensors
from sw_models.errors import InputError
from sw_models.export import FORMATS, Signature, export_model, write_checked


@pytest.fixture(scope="module")
def model():
    return timm.create_model("shiftwise_pico", depths=(1, 1, 1, 1), dims=(8, 16, 16, 16), num_classes=3)


def run_file(path, form, images):
    """Run a file without this package; return its output and the class names in it."""
    if form == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path)
        return torch.from_numpy(session.run(None, {"image": images.numpy()})[0]), (
            session.get_modelmeta().custom_metadata_map.get("classes")
        )
    extra = {"classes.json": ""}
    loaded = (
        torch.jit.load(path, _extra_files=extra)
        if form == "torchscript"
        else torch.export.load(path, extra_files=extra).module()
    )
    return loaded(images), extra["classes.json"]


@pytest.mark.parametrize("form", FORMATS)
def test_files_give_what_the_model_gives_and_name_its_classes(form, model, tmp_path):
    if form == "onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    path = tmp_path / {"onnx": "model.onnx", "torchscript": "model.pt", "exported": "model.pt2"}[form]
    before = os.umask(0o027)
    try:
        assert export_model(model, path, form, size=64, classes=["nut", "screw", "ä [m8]"]) < 1e-4
    finally:
        os.umask(before)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.stat().st_mode & 0o777 == 0o640
    images = torch.randn(2 if form == "torchscript" else 3, 3, 64, 64)
    found, classes = run_file(path, form, images)
    with torch.no_grad():
        expected = model.eval()(images)
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()
    assert json.loads(classes) == ["nut", "screw", "ä [m8]"]


def test_an_onnx_file_is_computed_by_the_kernels_where_their_library_is_loaded(model, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    if not hasattr(getattr(torch.onnx, "ops", None), "symbolic"):
        pytest.skip("nodes need torch 2.8")
    export_model(model, tmp_path / "model.onnx", "onnx", size=64)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.register_custom_ops_library(sw_ops.onnxruntime_library())
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", options, providers=["CPUExecutionProvider"])
    blocks = sum(node.domain == "sw_ops" for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    assert blocks == 2 * 4  # a stripe convolution and what follows it
    images = torch.randn(3, 3, 64, 64)
    (found,) = session.run(None, {"image": images.numpy()})
    with torch.no_grad():
        expected = timm.utils.reparameterize_model(model).eval()(images)
    assert (torch.from_numpy(found) - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("name", ["shiftwise_pico", "shiftwise_tiny_coordatt"])
@pytest.mark.parametrize("deployed", [False, True])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::torch.jit.TracerWarning")
def test_timms_own_exporter_takes_models(name, deployed, tmp_path):
    """What ``onnx_export.py``, with ``--reparam`` and without, does."""
    pytest.importorskip("onnxruntime")
    from timm.utils.onnx import onnx_export

    model = timm.create_model(name, depths=(1, 1, 1, 1), dims=(8, 16, 16, 16), num_classes=3, exportable=True)
    if deployed:
        model = timm.utils.reparameterize_model(model)
    file = str(tmp_path / "model.onnx")
    onnx_export(model, file, opset=18, input_size=(3, 64, 64), batch_size=2, check_forward=True)


def test_the_model_is_left_as_it_is(model, tmp_path):
    model.train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    export_model(model, tmp_path / "model.pt", "torchscript", size=64)
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_file_that_does_something_else_is_not_written(model, tmp_path):
    signature = Signature({"image": torch.ones(1, 3)}, ("logits",))
    with pytest.raises(InputError, match="model: the torchscript file differs from the model by inf, want less than"):
        write_checked(torch.nn.Linear(3, 2), signature, tmp_path / "x", "torchscript", lambda found: float("inf"))
    assert not list(tmp_path.iterdir())


def test_the_command_takes_the_class_names_from_the_weights(tmp_path):
    from typer.testing import CliRunner

    from sw_models.cli import app

    weights = timm.create_model("shiftwise_pico", num_classes=2).state_dict()
    write_tensors(tmp_path / "model.safetensors", weights, {"classes": '["nut", "screw"]'})
    arguments = ["--checkpoint", tmp_path / "model.safetensors", "--format", "torchscript", "--size", 32]
    result = CliRunner().invoke(app, [str(a) for a in ["export", "shiftwise_pico", tmp_path / "m.pt", *arguments]])
    assert result.exit_code == 0, result.output
    extra = {"classes.json": ""}
    torch.jit.load(tmp_path / "m.pt", _extra_files=extra)
    assert json.loads(extra["classes.json"]) == ["nut", "screw"]
