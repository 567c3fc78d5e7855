import pytest
import torch

from sw_seg.export import NormalisedSegmenter, export
from sw_seg.task import TASK
from sw_sparse.openmmlab.config import load_config

from conftest import SMALL


@pytest.fixture(scope="module")
def segmenter():
    from sw_sparse.openmmlab.checkpoint import load_model

    torch.manual_seed(0)
    return load_model(load_config(TASK, "upernet_nano_shapes", SMALL))


def test_the_file_does_what_the_model_does(segmenter, tmp_path):
    assert export(segmenter, tmp_path / "model.onnx", "onnx", 64) < 1e-3
    assert (tmp_path / "model.onnx").stat().st_size > 1000


def test_scores_are_the_segmenters_own(segmenter):
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = segmenter.encode_decode(images, [{"img_shape": (64, 64)}])
        assert torch.allclose(NormalisedSegmenter(segmenter)(images), expected, atol=1e-5)
