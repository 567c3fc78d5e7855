"""Scaling as one operator: Pillow in Python, and what onnxruntime makes of its node."""

import numpy as np
import pytest
import torch
from PIL import Image

from sw_anomaly.preprocessing.scaling import onnx_translations, scale_planes

HEIGHT, WIDTH = 90, 70  # of what is returned


class Scaling(torch.nn.Module):
    def forward(self, planes, wanted):
        extent = torch.stack([torch.scalar_tensor(side, dtype=torch.long) for side in planes.shape[1:]]) - 3
        return scale_planes(planes, extent, wanted, HEIGHT, WIDTH)


@pytest.fixture(scope="module", params=[np.uint8, np.float32])
def exported(request, exporter):
    import onnxruntime

    dtype = request.param
    example = torch.from_numpy(np.zeros((3, 50, 60), dtype)), torch.tensor([40, 30])
    sides = {1: torch.export.Dim("height", min=16, max=4096), 2: torch.export.Dim("width", min=16, max=4096)}
    program = torch.onnx.export(
        Scaling().eval(),
        example,
        dynamo=True,
        dynamic_shapes=(sides, None),
        custom_translation_table=onnx_translations(),
        verbose=False,
    )
    file = program.model_proto.SerializeToString()
    return dtype, onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("wanted", [(90, 70), (37, 61), (1, 1), (30, 35)])
@pytest.mark.parametrize("shape", [(93, 73), (33, 38), (200, 167), (63, 73), (23, 40), (19, 300)])
def test_a_file_scales_as_pillow_does(exported, shape, wanted):
    dtype, session = exported
    planes = np.random.default_rng(0).integers(0, 256, (3, *shape)).astype(dtype)
    names = [given.name for given in session.get_inputs()]
    found = session.run(None, dict(zip(names, (planes, np.array(wanted)), strict=True)))[0]
    by_operator = scale_planes(torch.from_numpy(planes), torch.tensor(shape) - 3, torch.tensor(wanted), HEIGHT, WIDTH)
    corner = planes[:, :-3, :-3]
    by_pillow = [Image.fromarray(one).resize(wanted[::-1], Image.Resampling.BILINEAR) for one in corner]
    expected = np.zeros((3, HEIGHT, WIDTH), dtype)
    expected[:, : wanted[0], : wanted[1]] = np.stack([np.array(one) for one in by_pillow])
    assert found.dtype == dtype
    np.testing.assert_array_equal(by_operator.numpy(), expected)
    np.testing.assert_allclose(found, expected, rtol=0, atol=0 if dtype == np.uint8 else 0.01)
