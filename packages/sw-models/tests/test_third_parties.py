"""Libraries that build their networks on timm take ours unchanged; ``make test-third-parties`` installs them."""

import pytest
import timm
import torch
from timm.utils import reparameterize_model

import sw_models  # noqa: F401 - registers the models


def test_segmentation_models_pytorch_builds_a_unet(seeded):
    smp = pytest.importorskip("segmentation_models_pytorch", reason="segmentation_models_pytorch is not installed")
    model = smp.Unet("tu-shiftwise_nano", encoder_weights=None, classes=3)
    logits = model(torch.randn(2, 3, 64, 96))
    assert logits.shape == (2, 3, 64, 96)
    logits.square().mean().backward()
    assert all(p.grad is not None for p in model.encoder.model.stages_3.parameters())


def test_anomalib_extracts_features(seeded):
    components = pytest.importorskip("anomalib.models.components", reason="anomalib is not installed")
    layers = ["stages.1", "stages.2"]
    extractor = components.TimmFeatureExtractor("shiftwise_nano", layers, pre_trained=False)
    maps = extractor(torch.randn(2, 3, 64, 64))
    assert {name: tuple(maps[name].shape) for name in layers} == {"stages.1": (2, 48, 8, 8), "stages.2": (2, 96, 4, 4)}


def test_anomalib_runs_patchcore(seeded):
    patchcore = pytest.importorskip("anomalib.models.image.patchcore.torch_model", reason="anomalib is not installed")
    model = patchcore.PatchcoreModel(["stages.1", "stages.2"], backbone="shiftwise_nano", pre_trained=False)
    model.train()(torch.randn(4, 3, 64, 64))
    model.subsample_embedding(0.5)
    found = model.eval()(torch.randn(2, 3, 64, 64))
    assert found.anomaly_map.shape[-2:] == (64, 64)


@pytest.mark.parametrize("deployed", [False, True])
@torch.no_grad()
def test_openvino_converts_models(deployed, seeded):
    openvino = pytest.importorskip("openvino", reason="openvino is not installed")
    model = timm.create_model("shiftwise_pico", num_classes=3).eval()
    if deployed:
        model = reparameterize_model(model)
    images = torch.randn(2, 3, 64, 64)
    converted = openvino.convert_model(model, example_input=images)
    compiled = openvino.Core().compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    torch.testing.assert_close(torch.from_numpy(compiled(images.numpy())[0]), model(images), rtol=1e-4, atol=1e-4)
